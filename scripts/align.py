"""Train one method: SFT on the positive set, or a preference objective on the pairs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from critical_tokens.core import batches, provenance, records
from critical_tokens.objectives import registry
from critical_tokens.training import token_weights
from critical_tokens.workflow import command_line, sampling_arguments, training_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    command_line.add_about(parser)
    sampling_arguments.add_model(parser, adapters=True)
    training_arguments.add_training(parser)
    training_arguments.add_answers(parser)
    parser.add_argument(
        "--objective", required=True, choices=registry.REGISTRY, help=command_line.described(registry.REGISTRY)
    )
    for name, constant in registry.all_constants().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=constant.number_type, help=constant.description)
    command_line.add_tables(parser, "problems")
    parser.add_argument("--answers", type=Path, nargs="?", help="the positive set, for the objective nll, Parquet")
    parser.add_argument("--pairs", type=Path, nargs="?", help="the preference pairs, for all other objectives, Parquet")
    parser.add_argument(
        "--reference",
        type=Path,
        nargs="?",
        help="log-probabilities of the pairs under the model that training starts from, Parquet",
    )
    parser.add_argument(
        "--contrast", type=Path, nargs="?", help="contrastive scores s_t of the rejected answers, Parquet"
    )
    parser.add_argument("--rollouts", type=Path, nargs="?", help="rollout scores of all rejected answers, Parquet")
    parser.add_argument(
        "--weights",
        choices=[*token_weights.TOKEN_WEIGHTS, None],
        type=command_line.optional(str),
        help=f"weights of a rejected answer's tokens; {command_line.described(token_weights.TOKEN_WEIGHTS)}",
    )
    parser.add_argument(
        "--eos-weight",
        choices=[*token_weights.EOS_WEIGHTS, None],
        type=command_line.optional(str),
        help="weight of a rejected answer's EOS token: scored, as the kind of weights gives it; one, always 1",
    )
    sampling_arguments.add_prompt(parser)
    parser.add_argument("--output", type=Path, required=True, help="the trained adapter, adapter_model.safetensors")
    parser.add_argument(
        "--history", type=Path, required=True, help="loss and other numbers of the training, a row per update, CSV"
    )
    args = parser.parse_args()
    run = provenance.Run("align", args)

    from critical_tokens.models import checkpoints
    from critical_tokens.training import adapters
    from critical_tokens.training.alignment import answer_examples, pair_examples

    settings, lora = training_arguments.training_settings(args)
    given = {name: getattr(args, name) for name in registry.all_constants()}
    method = registry.Method(args.objective, {name: value for name, value in given.items() if value is not None})
    source, prompt = sampling_arguments.model_source(args), sampling_arguments.prompt(args)
    tokenizer = checkpoints.load_tokenizer(source, prompt)
    problems = records.read_table(args.problems, "problems")
    if registry.entry_of(method.objective).data == "answers":
        answers = records.read_table(args.answers, "answers")
        examples = answer_examples(tokenizer, answers, problems, prompt, args.eos_trained, args.held_out)
    else:
        examples = pair_examples(
            tokenizer,
            records.read_table(args.pairs, "pairs"),
            problems,
            prompt,
            records.read_table(args.reference, "reference") if args.reference else None,
            _weights(args) if args.weights else None,
        )
    model = checkpoints.load_model(source, args.adapters)
    history = adapters.train(model, examples, method, settings, lora, args.output)

    import pandas as pd

    records.write_csv(args.history, pd.DataFrame(history).assign(**command_line.about(args)))
    run.describe(args.output, examples=len(examples), updates=history[-1]["step"], loss=history[-1]["loss"])


def _weights(args: argparse.Namespace) -> Callable[[records.Row, int], list[float]]:
    """The function that gives the weights of a pair's rejected tokens.

    It is called with the pair and the number of weights. The tables that its kind of weights needs
    are read here.
    """
    tables: dict[str, dict[str, Any]] = {}
    for name in token_weights.entry_of(args.weights).tables:
        path = getattr(args, name)
        if name == "rollouts":
            scored = batches.read_problems(path, name, ("problem_id", "position", "score"))
            tables[name] = {key: table.drop_columns("problem_id").to_pylist() for key, table in scored}
        else:
            tables[name] = {row["problem_id"]: row for row in records.read_table(path, name)}
    return lambda pair, length: token_weights.rejected_weights(
        args.weights, pair, tables, length, args.seed, args.eos_weight
    )


if __name__ == "__main__":
    command_line.run(main)
