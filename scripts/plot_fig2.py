"""Figure 2: pass@k of incorrect trajectories with their critical token kept and replaced."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import cli, records, statistics


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--cells", nargs="+", required=True, help="model:dataset, in the order of --replacements")
    parser.add_argument("--replacements", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True, help="the curves, CSV")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens import plots

    rows = []
    for cell, path in zip(args.cells, args.replacements, strict=True):
        model, dataset = cell.split(":")
        table = records.read_frame(path, "replacement")
        if table.empty:
            raise records.ArtifactError(f"{path}: no trajectory had a critical token to replace")
        for arm, of_arm in table.groupby("arm", sort=True):
            counts = of_arm.groupby("problem_id")["correct"].agg(["sum", "size"])
            for k in range(1, int(counts["size"].min()) + 1):
                values = [statistics.pass_at_k(int(n), int(c), k) for c, n in counts.to_numpy()]
                low, high = statistics.mean_interval(values)
                rows.append({
                    "model": model, "dataset": dataset, "arm": arm, "k": k, "trajectories": len(values),
                    "pass_at_k": sum(values) / len(values), "low": low, "high": high,
                })  # fmt: skip
    curves = pd.DataFrame(rows)
    records.write_csv(args.data, curves)
    plots.save(plots.pass_at_k_figure(curves), args.output)


if __name__ == "__main__":
    cli.run(main)
