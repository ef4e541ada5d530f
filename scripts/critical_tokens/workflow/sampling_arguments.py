"""Command-line arguments of programs that run a model: which model, and how it is sampled."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from critical_tokens.core.provenance import Run, checksum
from critical_tokens.data import shots
from critical_tokens.data.prompts import BLANKS, FORMS, QUESTION, STYLES, Chat, Prompt
from critical_tokens.decoding.distributions import Distribution, Nucleus
from critical_tokens.engines import opening
from critical_tokens.grading.answers import GRADERS
from critical_tokens.models.checkpoints import ModelSource, files_state
from critical_tokens.workflow.command_line import described

if TYPE_CHECKING:
    from critical_tokens.rollouts.sampler import Sampler

T = TypeVar("T")


def add_model(p: argparse.ArgumentParser, adapters: bool = False) -> None:
    """Add --model, --revision and --dtype, and --adapters if `adapters` is true."""
    p.add_argument("--model", required=True, help="folder or hub id of the base model")
    p.add_argument("--revision", help="revision of a hub model: a commit, a branch or a tag (its newest by default)")
    add_dtype(p)
    if adapters:
        p.add_argument(
            "--adapters",
            type=Path,
            nargs="*",
            default=[],
            help="LoRA adapters (adapter_model.safetensors), in the order in which they are applied to the base model",
        )


def add_dtype(p: argparse.ArgumentParser) -> None:
    """Add --dtype."""
    p.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="number format of the weights (float32 by default)",
    )


def model_source(args: argparse.Namespace) -> ModelSource:
    """The base model, from the arguments of `add_model`."""
    return ModelSource(args.model, args.revision, args.dtype)


def add_sampling(p: argparse.ArgumentParser) -> None:
    """Add --temperature, --top-p, --max-new-tokens and --seed."""
    p.add_argument("--temperature", type=float, required=True, help="temperature of sampling; 0 is greedy decoding")
    p.add_argument(
        "--top-p", type=float, required=True, help="probability mass of nucleus sampling; 1 keeps all tokens"
    )
    p.add_argument("--max-new-tokens", type=int, required=True, help="the most tokens of an answer")
    p.add_argument("--seed", type=int, required=True, help="seed of the random numbers")


def add_engine(p: argparse.ArgumentParser) -> None:
    """Add --max-batch-tokens, --engine, --tensor-parallel and --context."""
    p.add_argument(
        "--max-batch-tokens", type=int, required=True, help="the most tokens in the key-value cache at a time"
    )
    p.add_argument(
        "--engine",
        choices=opening.ENGINES,
        default="transformers",
        help=f"{described(opening.ENGINES)} (transformers by default)",
    )
    p.add_argument(
        "--tensor-parallel", type=int, default=1, help="GPUs that share the model, for the engine vllm (1 by default)"
    )
    p.add_argument(
        "--context",
        type=int,
        help="the most tokens of a prompt and its answer, for the engine vllm (the model's own limit by default)",
    )


def engine(args: argparse.Namespace) -> opening.EngineSettings:
    """The settings of the engine, from the arguments of `add_engine`."""
    return opening.EngineSettings(args.max_batch_tokens, args.engine, args.tensor_parallel, args.context)


def distribution(args: argparse.Namespace) -> Distribution:
    """The sampling distribution, from the arguments of `add_sampling`."""
    return Nucleus(args.temperature, args.top_p)


def add_prompt(p: argparse.ArgumentParser) -> None:
    """Add --style, --template, --blank, --shots, --chat-message and --chat-system."""
    p.add_argument("--style", choices=STYLES, required=True, help="form of prompts and answers, named after a dataset")
    p.add_argument(
        "--template",
        choices=FORMS,
        default="usual",
        help="text around a question: as in the released code's training (usual, the default), as in its sampling "
        "(startup), or the model's chat template (chat)",
    )
    p.add_argument(
        "--blank",
        choices=BLANKS,
        default="answer",
        help="side that the blank between prompt and answer belongs to (answer by default)",
    )
    p.add_argument(
        "--shots", type=Path, nargs="?", help="worked examples in front of a question, JSON (none by default)"
    )
    add_chat(p)


def add_chat(p: argparse.ArgumentParser) -> None:
    """Add --chat-message and --chat-system."""
    p.add_argument(
        "--chat-message",
        type=_message,
        default=QUESTION,
        help=f"the user's message in a chat, with {QUESTION} in the place of the question (the question by default)",
    )
    p.add_argument("--chat-system", help="the system message of a chat (that of the chat template by default)")


def _message(text: str) -> str:
    if text.count(QUESTION) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} must contain {QUESTION} once")
    return text


def chat(args: argparse.Namespace) -> Chat:
    """What the messages of a chat say, from the arguments of `add_chat`."""
    return Chat(args.chat_message, args.chat_system)


def prompt(args: argparse.Namespace) -> Prompt:
    """The form of the prompts, from the arguments of `add_prompt`."""
    return Prompt(args.style, args.template, shots.read(args.shots) if args.shots else (), args.blank, chat(args))


def add_grader(p: argparse.ArgumentParser) -> None:
    """Add --grader."""
    p.add_argument(
        "--grader", choices=GRADERS, required=True, help="grader whose verdict decides whether an answer is correct"
    )


def add_sampler(p: argparse.ArgumentParser, adapters: bool = False) -> None:
    """Add the arguments of the model, the sampling, the engine and the prompts."""
    add_model(p, adapters)
    add_sampling(p)
    add_engine(p)
    add_prompt(p)


def sampler(args: argparse.Namespace, run: Run, adapters: Sequence[Path] = (), grader: str = "released") -> Sampler:
    """The model with its engine and prompts, ready for sampling.

    Until the program calls `Sampler.finish`, it keeps finished answers beside its output, so that
    it goes on from there after it was stopped.

    args: the arguments of `add_sampler`, and --output.
    run: the run of the program.
    adapters: files of adapters, in the order in which they are applied to the base model.
    grader: the grader that judges continuations.
    """
    from critical_tokens.rollouts.sampler import Sampler

    source = model_source(args)
    settings = run.settings(files_state(source), [checksum(adapter) for adapter in adapters])
    unfinished = args.output.with_name(args.output.name + ".unfinished")
    return Sampler(source, adapters, prompt(args), engine(args), grader, (unfinished, settings))


def add_shard(p: argparse.ArgumentParser) -> None:
    """Add --shard."""
    p.add_argument(
        "--shard", type=_shard, default=(1, 1), metavar="K-of-N", help="do only part K of N parts (all by default)"
    )


def _shard(text: str) -> tuple[int, int]:
    k, of, n = text.partition("-of-")
    if not (of and k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} must have the form K-of-N, e.g. 3-of-8")
    return int(k), int(n)


def shard_of(args: argparse.Namespace, items: Sequence[T]) -> Sequence[T]:
    """The part of the items that --shard names.

    The items of a part are adjacent, so all parts in their order give all items in their order.
    """
    k, n = args.shard
    return items[(k - 1) * len(items) // n : k * len(items) // n]
