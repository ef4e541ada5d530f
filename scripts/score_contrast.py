"""Contrastive estimation: score the tokens of rejected answers by two models (paper, section 3)."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.workflow import command_line, sampling_arguments, training_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    command_line.add_tables(parser, "problems", "pairs")
    parser.add_argument("--positive", type=Path, required=True, help="adapter of the positive model, safetensors")
    parser.add_argument("--negative", type=Path, required=True, help="adapter of the negative model, safetensors")
    parser.add_argument("--beta", type=float, required=True, help="contrast factor beta of the scores")
    sampling_arguments.add_prompt(parser)
    parser.add_argument(
        "--max-batch-tokens", type=int, required=True, help="the most tokens of a batch, padding included"
    )
    training_arguments.add_packing(parser)
    parser.add_argument("--output", type=Path, required=True, help="table of the contrastive scores, Parquet")
    args = parser.parse_args()
    run = provenance.Run("score_contrast", args)

    from critical_tokens.models import checkpoints
    from critical_tokens.objectives import contrast, log_probabilities

    source, prompt = sampling_arguments.model_source(args), sampling_arguments.prompt(args)
    tokenizer = checkpoints.load_tokenizer(source, prompt)
    pairs = records.read_table(args.pairs, "pairs")
    problems = records.read_table(args.problems, "problems")
    items = log_probabilities.answered_side(tokenizer, pairs, problems, prompt, "rejected")
    positive, negative = (checkpoints.load_model(source, [adapter]) for adapter in (args.positive, args.negative))
    contrasts = contrast.contrastive_scores(
        positive, negative, items, args.beta, args.max_batch_tokens, bool(args.packing)
    )
    rows = [
        {
            "problem_id": pair["problem_id"],
            "sample_id": pair["rejected_id"],
            "token_ids": item.answer,
            "positive_logps": scored.positive,
            "negative_logps": scored.negative,
            "scores": scored.scores,
        }
        for pair, item, scored in zip(pairs, items, contrasts, strict=True)
    ]
    records.write_table(args.output, "contrast", rows, records.read_about(args.pairs))
    run.describe(args.output, answers=len(rows))


if __name__ == "__main__":
    command_line.run(main)
