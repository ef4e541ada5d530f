"""Pack a cell into one file: its problems, tables and adapters, with their checksums."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance
from critical_tokens.data import packages
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--files", type=Path, nargs="+", required=True, help="files of the cell, below the results")
    parser.add_argument("--model-name", required=True, help="name of the model in the config")
    parser.add_argument("--dataset", required=True, help="name of the dataset in the config")
    parser.add_argument("--output", type=Path, required=True, help="the package, RESULTS/packages/MODEL/DATASET.tar")
    args = parser.parse_args()
    run = provenance.Run("pack", args)
    facts = {"model": args.model_name, "dataset": args.dataset}
    run.describe(args.output, files=packages.pack(args.output.parents[2], args.files, args.output, facts))


if __name__ == "__main__":
    command_line.run(main)
