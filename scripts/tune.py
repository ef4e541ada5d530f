"""Validation accuracy of every method at every learning rate of the search, by cell and on average."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--metrics", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    rows = []
    for path in args.metrics:
        run = records.read_object(path, ("model", "dataset", "tuned", "learning_rate", "seed"))
        rows.append(
            {
                "method": run["tuned"],
                "learning_rate": float(run["learning_rate"]),
                "cell": f"{run['model']} {run['dataset']}",
                "seed": int(run["seed"]),
                "accuracy": 100 * records.read_numbers(path, ["accuracy"])["accuracy"],
            }
        )
    table = pd.DataFrame(rows).pivot_table(
        index=["method", "learning_rate"], columns="cell", values="accuracy", sort=False
    )
    table["mean"] = table.mean(axis=1)
    table["best"] = table["mean"] == table.groupby("method")["mean"].transform("max")
    records.write_csv(args.output, table.reset_index())


if __name__ == "__main__":
    command_line.run(main)
