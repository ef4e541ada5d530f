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
    parser.add_argument("--cells", nargs="+", required=True, help="model:dataset, in the order of the tables")
    parser.add_argument("--rollouts", type=Path, nargs="+", required=True)
    parser.add_argument("--critical", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--later-below", type=float, nargs="+", required=True, help="later scores stay below this share"
    )
    parser.add_argument("--samples", type=int, nargs="+", required=True, help="rollouts per token")
    parser.add_argument("--draws", type=int, required=True, help="subsamples that numbers are the mean of")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a row per cell and rule, CSV")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import canvas, study_figures

    rows = []
    for cell, rollouts, found in zip(args.cells, args.rollouts, args.critical, strict=True):
        model, dataset = cell.split(":")
        truth = records.read_by_problem(found, "critical", "first_wrong")
        scored = batches.read_problems(rollouts, "rollouts")
        counts = {
            name: [(r["n"], r["correct"]) for r in table.to_pylist() if r["position"] >= 0] for name, table in scored
        }
        whole = records.read_by_problem(found, "critical", "length")
        if any(len(of_one) != whole[name] or len({n for n, _ in of_one}) > 1 for name, of_one in counts.items()):
            what = "has no counts of whole curves (rollouts.extent: curve; rollouts.method: coupled or independent)"
            raise records.ArtifactError(f"{rollouts}: {what}")
        for row in critical.rule_rows(counts, truth, args.later_below, args.samples, args.draws, args.seed):
            rows.append({"model": model, "dataset": dataset, **row})
    table = pd.DataFrame(rows)
    records.write_csv(args.data, table)
    canvas.save(study_figures.rule_figure(table), args.output)


if __name__ == "__main__":
    command_line.run(main)
