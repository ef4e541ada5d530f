"""The way every program starts."""

from __future__ import annotations

import argparse
import errno
import gc
import os
import re
import sys
from collections.abc import Callable
from typing import TypeVar

from critical_tokens.core.records import Failure

T = TypeVar("T")

# What helps where the system refuses something.
_HELP = {
    errno.ENOSPC: "free some space, or put the results elsewhere (pathvars in the config)",
    errno.EDQUOT: "free some space, or put the results elsewhere (pathvars in the config)",
    errno.EACCES: "its folder must be readable, and writable for what is made there",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), or write to another file system",
    errno.EROFS: "run in a folder of your own: snakemake --directory FOLDER",
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
        "a file stands where a folder belongs, or a folder where a file does",
    ),
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
_IN_WORDS = re.compile(r"\(os error (\d+)\)")
# PyTorch's words for a checkpoint that it could not write to its end.
_TORN = ("PytorchStreamWriter failed writing file", "] . unexpected pos")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a program's docstring and its defaults."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_about(p: argparse.ArgumentParser) -> None:
    """--about."""
    p.add_argument(
        "--about",
        nargs="+",
        type=_named,
        default=[],
        metavar="NAME=VALUE",
        help="what the output belongs to: model, dataset, method, seed …; it is written into the output",
    )


def about(args: argparse.Namespace) -> dict[str, str]:
    """What `add_about` was given."""
    return dict(args.about)


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form seed=1")
    return name, value


def optional(kind: Callable[[str], T]) -> Callable[[str], T | None]:
    """The type of an argument that may be None, as the config writes null."""

    def parse(text: str) -> T | None:
        return None if text.lower() == "none" else kind(text)

    parse.__name__ = getattr(kind, "__name__", "value")  # argparse names it in messages
    return parse


def truth(text: str) -> bool:
    """The type of an argument that is true or false."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def run(main: Callable[[], None]) -> None:
    """Run a program; what the user can mend is a message, not a traceback."""
    # Importing torch and transformers makes a million objects, and looking for garbage among them
    # takes a fifth of the start-up time. The collector goes on, three hundred times more rarely.
    gc.set_threshold(200_000, 50, 100)
    for stream in (sys.stdout, sys.stderr):
        # A log is UTF-8 whatever the locale is. A terminal that knows few characters shows the
        # others as their numbers.
        stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")
    try:
        main()
        # Or else it looks through all of them once more at exit, for most of a second.
        gc.freeze()
    except Failure as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        # Whoever read the output is gone; there is nobody to tell, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        number, name = _errno(error), getattr(error, "filename", None)
        if number not in _HELP and not (number and name):
            raise
        what = f"{name or 'a file'}: {os.strerror(number)}"
        sys.exit(f"error: {what}{'; ' if number in _HELP else ''}{_HELP.get(number, '')}")


def _errno(error: Exception) -> int | None:
    """What the system said when something failed, which libraries in Rust (safetensors) and PyTorch
    put into words.
    """
    if isinstance(error, OSError):
        return error.errno
    if any(words in str(error) for words in _TORN):
        return errno.ENOSPC
    stated = _IN_WORDS.search(str(error))
    return int(stated[1]) if stated else None
