"""Command-line arguments of the programs that train an adapter."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from critical_tokens.workflow.command_line import optional, truth

if TYPE_CHECKING:
    from critical_tokens.models.lora import Lora
    from critical_tokens.training.settings import TrainingSettings


def add_training(p: argparse.ArgumentParser) -> None:
    """Optimiser and adapter settings (see training.Settings and lora.Lora)."""
    p.add_argument("--learning-rate", type=float, required=True)
    p.add_argument("--epochs", type=float, required=True)
    p.add_argument("--batch-size", type=int, required=True, help="examples per step, over all processes")
    p.add_argument("--accumulation", type=int, required=True, help="steps per update")
    p.add_argument("--schedule", required=True, help="learning-rate schedule of transformers")
    p.add_argument("--warmup-share", type=float, required=True, help="share of the updates")
    p.add_argument("--weight-decay", type=float, required=True)
    p.add_argument("--gradient-checkpointing", type=truth, required=True, help="compute activations twice")
    p.add_argument("--packing", type=optional(truth), default=None, help="answers of a batch in one row (nll)")
    p.add_argument("--checkpoint-updates", type=optional(int), help="updates between two checkpoints (none by default)")
    p.add_argument("--lora-rank", type=int, required=True)
    p.add_argument("--lora-alpha", type=int, required=True)
    p.add_argument("--lora-dropout", type=float, required=True)
    p.add_argument("--lora-layers", nargs="+", required=True, help="all-linear, or names of linear layers")
    p.add_argument("--seed", type=int, required=True)


def add_answers(p: argparse.ArgumentParser) -> None:
    """What is trained of sets of answers (see examples.answer_examples)."""
    p.add_argument("--eos-trained", type=optional(truth), default=True, help="whether finished answers end with EOS")
    p.add_argument("--held-out", type=optional(int), default=0, help="leave out the last so many answers")


def training_settings(args: argparse.Namespace) -> tuple[TrainingSettings, Lora]:
    """Optimiser and adapter settings that `add_training` asked for."""
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
