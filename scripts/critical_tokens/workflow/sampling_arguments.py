"""Command-line arguments of the programs that run a model: which one, and how answers are sampled
from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from critical_tokens.data import shots
from critical_tokens.data.prompts import BLANKS, STYLES, TEMPLATES, Prompt
from critical_tokens.decoding.distributions import Distribution, Nucleus
from critical_tokens.engines import opening
from critical_tokens.grading.answers import GRADERS
from critical_tokens.models.checkpoints import ModelSource

T = TypeVar("T")


def add_model(p: argparse.ArgumentParser, adapters: bool = False) -> None:
    """--model, --revision, --dtype and, where asked for, --adapters."""
    p.add_argument("--model", required=True, help="folder or hub id of the base model")
    p.add_argument("--revision", help="pinned revision of a hub model")
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    if adapters:
        p.add_argument(
            "--adapters",
            type=Path,
            nargs="*",
            default=[],
            help="adapter_model.safetensors files, nearest to the base first",
        )


def model_source(args: argparse.Namespace) -> ModelSource:
    """The base model that `add_model` asked for."""
    return ModelSource(args.model, args.revision, args.dtype)


def add_sampling(p: argparse.ArgumentParser) -> None:
    """--temperature, --top-p, --max-new-tokens and --seed."""
    p.add_argument("--temperature", type=float, required=True, help="0 is greedy decoding")
    p.add_argument("--top-p", type=float, required=True, help="mass of the nucleus, 1 for the whole softmax")
    p.add_argument("--max-new-tokens", type=int, required=True, help="longest answer")
    p.add_argument("--seed", type=int, required=True)


def add_engine(p: argparse.ArgumentParser) -> None:
    """--engine and what is its own, --max-batch-tokens."""
    p.add_argument("--max-batch-tokens", type=int, required=True, help="bound of the key-value cache, in tokens")
    p.add_argument("--engine", choices=opening.ENGINES, default="transformers")
    p.add_argument("--tensor-parallel", type=int, default=1, help="GPUs that share the model (vllm)")
    p.add_argument(
        "--context", type=int, help="longest prompt with answer, in tokens (vllm; the model's own by default)"
    )


def engine(args: argparse.Namespace) -> opening.EngineSettings:
    """The engine that `add_engine` asked for."""
    return opening.EngineSettings(args.max_batch_tokens, args.engine, args.tensor_parallel, args.context)


def distribution(args: argparse.Namespace) -> Distribution:
    """The sampling distribution that `add_sampling` asked for."""
    return Nucleus(args.temperature, args.top_p)


def add_prompt(p: argparse.ArgumentParser) -> None:
    """--style, --template, --blank and --shots."""
    p.add_argument("--style", choices=STYLES, required=True, help="of prompts and answers")
    p.add_argument("--template", choices=tuple(TEMPLATES), default="usual", help="form of a question")
    p.add_argument("--blank", choices=BLANKS, default="answer", help="whose the blank between prompt and answer is")
    p.add_argument(
        "--shots", type=Path, nargs="?", help="worked examples in front of a question, JSON (none by default)"
    )


def prompt(args: argparse.Namespace) -> Prompt:
    """The prompts that `add_prompt` asked for."""
    return Prompt(args.style, args.template, shots.read(args.shots) if args.shots else (), args.blank)


def add_grader(p: argparse.ArgumentParser) -> None:
    """--grader."""
    p.add_argument("--grader", choices=GRADERS, required=True, help="which verdict labels data")


def add_shard(p: argparse.ArgumentParser) -> None:
    """--shard."""
    p.add_argument("--shard", type=_shard, default=(1, 1), metavar="K-of-N", help="do the K-th of N parts of the work")


def _shard(text: str) -> tuple[int, int]:
    k, of, n = text.partition("-of-")
    if not (of and k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 3-of-8")
    return int(k), int(n)


def shard_of(args: argparse.Namespace, items: Sequence[T]) -> Sequence[T]:
    """The part of the items that `add_shard` asked for: neighbours, so that parts in order are the
    whole in order.
    """
    k, n = args.shard
    return items[(k - 1) * len(items) // n : k * len(items) // n]
