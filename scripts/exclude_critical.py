"""Continue greedy answers without the token that contrastive estimation scores lowest (Figure 5).

The paper gives no procedure. Here the token with the lowest score of an answer is masked, and
greedy decoding continues from the most probable other token. This is done to correct and incorrect
answers alike, because the procedure does not use gold answers.
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
    command_line.add_tables(parser, "problems")
    parser.add_argument(
        "--limit", type=command_line.optional(int), help="number of problems, from the first (all by default)"
    )
    parser.add_argument(
        "--answers", type=Path, required=True, help="table of the base model's answers to them, Parquet"
    )
    parser.add_argument("--positive", type=Path, required=True, help="adapter of the positive model, safetensors")
    parser.add_argument("--negative", type=Path, required=True, help="adapter of the negative model, safetensors")
    parser.add_argument("--beta", type=float, required=True, help="contrast factor beta of the scores")
    parser.add_argument(
        "--max-batch-tokens", type=int, required=True, help="the most tokens of a batch, padding included"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="table of the answers with the token kept and excluded, Parquet"
    )
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
    items = log_probabilities.answered(checkpoints.load_tokenizer(source, prompt), answers, problems, prompt)
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
