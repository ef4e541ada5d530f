"""Summarise the accuracy of methods at several temperatures (ICML's Table 5, for more methods).

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
    parser.add_argument(
        "--data", type=Path, required=True, help="table with a row per method, cell and temperature, CSV"
    )
    parser.add_argument("--output", type=Path, required=True, help="the figure, PDF; a PNG is written beside it")
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import canvas, study_figures

    by_temperature: dict[float, list[study_summaries.Evaluation]] = {}
    for path in args.grades:
        temperature = float(records.read_about(path, ("temperature",))["temperature"])
        by_temperature.setdefault(temperature, []).append(study_summaries.read_evaluation(path))
    rows = [
        {"temperature": temperature} | row
        for temperature, runs in sorted(by_temperature.items())
        for row in study_summaries.summary_rows(runs)
    ]
    table = pd.DataFrame(rows)
    records.write_csv(args.data, table)
    canvas.save(study_figures.temperature_figure(table), args.output)


if __name__ == "__main__":
    command_line.run(main)
