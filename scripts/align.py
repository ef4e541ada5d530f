"""Train one method of Table 1: SFT on the positive set, or a preference objective on the pairs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from critical_tokens.core import batches, provenance, records
from critical_tokens.objectives import registry, token_weights
from critical_tokens.workflow import command_line, sampling_arguments, training_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser, adapters=True)
    training_arguments.add_training(parser)
    training_arguments.add_answers(parser)
    parser.add_argument(
        "--eos-weight", choices=("scored", "one"), default="scored", help="of rejected answers' EOS in cDPO"
    )
    parser.add_argument("--objective", required=True, choices=registry.OBJECTIVES)
    parser.add_argument("--gamma", type=float, default=1.0, help="scale of the log-ratios (DPO's beta)")
    parser.add_argument("--rpo-alpha", type=float, default=1.0, help="weight of RPO's likelihood term")
    parser.add_argument("--tdpo-variant", type=int, default=2, choices=(1, 2))
    parser.add_argument("--tdpo-alpha", type=float, default=0.5, help="weight of TDPO2's divergence term")
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--answers", type=Path, help="the positive set (objective nll)")
    parser.add_argument("--pairs", type=Path, help="the preference pairs (other objectives)")
    parser.add_argument("--reference", type=Path, help="stored log-probabilities of the starting model")
    parser.add_argument("--contrast", type=Path, help="contrastive scores s_t")
    parser.add_argument("--rollouts", type=Path, help="rollout scores of all rejected answers")
    parser.add_argument("--weights", choices=token_weights.KINDS, help="what rejected tokens weigh (contrast: 1 - s_t)")
    sampling_arguments.add_prompt(parser)
    parser.add_argument("--output", type=Path, required=True, help="adapter_model.safetensors")
    parser.add_argument("--history", type=Path, required=True, help="CSV of the training's numbers, a row per update")
    args = parser.parse_args()
    run = provenance.Run("align", args)

    from critical_tokens.models import checkpoints
    from critical_tokens.training import adapters
    from critical_tokens.training.examples import answer_examples, pair_examples

    settings, lora = training_arguments.training_settings(args)
    method = registry.Method(args.objective, args.gamma, args.rpo_alpha, args.tdpo_variant, args.tdpo_alpha)
    source = sampling_arguments.model_source(args)
    tokenizer = checkpoints.load_tokenizer(source)
    problems = records.read_table(args.problems, "problems")
    if registry.entry_of(method.objective).data == "answers":
        answers = records.read_table(args.answers, "answers")
        examples = answer_examples(
            tokenizer, answers, problems, sampling_arguments.prompt(args), args.eos_trained == "true", args.held_out
        )
    else:
        examples = pair_examples(
            tokenizer,
            records.read_table(args.pairs, "pairs"),
            problems,
            sampling_arguments.prompt(args),
            records.read_table(args.reference, "reference") if args.reference else None,
            _weights(args) if args.weights else None,
        )
    model = checkpoints.load_model(source, args.adapters)
    history = adapters.train(model, examples, method, settings, lora, args.output)

    import pandas as pd

    records.write_csv(args.history, pd.DataFrame(history))
    run.describe(args.output, examples=len(examples), updates=history[-1]["step"], loss=history[-1]["loss"])


def _weights(args: argparse.Namespace) -> Callable[[records.Row, int], list[float]]:
    """What makes the weights of a pair's rejected tokens, from the tables that their kind needs."""
    tables: dict[str, dict[str, Any]] = {}
    for name in token_weights.NEEDS[args.weights]:
        path = getattr(args, name)
        if name == "rollouts":
            scored = batches.read_problems(path, name, ("problem_id", "position", "score"))
            tables[name] = {key: table.drop_columns("problem_id").to_pylist() for key, table in scored}
        else:
            tables[name] = {row["problem_id"]: row for row in records.read_table(path, name)}

    def weights(pair: records.Row, length: int) -> list[float]:
        found = token_weights.rejected_weights(args.weights, pair, tables, length, args.seed)
        if args.eos_weight == "one" and pair["rejected_finished"]:
            found[-1] = 1.0  # as if EOS were maximally critical (train_cdpo.py:138)
        return found

    return weights


if __name__ == "__main__":
    command_line.run(main)
