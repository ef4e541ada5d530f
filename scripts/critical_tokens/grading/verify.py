"""The grader `math_verify`: the library of that name, in worker processes with hard limits.

The library hands LaTeX to its own parser and to sympy, which may take any time and memory. So it runs in workers of which each
has a limit on memory, and on processor time for every answer: processor time and not wall time, so that a verdict does not
depend on the machine's load. An answer that reaches a limit has no verdict (None) and is counted as such.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from typing import Any

SECONDS = 5.0
MEMORY_GB = 2.0
_LONGEST_COMPLETION = 20_000
# Answers that need no library: a plain number, stated at the end or in the last box.
_VALUE = r"(-?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,5})?)"
_STATED = re.compile(rf"(?:[Tt]he answer is {_VALUE}\.?|final answer is \$?{_VALUE}\$?\. I hope it is correct\.?)\s*\Z")
_BOXED = re.compile(rf"\\boxed\{{{_VALUE}\}}")
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,5})?")


class _OutOfTimeError(BaseException):
    """Not an Exception, which the library catches."""


def verdicts(pairs: Sequence[tuple[str, str]], workers: int | None = None) -> list[bool | None]:
    """Whether each completion's answer equals its gold answer; None where a limit was reached. Equal pairs are graded once."""
    known: dict[tuple[str, str], bool | None] = {}
    hard = []
    for pair in dict.fromkeys(pairs):
        plain = _plain(*pair)
        if plain is None:
            hard.append(pair)
        else:
            known[pair] = plain
    known |= _Workers(workers or min(os.cpu_count() or 1, 8)).grade(hard) if hard else {}
    return [known[pair] for pair in pairs]


def _plain(completion: str, gold: str) -> bool | None:
    """The verdict where both are plain numbers, which the library compares by value; None for all else."""
    gold = gold.replace(",", "")
    if not _NUMBER.fullmatch(gold):
        return None
    boxed = completion.rfind("boxed")
    places = [_STATED.search(completion[-120:])]
    if boxed >= 0:
        places.append(_BOXED.match(completion, boxed - 1))
    values = {next(filter(None, place.groups())) if place else None for place in places}
    if boxed >= 0 and "nswer is" not in completion[boxed:]:
        values.discard(None)
    if len(values) != 1 or None in values or (boxed >= 0 and places[1] is None):
        return None
    return Fraction(values.pop().replace(",", "")) == Fraction(gold)


class _Workers:
    """Processes that grade a share of the pairs each; one that dies is replaced, and the pair that killed it has no verdict."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._context = multiprocessing.get_context("spawn")

    def grade(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bool | None]:
        known: dict[tuple[str, str], bool | None] = {}
        ordered = sorted(pairs, key=lambda pair: pair[1])  # neighbours have the same gold answer, which is parsed once
        ends = [k * len(ordered) // self._count for k in range(self._count + 1)]
        shares = [share for start, end in pairwise(ends) if (share := ordered[start:end])]
        running = dict(self._start(share) for share in shares)
        while running:
            for connection in wait(list(running)):
                process, share = running[connection]
                try:
                    known[share.pop(0)] = connection.recv()
                    finished = not share
                except EOFError:  # the worker is dead: its limit on memory, or a limit on time that Python could not act on
                    known[share.pop(0)] = None
                    finished = True
                if finished:
                    del running[connection]
                    connection.close()
                    process.join()
                    if share:
                        running.update([self._start(share)])
        return known

    def _start(self, share: list[tuple[str, str]]) -> tuple[Connection, tuple[Any, list[tuple[str, str]]]]:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(theirs, list(share)), daemon=True)
        process.start()
        theirs.close()
        return ours, (process, share)


def _work(connection: Connection, pairs: Sequence[tuple[str, str]]) -> None:
    import logging
    import resource
    import sys

    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(1000)
    limit = int(MEMORY_GB * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPROF, _out_of_time)
    parsed = lru_cache(lambda gold: parse(f"${gold}$", parsing_timeout=None))
    for completion, gold in pairs:
        # The soft limit acts at the next instruction of Python; should none come, the hard one ends the process.
        used = sum(os.times()[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + 3 * SECONDS) + 1, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            answer = parse(completion[:_LONGEST_COMPLETION], parsing_timeout=None)
            # In dollars a gold answer is read as LaTeX, whatever it is.
            found: bool | None = bool(verify(parsed(gold), answer, timeout_seconds=None))
        except (_OutOfTimeError, MemoryError):
            found = None
        except Exception:
            found = False
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send(found)
    connection.close()


def _out_of_time(number: int, frame: object) -> None:
    raise _OutOfTimeError
