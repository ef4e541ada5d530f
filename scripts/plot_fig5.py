"""Figure 5 (v1 and v2): accuracy of the baseline, without the tokens that contrastive estimation
finds, and of cDPO.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from critical_tokens.core import records
from critical_tokens.reporting import estimates
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--excluded", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--metrics",
        type=Path,
        nargs="+",
        required=True,
        help="evaluations of the method beside the baseline, of the same cells",
    )
    parser.add_argument("--data", type=Path, required=True, help="the bars, CSV")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import canvas, figures

    rows = []
    evaluations = {(run["model"], run["dataset"]): run for run in map(_evaluation, args.metrics)}
    for excluded in args.excluded:
        cell = records.read_about(excluded, ("model", "dataset"))
        run = evaluations[cell["model"], cell["dataset"]]
        table = records.read_table(excluded, "replacement")
        # Answers without a token are wrong in both.
        right = {
            arm: {r["problem_id"] for r in table if r["arm"] == arm and r["correct"]} for arm in ("kept", "excluded")
        }
        p = estimates.mcnemar_exact(len(right["excluded"] - right["kept"]), len(right["kept"] - right["excluded"]))
        named = {
            "with critical tokens": (len(right["kept"]), None),
            "critical tokens excluded": (len(right["excluded"]), p),  # McNemar's, against those with them
            run["method"]: (run["correct"], None),
        }
        for condition, (correct, p_value) in named.items():
            low, high = estimates.wilson_interval(correct, run["n"])
            rows.append({
                "model": run["model"], "dataset": run["dataset"], "condition": condition, "n": run["n"],
                "accuracy": 100 * correct / run["n"], "low": 100 * low, "high": 100 * high, "p": p_value,
            })  # fmt: skip
    table = pd.DataFrame(rows)
    records.write_csv(args.data, table)
    canvas.save(figures.excluded_figure(table), args.output)


def _evaluation(path: Path) -> dict[str, Any]:
    """The names and the counts of an evaluation."""
    return records.read_object(path, ("model", "dataset", "method")) | records.read_numbers(path, ["n", "correct"])


if __name__ == "__main__":
    command_line.run(main)
