"""Figure 1: one incorrect trajectory of the run, its rollout scores, its critical token and both
branches.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from critical_tokens.core import batches, records
from critical_tokens.data import prompts
from critical_tokens.models import checkpoints
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--rollouts", type=Path, required=True)
    parser.add_argument("--critical", type=Path, required=True)
    parser.add_argument("--replacement", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="what is drawn, JSON")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    from critical_tokens.reporting import canvas, figures

    problems = records.read_by_problem(args.problems, "problems")
    pairs = records.read_by_problem(args.pairs, "pairs")
    curves: dict[str, dict[int, float]] = {}
    for row in batches.read_rows(args.rollouts, "rollouts", ("problem_id", "position", "score")):
        curves.setdefault(row["problem_id"], {})[row["position"]] = row["score"]
    rollouts = records.ByProblem(
        ({"problem_id": name, "scores": curve} for name, curve in curves.items()), args.rollouts, "scores"
    )
    replacement = records.read_table(args.replacement, "replacement")

    # The clearest fall to a critical token; first among those that are lost before anything is
    # wrong ("owed" in the paper), where the truth is known. Trajectories that start with their
    # critical token show no fall.
    found = [r for r in records.read_table(args.critical, "critical") if r["position"] and not r["zero_only"]]
    if not found:
        raise records.ArtifactError(
            f"{args.critical}: no trajectory has a critical token behind its first token to draw"
        )

    def telling(row: dict) -> tuple:
        early = row["first_wrong"] is not None and row["position"] < row["first_wrong"]
        return early, rollouts[row["problem_id"]][row["position"] - 1], row["problem_id"]

    chosen = max(found, key=telling)
    name, position = chosen["problem_id"], chosen["position"]
    ids = pairs[name]["rejected"]
    tokenizer = checkpoints.load_tokenizer(sampling_arguments.model_source(args))
    branches, rates = {}, {}
    for arm in ("kept", "replaced"):
        rows = [r for r in replacement if r["problem_id"] == name and r["arm"] == arm]
        if not rows:
            raise records.ArtifactError(f"{args.replacement}: has no {arm} answers to problem {name}")
        texts = Counter((prompts.decode(tokenizer, r["answer"][position:]).strip(), r["correct"]) for r in rows)
        branches[arm] = [(text, n, correct) for (text, correct), n in texts.most_common(4)]
        rates[arm] = sum(r["correct"] for r in rows) / len(rows)
    example = figures.Example(
        question=problems[name]["question"],
        gold=problems[name]["answer"],
        tokens=[prompts.decode(tokenizer, [i]) for i in ids],
        start=rollouts[name].get(-1),
        scores=[rollouts[name].get(t) for t in range(len(ids))],
        critical=position,
        first_wrong=chosen["first_wrong"],
        branches=branches,
        rates=rates,
    )
    records.write_json(args.data, {"problem_id": name} | vars(example))
    canvas.save(figures.trajectory_figure(example), args.output)


if __name__ == "__main__":
    command_line.run(main)
