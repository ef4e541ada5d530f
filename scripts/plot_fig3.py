"""Figure 3 (v1 and v2): contrastive estimation along one incorrect trajectory, that of Figure 1."""

from __future__ import annotations

import math
from pathlib import Path

from critical_tokens.core import records
from critical_tokens.data import prompts
from critical_tokens.models import checkpoints
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--contrast", type=Path, required=True)
    parser.add_argument("--critical", type=Path, required=True)
    parser.add_argument("--example", type=Path, required=True, help="what Figure 1 shows, JSON")
    parser.add_argument("--data", type=Path, required=True, help="what is drawn, JSON")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    from critical_tokens.reporting import canvas, figures

    name = records.read_object(args.example, ["problem_id"])["problem_id"]
    problem = records.read_by_problem(args.problems, "problems")[name]
    scored = records.read_by_problem(args.contrast, "contrast")[name]
    found = records.read_by_problem(args.critical, "critical")[name]
    tokenizer = checkpoints.load_tokenizer(sampling_arguments.model_source(args))
    length = found["length"]  # without EOS
    illustration = figures.Illustration(
        question=problem["question"],
        tokens=[prompts.decode(tokenizer, [i]) for i in scored["token_ids"][:length]],
        positive=_probabilities(scored["positive_logps"], length),
        negative=_probabilities(scored["negative_logps"], length),
        scores=list(scored["scores"][:length]),
        critical=found["position"],
        first_wrong=found["first_wrong"],
    )
    records.write_json(args.data, {"problem_id": name} | vars(illustration))
    canvas.save(figures.contrast_figure(illustration), args.output)


def _probabilities(logps: list[float] | None, length: int) -> list[float]:
    """Of the first tokens; none where scores came without them, as the authors' do."""
    return [math.exp(logp) for logp in (logps or [])[:length]]


if __name__ == "__main__":
    command_line.run(main)
