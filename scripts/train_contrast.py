"""Train the positive or the negative model of contrastive estimation (paper, section 3).

Each is a LoRA adapter, trained on correct or on incorrect answers.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.objectives import registry
from critical_tokens.workflow import command_line, sampling_arguments, training_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    training_arguments.add_training(parser)
    training_arguments.add_answers(parser)
    command_line.add_tables(parser, "problems")
    parser.add_argument("--answers", type=Path, required=True, help="the positive or the negative set, Parquet")
    sampling_arguments.add_prompt(parser)
    parser.add_argument("--output", type=Path, required=True, help="the trained adapter, adapter_model.safetensors")
    args = parser.parse_args()
    run = provenance.Run("train_contrast", args)

    from critical_tokens.models import checkpoints
    from critical_tokens.training import adapters
    from critical_tokens.training.alignment import answer_examples

    settings, lora = training_arguments.training_settings(args)
    source, prompt = sampling_arguments.model_source(args), sampling_arguments.prompt(args)
    tokenizer = checkpoints.load_tokenizer(source, prompt)
    answers = records.read_table(args.answers, "answers")
    problems = records.read_table(args.problems, "problems")
    examples = answer_examples(tokenizer, answers, problems, prompt, args.eos_trained, args.held_out)
    model = checkpoints.load_model(source)
    history = adapters.train(model, examples, registry.Method("nll"), settings, lora, args.output)
    run.describe(args.output, examples=len(examples), updates=history[-1]["step"], loss=history[-1]["loss"])


if __name__ == "__main__":
    command_line.run(main)
