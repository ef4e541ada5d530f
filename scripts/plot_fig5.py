"""Figure 5 (v1 and v2): accuracy of the baseline, without the tokens that contrastive estimation
finds, and of cDPO.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.reporting import estimates
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--cells", nargs="+", required=True, help="model:dataset, in the order of the files")
    parser.add_argument("--excluded", type=Path, nargs="+", required=True)
    parser.add_argument("--method", required=True, help="the method beside the baseline")
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="its evaluations")
    parser.add_argument("--data", type=Path, required=True, help="the bars, CSV")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import canvas, figures

    rows = []
    for cell, excluded, path in zip(args.cells, args.excluded, args.metrics, strict=True):
        model, dataset = cell.split(":")
        metrics = records.read_numbers(path, ["n", "correct"])
        table = records.read_table(excluded, "replacement")
        # Answers without a token are wrong in both.
        right = {
            arm: {r["problem_id"] for r in table if r["arm"] == arm and r["correct"]} for arm in ("kept", "excluded")
        }
        p = estimates.mcnemar_exact(len(right["excluded"] - right["kept"]), len(right["kept"] - right["excluded"]))
        named = {
            "with critical tokens": (len(right["kept"]), None),
            "critical tokens excluded": (len(right["excluded"]), p),  # McNemar's, against those with them
            args.method: (metrics["correct"], None),
        }
        for condition, (correct, p_value) in named.items():
            low, high = estimates.wilson_interval(correct, metrics["n"])
            rows.append({
                "model": model, "dataset": dataset, "condition": condition, "n": metrics["n"],
                "accuracy": 100 * correct / metrics["n"], "low": 100 * low, "high": 100 * high, "p": p_value,
            })  # fmt: skip
    table = pd.DataFrame(rows)
    records.write_csv(args.data, table)
    canvas.save(figures.excluded_figure(table), args.output)


if __name__ == "__main__":
    command_line.run(main)
