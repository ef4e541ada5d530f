"""Test the differences between the methods of a cell.

The tests are exact McNemar tests, corrected by Holm's procedure, with paired bootstrap intervals.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import batches, records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--grades", type=Path, nargs="+", required=True, help="tables of graded evaluations, Parquet")
    parser.add_argument("--output", type=Path, required=True, help="a row per comparison of two methods, CSV")
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import table1

    verdicts: dict[int, dict[str, dict[str, bool]]] = {}
    for path in args.grades:
        about = records.read_about(path, ("model", "dataset", "method", "seed"))
        rows = batches.read_rows(path, "grades", ("problem_id", "correct"))
        verdicts.setdefault(int(about["seed"]), {})[about["method"]] = {r["problem_id"]: r["correct"] for r in rows}
    frame = pd.DataFrame(table1.significance_rows(verdicts))
    frame.insert(0, "dataset", about["dataset"])
    frame.insert(0, "model", about["model"])
    records.write_csv(args.output, frame)


if __name__ == "__main__":
    command_line.run(main)
