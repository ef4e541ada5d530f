"""Command-line arguments of programs that train a LoRA adapter."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from critical_tokens.workflow.command_line import optional, truth

if TYPE_CHECKING:
    from critical_tokens.models.lora import Lora
    from critical_tokens.training.settings import TrainingSettings


def add_training(p: argparse.ArgumentParser) -> None:
    """Add the settings of the optimiser and of the adapter (see `TrainingSettings` and `Lora`)."""
    p.add_argument("--learning-rate", type=float, required=True, help="peak learning rate of AdamW")
    p.add_argument("--epochs", type=float, required=True, help="passes over the training examples")
    p.add_argument("--batch-size", type=int, required=True, help="examples of a step, over all processes")
    p.add_argument("--accumulation", type=int, required=True, help="steps whose gradients make up one update")
    p.add_argument("--schedule", required=True, help="learning-rate schedule, by its name in transformers")
    p.add_argument("--warmup-share", type=float, required=True, help="share of the updates that warm up")
    p.add_argument("--weight-decay", type=float, required=True, help="weight decay of AdamW")
    p.add_argument(
        "--gradient-checkpointing",
        type=truth,
        required=True,
        metavar="true|false",
        help="compute activations a second time to save memory",
    )
    add_packing(p)
    p.add_argument(
        "--checkpoint-updates", type=optional(int), help="updates between two checkpoints (no checkpoints by default)"
    )
    p.add_argument("--lora-rank", type=int, required=True, help="rank of the adapter's matrices")
    p.add_argument("--lora-alpha", type=int, required=True, help="scale of the adapter, which is divided by its rank")
    p.add_argument("--lora-dropout", type=float, required=True, help="dropout at the input of the adapter")
    p.add_argument(
        "--lora-layers", nargs="+", required=True, help="layers with an adapter: all-linear, or names of linear layers"
    )
    p.add_argument("--seed", type=int, required=True, help="seed of the adapter's weights and of the order of examples")


def add_packing(p: argparse.ArgumentParser) -> None:
    """Add the option --packing, see objectives/packing.py."""
    p.add_argument(
        "--packing",
        type=optional(truth),
        default=None,
        metavar="true|false",
        help="put the answers of a batch into one row without padding, each prompt once (false by default)",
    )


def add_answers(p: argparse.ArgumentParser) -> None:
    """Add what is trained on in a set of answers (see `examples.answer_examples`)."""
    p.add_argument(
        "--eos-trained",
        type=optional(truth),
        default=True,
        metavar="true|false",
        help="train on the EOS token at the end of finished answers (true by default)",
    )
    p.add_argument(
        "--held-out",
        type=optional(int),
        default=0,
        help="number of answers, from the last, that are left out (0 by default)",
    )


def training_settings(args: argparse.Namespace) -> tuple[TrainingSettings, Lora]:
    """The settings of the optimiser and of the adapter, from the arguments of `add_training`."""
    from critical_tokens.models.lora import Lora
    from critical_tokens.training.settings import TrainingSettings

    settings = TrainingSettings(
        learning_rate=args.learning_rate,
        epochs=args.epochs,
        batch_size=args.batch_size,
        accumulation=args.accumulation,
        schedule=args.schedule,
        warmup_share=args.warmup_share,
        weight_decay=args.weight_decay,
        bf16=args.dtype == "bfloat16",
        gradient_checkpointing=args.gradient_checkpointing,
        packing=bool(args.packing),
        checkpoint_updates=args.checkpoint_updates,
        seed=args.seed,
    )
    layers = "all-linear" if args.lora_layers == ["all-linear"] else tuple(args.lora_layers)
    return settings, Lora(args.lora_rank, args.lora_alpha, args.lora_dropout, layers)
