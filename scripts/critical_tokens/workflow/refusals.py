"""What a wrong config is told: a sentence per mistake, with the key, the value and what is allowed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from critical_tokens.core.records import Failure

# Mistakes that are told at once, and names that are listed as allowed: who reads more, mends none.
_MOST_MISTAKES, _MOST_NAMES = 10, 25


class ConfigError(Failure):
    """A config that names something that does not exist, or that does not fit together; a line per
    mistake.
    """


class Refusals:
    """Mistakes that were found, to be told together."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, sentence: str) -> None:
        """Remember a mistake; the same sentence only once."""
        if sentence not in self._found:
            self._found.append(sentence)

    def require(self, name: str, known: Iterable[str], key: str) -> bool:
        """Whether a name is among the known ones; a mistake where it is not."""
        known = sorted(known)
        if name in known:
            return True
        self.add(f"{key}: {name!r} is unknown{nearest(name, known)}; registered are {listed(known) or 'none'}")
        return False

    def raise_any(self) -> None:
        """Raise ConfigError where there are mistakes."""
        if not self._found:
            return
        told = self._found[:_MOST_MISTAKES]
        more = len(self._found) - len(told)
        if more:
            told = [*told[:-1], f"and {more + 1} more mistakes, which are told once these are mended"]
        raise ConfigError("\n".join(told))


@contextmanager
def collected() -> Iterator[Refusals]:
    """Mistakes found in the block, raised together at its end."""
    found = Refusals()
    yield found
    found.raise_any()


def nearest(name: str, known: Iterable[str]) -> str:
    """What points to the known name that is close to the given one; empty where none is."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(names: Iterable[str]) -> str:
    """Names side by side, the first ones where they are many."""
    names = list(names)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"


@contextmanager
def refusing() -> Iterator[None]:
    """End Snakemake with the message of a Failure alone, without the lines of the rules that
    Snakemake adds to exceptions.
    """
    try:
        yield
    except Failure as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(1)


@contextmanager
def warning() -> Iterator[None]:
    """Print the message of a Failure and go on; the same message once."""
    try:
        yield
    except Failure as error:
        if str(error) not in _TOLD:
            _TOLD.add(str(error))
            print(f"warning: {error}", file=sys.stderr)


_TOLD: set[str] = set()
