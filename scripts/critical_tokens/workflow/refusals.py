"""How mistakes in a config are reported: a sentence each with the key, the value and the remedy."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from critical_tokens.core.records import Failure

# The most mistakes that are shown at once, and the most names that a message lists as allowed.
_MOST_MISTAKES, _MOST_NAMES = 10, 25


class ConfigError(Failure):
    """Mistakes in a config; the message has a line for each."""


class Refusals:
    """A collection of mistakes that are reported together."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, sentence: str) -> None:
        """Add the sentence of a mistake, unless it was added before."""
        if sentence not in self._found:
            self._found.append(sentence)

    def require(self, name: str, known: Iterable[str], key: str) -> bool:
        """Whether `name` is known; if it is not, add a mistake of the key that names it."""
        known = sorted(known)
        if name in known:
            return True
        self.add(f"{key}: {name!r} is unknown{nearest(name, known)}; registered are {listed(known) or 'none'}")
        return False

    def raise_any(self) -> None:
        """Raise ConfigError if there are mistakes."""
        if not self._found:
            return
        shown = self._found[:_MOST_MISTAKES]
        more = len(self._found) - len(shown)
        if more:
            shown = [*shown[:-1], f"and {more + 1} more mistakes, which are shown when these are corrected"]
        raise ConfigError("\n".join(shown))


@contextmanager
def collected() -> Iterator[Refusals]:
    """Collect the mistakes of a block, and raise ConfigError with all of them at its end."""
    found = Refusals()
    yield found
    found.raise_any()


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is most similar to `name`; empty if none is similar."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(names: Iterable[str]) -> str:
    """The names, separated by commas; of many names the first ones and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"


@contextmanager
def refusing() -> Iterator[None]:
    """End Snakemake with only the message of a Failure.

    Snakemake would add the lines of the rules in which the exception was raised.
    """
    try:
        yield
    except Failure as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(1)


@contextmanager
def warning() -> Iterator[None]:
    """Print the message of a Failure as a warning and go on; the same message only once."""
    try:
        yield
    except Failure as error:
        if str(error) not in _WARNED:
            _WARNED.add(str(error))
            print(f"warning: {error}", file=sys.stderr)


_WARNED: set[str] = set()
