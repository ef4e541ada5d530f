"""Check a base model before anything is sampled from it.

It must have a tokenizer, a token that ends answers, the layers that get LoRA adapters, and a chat
template if questions are asked in a chat.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.data import prompts
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    parser.add_argument("--model-name", required=True, help="name of the model in the config, for messages")
    parser.add_argument(
        "--layers",
        nargs="+",
        required=True,
        help="layers that get LoRA adapters: all-linear, or names of linear layers",
    )
    parser.add_argument(
        "--template",
        choices=prompts.FORMS,
        default="usual",
        help="form of prompts that the model must be able to read; only chat needs anything of it (usual by default)",
    )
    sampling_arguments.add_chat(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="architecture, context, end tokens and linear layers of the model, JSON",
    )
    args = parser.parse_args()
    run = provenance.Run("check_model", args)

    from critical_tokens.models import checkpoints, lora

    source = sampling_arguments.model_source(args)
    config = checkpoints.load_config(source)
    named = [layer for layer in args.layers if layer != lora.ALL_LINEAR]
    missing, present = lora.missing_layers(config, named)
    lora.check_layers(args.model_name, named, missing, present)
    prompt = prompts.Prompt(prompts.STYLES[0], args.template, chat=sampling_arguments.chat(args))
    tokenizer = checkpoints.load_tokenizer(source, prompt)
    facts = {
        "architecture": config.model_type,
        "context": checkpoints.context_of(config),
        "ends": sorted(checkpoints.end_ids(source, tokenizer)),
        "linear_layers": present,
    }
    records.write_json(args.output, facts)
    run.describe(args.output)


if __name__ == "__main__":
    command_line.run(main)
