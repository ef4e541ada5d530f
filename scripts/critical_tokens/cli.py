"""The way every program starts."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable

from critical_tokens.records import Failure


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a program's docstring and its defaults."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def run(main: Callable[[], None]) -> None:
    """Run a program; what the user can mend is a message, not a traceback."""
    # Importing torch and transformers makes a million objects, and looking for garbage among them takes a fifth of the
    # start-up time. The collector goes on, three hundred times more rarely.
    gc.set_threshold(200_000, 50, 100)
    try:
        main()
        # Or else it looks through all of them once more at exit, for most of a second.
        gc.freeze()
    except Failure as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
