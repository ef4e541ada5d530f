"""Figure 5 (v2): greedy answers without the token that contrastive estimation scores lowest.

The paper gives no procedure. Here the token with the lowest score of an answer is masked, and
greedy decoding goes on from the most probable other token. This is done to correct and incorrect
answers alike, because gold answers are not looked at.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    sampling_arguments.add_sampling(parser)
    sampling_arguments.add_grader(parser)
    sampling_arguments.add_prompt(parser)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--limit", type=command_line.optional(int), help="use the first so many problems")
    parser.add_argument("--answers", type=Path, required=True, help="the base model's answers to them")
    parser.add_argument("--positive", type=Path, required=True, help="adapter_model.safetensors of the positive model")
    parser.add_argument("--negative", type=Path, required=True, help="adapter_model.safetensors of the negative model")
    parser.add_argument("--beta", type=float, required=True, help="contrast factor")
    parser.add_argument("--max-batch-tokens", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("exclude_critical", args)

    from critical_tokens.engines.opening import EngineSettings
    from critical_tokens.models import checkpoints
    from critical_tokens.objectives import contrast, log_probabilities
    from critical_tokens.rollouts import examination
    from critical_tokens.rollouts.sampler import Sampler

    source, prompt = sampling_arguments.model_source(args), sampling_arguments.prompt(args)
    problems = records.read_table(args.problems, "problems")[: args.limit]
    answers = [r for r in records.read_table(args.answers, "trajectories") if r["token_ids"]]
    items = log_probabilities.answered(checkpoints.load_tokenizer(source), answers, problems, prompt)
    # The contrastive models are deleted before the base model is loaded.
    pair = [checkpoints.load_model(source, [adapter]) for adapter in (args.positive, args.negative)]
    contrasts = contrast.contrastive_scores(pair[0], pair[1], items, args.beta, args.max_batch_tokens)
    pair.clear()
    lowest = [scored.lowest(len(r["token_ids"])) for scored, r in zip(contrasts, answers, strict=True)]
    sampler = Sampler(source, [], prompt, EngineSettings(args.max_batch_tokens), args.grader)
    rows = examination.exclusion_rows(sampler, answers, problems, lowest, args.max_new_tokens, args.seed)
    records.write_table(args.output, "replacement", rows, records.read_about(args.answers))
    run.describe(args.output, answers=len(answers), unanswered=len(problems) - len(answers))


if __name__ == "__main__":
    command_line.run(main)
