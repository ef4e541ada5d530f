"""Draw Figure 5 (v1 and v2): accuracy of the baseline, with and without critical tokens.

The third bar is the accuracy of a trained method.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--excluded", type=Path, nargs="+", required=True, help="tables that exclude_critical.py wrote, one per cell"
    )
    parser.add_argument(
        "--metrics",
        type=Path,
        nargs="+",
        required=True,
        help="metrics of the trained method, one file per cell, JSON",
    )
    parser.add_argument("--data", type=Path, required=True, help="the bars, CSV")
    parser.add_argument("--output", type=Path, required=True, help="the figure, PDF; a PNG is written beside it")
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import canvas, figures, study_summaries

    evaluations = {(run["model"], run["dataset"]): run for run in map(_evaluation, args.metrics)}
    rows = []
    for path in args.excluded:
        cell = records.read_about(path, ("model", "dataset"))
        run = evaluations[cell["model"], cell["dataset"]]
        rows += study_summaries.exclusion_bars(records.read_table(path, "replacement"), run)
    table = pd.DataFrame(rows)
    records.write_csv(args.data, table)
    canvas.save(figures.excluded_figure(table), args.output)


def _evaluation(path: Path) -> dict[str, Any]:
    """Model, dataset, method, n and correct of an evaluation."""
    return records.read_object(path, ("model", "dataset", "method")) | records.read_numbers(path, ["n", "correct"])


if __name__ == "__main__":
    command_line.run(main)
