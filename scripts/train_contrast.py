"""Train the positive or the negative model of contrastive estimation: a LoRA adapter on correct or incorrect answers."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import arguments, cli, provenance, records, training_arguments


def main() -> None:
    parser = cli.parser(__doc__)
    arguments.add_model(parser)
    training_arguments.add_training(parser)
    training_arguments.add_answers(parser)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True, help="the positive or the negative set")
    arguments.add_prompt(parser)
    parser.add_argument("--output", type=Path, required=True, help="adapter_model.safetensors")
    args = parser.parse_args()
    run = provenance.Run("train_contrast", args)

    from critical_tokens import adapters, alignment, checkpoints
    from critical_tokens.examples import answer_examples

    settings, lora = training_arguments.training_settings(args)
    source = arguments.model_source(args)
    tokenizer = checkpoints.load_tokenizer(source)
    answers = records.read_table(args.answers, "answers")
    problems = records.read_table(args.problems, "problems")
    examples = answer_examples(tokenizer, answers, problems, arguments.prompt(args), args.eos_trained == "true", args.held_out)
    model = checkpoints.load_model(source)
    history = adapters.train(model, examples, alignment.Method("nll"), settings, lora, args.output)
    run.describe(args.output, examples=len(examples), updates=history[-1]["step"], loss=history[-1]["loss"])


if __name__ == "__main__":
    cli.run(main)
