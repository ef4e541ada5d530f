"""Draw Figure 1: rollout scores along one incorrect trajectory, and continuations of both arms."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import batches, records
from critical_tokens.models import checkpoints
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    command_line.add_tables(parser, "problems", "pairs", "rollouts", "critical", "replacement")
    parser.add_argument("--data", type=Path, required=True, help="what the figure shows, JSON")
    parser.add_argument("--output", type=Path, required=True, help="the figure, PDF; a PNG is written beside it")
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
    chosen = figures.clearest_fall(records.read_table(args.critical, "critical"), rollouts)
    if chosen is None:
        what = "no trajectory has a critical token after its first token that could be drawn"
        raise records.ArtifactError(f"{args.critical}: {what}")
    name = chosen["problem_id"]
    continued = [row for row in records.read_table(args.replacement, "replacement") if row["problem_id"] == name]
    tokenizer = checkpoints.load_tokenizer(sampling_arguments.model_source(args))
    example = figures.trajectory_example(
        chosen, problems[name], pairs[name], rollouts[name], continued, args.replacement, tokenizer
    )
    records.write_json(args.data, {"problem_id": name} | vars(example))
    canvas.save(figures.trajectory_figure(example), args.output)


if __name__ == "__main__":
    command_line.run(main)
