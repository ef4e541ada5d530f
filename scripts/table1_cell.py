"""Write the rows of Table 1 for one cell, from the metrics of its methods and seeds."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="metrics of evaluations, JSON")
    parser.add_argument("--published", type=Path, required=True, help="the paper's numbers, CSV")
    parser.add_argument("--version", required=True, help="version of the paper whose numbers are shown")
    parser.add_argument("--output", type=Path, required=True, help="a row per method and seed, CSV")
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import table1

    reported = table1.read_reported(args.published, args.version)
    rows = []
    for path in args.metrics:
        run = records.read_object(path, ("model", "dataset", "method", "start", "seed"))
        metrics = records.read_numbers(path, ["n", "correct", "accuracy", "low", "high"])
        rows.append(table1.cell_row(run, metrics, reported, args.version))
    records.write_csv(args.output, pd.DataFrame(rows, columns=list(table1.COLUMNS)))


if __name__ == "__main__":
    command_line.run(main)
