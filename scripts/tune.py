"""Validation accuracy of every method at every learning rate of the search, by cell and on average."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--runs", nargs="+", required=True, help="model:dataset:method-lrRATE:seed, in the order of --metrics"
    )
    parser.add_argument("--metrics", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    rows = []
    for run, path in zip(args.runs, args.metrics, strict=True):
        model, dataset, name, seed = run.split(":")
        method, rate = name.rsplit("-lr", 1)
        accuracy = 100 * records.read_numbers(path, ["accuracy"])["accuracy"]
        cell = f"{model} {dataset}"
        rows.append(
            {"method": method, "learning_rate": float(rate), "cell": cell, "seed": int(seed), "accuracy": accuracy}
        )
    table = pd.DataFrame(rows).pivot_table(
        index=["method", "learning_rate"], columns="cell", values="accuracy", sort=False
    )
    table["mean"] = table.mean(axis=1)
    table["best"] = table["mean"] == table.groupby("method")["mean"].transform("max")
    records.write_csv(args.output, table.reset_index())


if __name__ == "__main__":
    command_line.run(main)
