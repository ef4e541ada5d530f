"""What other thresholds and fewer rollouts per token make of the critical tokens.

Fewer rollouts are subsamples of the counts, drawn without replacement at each token by itself, and
their scores are judged by the paper's rule with the same thresholds.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import batches, records
from critical_tokens.rollouts import critical
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--rollouts", type=Path, nargs="+", required=True)
    parser.add_argument("--critical", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--later-below", type=float, nargs="+", required=True, help="later scores stay below this share"
    )
    parser.add_argument("--samples", type=int, nargs="+", required=True, help="rollouts per token")
    parser.add_argument("--subsamples", type=int, required=True, help="subsamples that numbers are the mean of")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a row per cell and rule, CSV")
    parser.add_argument("--output", type=Path, required=True)
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
            what = "has no counts of whole curves (rollouts.extent: curve; rollouts.method: coupled or independent)"
            raise records.ArtifactError(f"{rollouts}: {what}")
        for row in critical.rule_rows(counts, truth, args.later_below, args.samples, args.subsamples, args.seed):
            rows.append({"model": cell["model"], "dataset": cell["dataset"], **row})
    table = pd.DataFrame(rows)
    records.write_csv(args.data, table)
    canvas.save(study_figures.rule_figure(table), args.output)


if __name__ == "__main__":
    command_line.run(main)
