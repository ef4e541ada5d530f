"""Find critical tokens with other thresholds and with fewer rollouts per token.

Fewer rollouts are random subsets of all rollouts of a token, drawn for each token separately.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import batches, records
from critical_tokens.rollouts import critical
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--rollouts", type=Path, nargs="+", required=True, help="tables of rollout scores, Parquet")
    parser.add_argument("--critical", type=Path, nargs="+", required=True, help="tables of critical tokens, Parquet")
    parser.add_argument(
        "--later-below",
        type=float,
        nargs="+",
        required=True,
        help="thresholds that every score after a critical token must be below",
    )
    parser.add_argument("--samples", type=int, nargs="+", required=True, help="numbers of rollouts per token")
    parser.add_argument(
        "--subsamples", type=int, required=True, help="number of subsets that results are averaged over"
    )
    parser.add_argument("--seed", type=int, required=True, help="seed of the subsets")
    parser.add_argument("--data", type=Path, required=True, help="table with a row per cell and rule, CSV")
    parser.add_argument("--output", type=Path, required=True, help="the figure, PDF; a PNG is written beside it")
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import canvas, study_figures

    rows = []
    names = ("model", "dataset")
    critical_of = {tuple(records.read_about(path, names)[name] for name in names): path for path in args.critical}
    for rollouts in args.rollouts:
        cell = records.read_about(rollouts, names)
        found = critical_of[cell["model"], cell["dataset"]]
        truth = records.read_by_problem(found, "critical", "first_wrong")
        scored = batches.read_problems(rollouts, "rollouts")
        counts = {
            name: [(r["n"], r["correct"]) for r in table.to_pylist() if r["position"] >= 0] for name, table in scored
        }
        whole = records.read_by_problem(found, "critical", "length")
        if any(len(of_one) != whole[name] or len({n for n, _ in of_one}) > 1 for name, of_one in counts.items()):
            what = "needs counts of all tokens; set rollouts.extent: curve, and rollouts.method: coupled or independent"
            raise records.ArtifactError(f"{rollouts}: {what}")
        for row in critical.rule_rows(counts, truth, args.later_below, args.samples, args.subsamples, args.seed):
            rows.append({"model": cell["model"], "dataset": cell["dataset"], **row})
    table = pd.DataFrame(rows)
    records.write_csv(args.data, table)
    canvas.save(study_figures.rule_figure(table), args.output)


if __name__ == "__main__":
    command_line.run(main)
