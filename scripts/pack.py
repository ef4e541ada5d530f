"""Package a cell: its problems, tables and adapters in one file with their checksums."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.data import packages, provenance
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--files", type=Path, nargs="+", required=True)
    parser.add_argument("--model-name", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--output", type=Path, required=True, help="RESULTS/packages/MODEL/DATASET.tar")
    args = parser.parse_args()
    run = provenance.Run("pack", args)
    facts = {"model": args.model_name, "dataset": args.dataset}
    run.describe(args.output, files=packages.pack(args.output.parents[2], args.files, args.output, facts))


if __name__ == "__main__":
    command_line.run(main)
