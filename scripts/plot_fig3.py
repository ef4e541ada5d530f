"""Draw Figure 3 (v1 and v2): contrastive estimation along the trajectory of Figure 1."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.models import checkpoints
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    command_line.add_tables(parser, "problems", "contrast", "critical")
    parser.add_argument("--example", type=Path, required=True, help="what Figure 1 shows, JSON")
    parser.add_argument("--data", type=Path, required=True, help="what the figure shows, JSON")
    parser.add_argument("--output", type=Path, required=True, help="the figure, PDF; a PNG is written beside it")
    args = parser.parse_args()

    from critical_tokens.reporting import canvas, figures

    name = records.read_object(args.example, ["problem_id"])["problem_id"]
    problem = records.read_by_problem(args.problems, "problems")[name]
    scored = records.read_by_problem(args.contrast, "contrast")[name]
    found = records.read_by_problem(args.critical, "critical")[name]
    tokenizer = checkpoints.load_tokenizer(sampling_arguments.model_source(args))
    illustration = figures.contrast_illustration(problem, scored, found, tokenizer)
    records.write_json(args.data, {"problem_id": name} | vars(illustration))
    canvas.save(figures.contrast_figure(illustration), args.output)


if __name__ == "__main__":
    command_line.run(main)
