"""Summarise a study: the accuracy of methods over seeds, and their gaps to one of them.

It writes a table and a figure.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.reporting import study_summaries
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--grades", type=Path, nargs="+", required=True, help="tables of graded evaluations, Parquet")
    parser.add_argument("--against", required=True, help="method that the others are compared with")
    parser.add_argument("--data", type=Path, required=True, help="table with a row per method and cell, CSV")
    parser.add_argument("--output", type=Path, required=True, help="the figure, PDF; a PNG is written beside it")
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import canvas, study_figures

    runs = [study_summaries.read_evaluation(path) for path in args.grades]
    summary = pd.DataFrame(study_summaries.summary_rows(runs, args.against))
    records.write_csv(args.data, summary)
    seeds = pd.DataFrame([vars(run) | {"accuracy": run.accuracy} for run in runs])
    canvas.save(study_figures.study_figure(summary, seeds, args.against), args.output)


if __name__ == "__main__":
    command_line.run(main)
