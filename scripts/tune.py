"""Summarise the search over learning rates: validation accuracies by method and learning rate."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="metrics of validations, JSON")
    parser.add_argument("--output", type=Path, required=True, help="a row per method and learning rate, CSV")
    args = parser.parse_args()

    from critical_tokens.reporting import study_summaries

    runs = []
    for path in args.metrics:
        run = records.read_object(path, ("model", "dataset", "tuned", "learning_rate"))
        runs.append({
            "model": run["model"],
            "dataset": run["dataset"],
            "method": run["tuned"],
            "learning_rate": float(run["learning_rate"]),
            "accuracy": records.read_numbers(path, ["accuracy"])["accuracy"],
        })  # fmt: skip
    records.write_csv(args.output, study_summaries.tuning_table(runs))


if __name__ == "__main__":
    command_line.run(main)
