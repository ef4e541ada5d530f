"""Accuracy over the temperature of evaluation (ICML's Table 5, for more methods): a table and a figure."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import cli, records, studies


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--runs", nargs="+", required=True, help="model:dataset:method:seed:temperature, in the order of --grades"
    )
    parser.add_argument("--grades", type=Path, nargs="+", required=True, help="graded evaluations")
    parser.add_argument("--data", type=Path, required=True, help="a row per method, cell and temperature, CSV")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens import plots

    by_temperature: dict[float, list[studies.Evaluation]] = {}
    for run, path in zip(args.runs, args.grades, strict=True):
        *names, temperature = run.split(":")
        by_temperature.setdefault(float(temperature), []).append(studies.read_evaluation(*names, path))
    rows = [
        {"temperature": temperature} | row
        for temperature, runs in sorted(by_temperature.items())
        for row in studies.summary_rows(runs)
    ]
    table = pd.DataFrame(rows)
    records.write_csv(args.data, table)
    plots.save(plots.temperature_figure(table), args.output)


if __name__ == "__main__":
    cli.run(main)
