"""Arguments that several programs share, and the way every program starts."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable
from pathlib import Path

from critical_tokens.checkpoints import ModelSource
from critical_tokens.records import ArtifactError
from critical_tokens.sampling import Distribution


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a program's docstring and its defaults."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_model(p: argparse.ArgumentParser, adapters: bool = False) -> None:
    """--model, --revision, --dtype and, where asked for, --adapters."""
    p.add_argument("--model", required=True, help="folder or hub id of the base model")
    p.add_argument("--revision", help="pinned revision of a hub model")
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    if adapters:
        p.add_argument(
            "--adapters", type=Path, nargs="*", default=[], help="adapter_model.safetensors files, nearest to the base first"
        )


def model_source(args: argparse.Namespace) -> ModelSource:
    """The base model that `add_model` asked for."""
    return ModelSource(args.model, args.revision, args.dtype)


def add_sampling(p: argparse.ArgumentParser) -> None:
    """--temperature, --top-p, --max-new-tokens, --max-batch-tokens and --seed."""
    p.add_argument("--temperature", type=float, required=True, help="0 is greedy decoding")
    p.add_argument("--top-p", type=float, required=True, help="mass of the nucleus, 1 for the whole softmax")
    p.add_argument("--max-new-tokens", type=int, required=True, help="longest answer")
    p.add_argument("--max-batch-tokens", type=int, required=True, help="bound of the key-value buffer, in tokens")
    p.add_argument("--seed", type=int, required=True)


def distribution(args: argparse.Namespace) -> Distribution:
    """The sampling distribution that `add_sampling` asked for."""
    return Distribution(args.temperature, args.top_p)


def run(main: Callable[[], None]) -> None:
    """Run a program; an error about its input is a message, not a traceback."""
    # Importing torch and transformers makes a million objects, and looking for garbage among them takes a fifth of the
    # start-up time. The collector goes on, three hundred times more rarely.
    gc.set_threshold(200_000, 50, 100)
    try:
        main()
    except ArtifactError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def add_training(p: argparse.ArgumentParser) -> None:
    """Optimiser and adapter settings (see training.Settings and alignment.Lora)."""
    p.add_argument("--learning-rate", type=float, required=True)
    p.add_argument("--epochs", type=float, required=True)
    p.add_argument("--batch-size", type=int, required=True, help="examples per step and device")
    p.add_argument("--accumulation", type=int, required=True, help="steps per update")
    p.add_argument("--schedule", required=True, help="learning-rate schedule of transformers")
    p.add_argument("--warmup-share", type=float, required=True, help="share of the updates")
    p.add_argument("--weight-decay", type=float, required=True)
    p.add_argument("--lora-rank", type=int, required=True)
    p.add_argument("--lora-alpha", type=int, required=True)
    p.add_argument("--lora-dropout", type=float, required=True)
    p.add_argument("--lora-layers", nargs="+", required=True, help="all-linear, or names of linear layers")
    p.add_argument("--seed", type=int, required=True)


def training_settings(args: argparse.Namespace):  # noqa: ANN201
    """(training.Settings, alignment.Lora) that `add_training` asked for."""
    from critical_tokens.alignment import Lora
    from critical_tokens.training import Settings

    settings = Settings(
        learning_rate=args.learning_rate,
        epochs=args.epochs,
        batch_size=args.batch_size,
        accumulation=args.accumulation,
        schedule=args.schedule,
        warmup_share=args.warmup_share,
        weight_decay=args.weight_decay,
        bf16=args.dtype == "bfloat16",
        seed=args.seed,
    )
    layers = "all-linear" if args.lora_layers == ["all-linear"] else tuple(args.lora_layers)
    return settings, Lora(args.lora_rank, args.lora_alpha, args.lora_dropout, layers)
