"""Compare critical tokens with first wrong tokens, by kind of error and kind of word.

The result has the numbers of v3's Tables 1 and 2.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.models import checkpoints
from critical_tokens.rollouts import words
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    command_line.add_tables(parser, "pairs", "critical")
    parser.add_argument("--output", type=Path, required=True, help="a row per kind of error, CSV")
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import agreement

    tokenizer = checkpoints.load_tokenizer(sampling_arguments.model_source(args))
    rejected = records.read_by_problem(args.pairs, "pairs", "rejected")
    critical = records.read_table(args.critical, "critical")
    kinds = words.critical_kinds(critical, rejected, tokenizer)
    cell = records.read_about(args.pairs, ("model", "dataset"))
    rows = [
        {"model": cell["model"], "dataset": cell["dataset"], **row} for row in agreement.kinds_rows(critical, kinds)
    ]
    records.write_csv(args.output, pd.DataFrame(rows))


if __name__ == "__main__":
    command_line.run(main)
