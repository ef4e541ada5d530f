"""How every program starts, reads its arguments, and reports mistakes."""

from __future__ import annotations

import argparse
import errno
import gc
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from critical_tokens.core.records import Failure

T = TypeVar("T")

# What the user can do when the operating system refuses something.
_REMEDIES = {
    errno.ENOSPC: "free some space, or put the results elsewhere (pathvars in the config)",
    errno.EDQUOT: "free some space, or put the results elsewhere (pathvars in the config)",
    errno.EACCES: "its folder must be readable, and also writable if the program writes there",
    errno.EFBIG: "raise the limit of the file size (ulimit -f), or write to another file system",
    errno.EROFS: "run in a folder of your own: snakemake --directory FOLDER",
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
        "there is a file where a folder is needed, or a folder where a file is needed",
    ),
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
_LESS_MEMORY = (
    "lower trajectories: max_batch_tokens (sampling, scoring) or batch_size (training), take fewer new tokens, "
    "a smaller model or dtype: bfloat16, or give the job more memory"
)
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
# Parts of PyTorch's messages when it cannot write a checkpoint completely.
_INCOMPLETE = ("PytorchStreamWriter failed writing file", "] . unexpected pos")

# The tables that programs read, by the name of their option.
_TABLES = {
    "problems": "table of the problems, Parquet",
    "trajectories": "table of the sampled answers, Parquet",
    "grades": "table of the graded answers, Parquet",
    "pairs": "table of the preference pairs, each a chosen and a rejected answer, Parquet",
    "rollouts": "table of the rollout scores of the rejected answers' tokens, Parquet",
    "critical": "table of the critical tokens, a row per examined answer, Parquet",
    "contrast": "table of the contrastive scores s_t of the rejected answers' tokens, Parquet",
    "reference": "table of the log-probabilities of the pairs' tokens under the reference model, Parquet",
    "replacement": "table of the continuations with the critical token kept and replaced, Parquet",
}


class Described(Protocol):
    """An entry of a registry, such as an objective or an engine."""

    @property
    def description(self) -> str:
        """A phrase that says what it is."""
        ...


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser whose help begins with the program's docstring."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_tables(p: argparse.ArgumentParser, *names: str) -> None:
    """Add a required option for every table that the program reads, such as --problems FILE."""
    for name in names:
        p.add_argument(f"--{name}", type=Path, required=True, metavar="FILE", help=_TABLES[name])


def described(entries: Mapping[str, Described]) -> str:
    """The names and descriptions of a registry's entries, for the help text of an option."""
    return "; ".join(f"{name}: {entry.description}" for name, entry in entries.items()).replace("%", "%%")


def flags(**settings: Any) -> str:
    """Settings as quoted command-line flags, in the given order, without those that are None.

    For example, top_p=0.9 becomes "--top-p 0.9".
    """
    words: list[str] = []
    for name, value in settings.items():
        if value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name.replace('_', '-')}", *(str(v) for v in values)]
    return shlex.join(words)


def add_about(p: argparse.ArgumentParser) -> None:
    """Add --about."""
    p.add_argument(
        "--about",
        nargs="+",
        type=_named,
        default=[],
        metavar="NAME=VALUE",
        help="what the output belongs to, such as model, dataset, method and seed; it is written into the output",
    )


def about(args: argparse.Namespace) -> dict[str, str]:
    """The values of --about, by name."""
    return dict(args.about)


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} must have the form NAME=VALUE, e.g. seed=1")
    return name, value


def optional(kind: Callable[[str], T]) -> Callable[[str], T | None]:
    """The type of an argument that may also be None, which rules write for null in the config."""

    def parse(text: str) -> T | None:
        return None if text == "None" else kind(text)

    # argparse writes this name in its messages.
    parse.__name__ = getattr(kind, "__name__", "value")
    return parse


def truth(text: str) -> bool:
    """The type of an argument that is true or false."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} must be true or false")
    return text.lower() == "true"


def run(main: Callable[[], None]) -> None:
    """Run a program. Errors that the user can correct end it with a message, not a traceback."""
    # Importing torch and transformers makes a million objects, and the search for garbage among
    # them takes a fifth of the start-up time. The garbage collector still runs, but less often.
    gc.set_threshold(200_000, 50, 100)
    # PyTorch's threads wait for each other many times in every layer. By default they wait in a
    # busy loop, which makes a job many times slower as soon as other processes need the cores, too.
    # OpenMP reads the variable when PyTorch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        _write_utf8(stream)
    try:
        main()
        # Without this the collector would look through all objects once more at exit, which takes
        # most of a second.
        gc.freeze()
    except Failure as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        # The process that read the output has ended, so nothing must be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if _out_of_memory(error):
            what = str(error).strip().split("\n")[0][:200]
            sys.exit(f"error: the memory is too small ({what}); {_LESS_MEMORY}")
        number, name = _errno(error), getattr(error, "filename", None)
        if number is None or (number not in _REMEDIES and not (number and name)):
            raise
        what = f"{name or 'a file'}: {os.strerror(number)}"
        sys.exit(f"error: {what}{'; ' if number in _REMEDIES else ''}{_REMEDIES.get(number, '')}")


def _out_of_memory(error: Exception) -> bool:
    """Whether Python or PyTorch, on a GPU or on the CPU, got no memory that it asked for."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "allocate memory" in str(error))


def _write_utf8(stream: TextIO) -> None:
    """Make a log UTF-8 whatever the locale is; a terminal shows unknown characters as codes."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _errno(error: Exception) -> int | None:
    """The operating system's error number; None for other errors.

    Libraries in Rust (safetensors) and PyTorch give it only in the text of their messages.
    """
    if isinstance(error, OSError):
        return error.errno
    if any(words in str(error) for words in _INCOMPLETE):
        return errno.ENOSPC
    stated = _OS_ERROR.search(str(error))
    return int(stated[1]) if stated else None
