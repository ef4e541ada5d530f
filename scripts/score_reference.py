"""Compute the log-probabilities of the pairs' tokens under the reference model, once for all.

The reference model is the model that a preference training starts from.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.workflow import command_line, sampling_arguments, training_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser, adapters=True)
    command_line.add_tables(parser, "problems", "pairs")
    sampling_arguments.add_prompt(parser)
    parser.add_argument(
        "--max-batch-tokens", type=int, required=True, help="the most tokens of a batch, padding included"
    )
    training_arguments.add_packing(parser)
    parser.add_argument("--output", type=Path, required=True, help="table of the log-probabilities, Parquet")
    args = parser.parse_args()
    run = provenance.Run("score_reference", args)

    from critical_tokens.models import checkpoints
    from critical_tokens.objectives import log_probabilities

    source, prompt = sampling_arguments.model_source(args), sampling_arguments.prompt(args)
    tokenizer = checkpoints.load_tokenizer(source, prompt)
    pairs = records.read_table(args.pairs, "pairs")
    problems = records.read_table(args.problems, "problems")
    model = checkpoints.load_model(source, args.adapters)
    sides = [
        log_probabilities.answered_side(tokenizer, pairs, problems, prompt, side) for side in ("chosen", "rejected")
    ]
    if args.packing:  # both answers of a pair share their prompt
        both = log_probabilities.answer_logps(model, [*sides[0], *sides[1]], args.max_batch_tokens, packed=True)
        found = [both[: len(pairs)], both[len(pairs) :]]
    else:
        found = [log_probabilities.answer_logps(model, items, args.max_batch_tokens) for items in sides]
    rows = [
        {"problem_id": pair["problem_id"], "chosen_logps": chosen, "rejected_logps": rejected}
        for pair, chosen, rejected in zip(pairs, *found, strict=True)
    ]
    records.write_table(args.output, "reference", rows, records.read_about(args.pairs))
    run.describe(args.output, pairs=len(rows))


if __name__ == "__main__":
    command_line.run(main)
