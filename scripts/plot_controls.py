"""The controls: what cDPO's accuracy owes to where its weights come from, over seeds. A table of means and a figure."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import cli, records


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--runs", nargs="+", required=True, help="model:dataset:method:seed, in the order of --metrics")
    parser.add_argument("--metrics", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True, help="a row per method and cell, CSV")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens import plots

    rows = []
    for run, path in zip(args.runs, args.metrics, strict=True):
        model, dataset, method, seed = run.split(":")
        accuracy = 100 * records.read_json(path)["accuracy"]
        rows.append({"model": model, "dataset": dataset, "method": method, "seed": int(seed), "accuracy": accuracy})
    table = pd.DataFrame(rows)
    groups = table.groupby(["model", "dataset", "method"], sort=False)["accuracy"]
    summary = groups.agg(seeds="count", mean="mean", deviation="std", lowest="min", highest="max").reset_index()
    records.write_csv(args.data, summary)
    plots.save(plots.controls_figure(table), args.output)


if __name__ == "__main__":
    cli.run(main)
