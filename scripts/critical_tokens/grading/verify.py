"""The grader `math_verify`: the library of that name, in worker processes with hard limits.

The library hands LaTeX to its own parser and to sympy, which may take any time and memory. So it
runs in workers with a limit on memory, and on processor time for every answer: processor time and
not wall time, so that a verdict does not depend on the machine's load.

A verdict does not depend on the answers before it either. What a worker pays once (imports, a gold
answer's parsing) counts for no answer. An answer that reaches a limit in a worker that has graded
others is graded again in a new one. All workers go through sets in the same order. An answer that
reaches a limit in a new worker has no verdict (None) and is counted as such.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from typing import Any

from critical_tokens.core.records import Failure
from critical_tokens.grading.limits import MEMORY_GB, SECONDS, WORKERS

_LONGEST_COMPLETION = 20_000
# Answers that need no library: a plain number or fraction, stated at the end or in the last box.
_DECIMAL = r"-?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,5})?"
_VALUE = rf"({_DECIMAL}|-?\\frac\{{\d{{1,12}}\}}\{{\d{{1,12}}\}})"
_STATED = re.compile(rf"(?:[Tt]he answer is {_VALUE}\.?|final answer is \$?{_VALUE}\$?\. I hope it is correct\.?)\s*\Z")
_BOXED = re.compile(rf"\\boxed\{{{_VALUE}\}}")
_GOLD = re.compile(_VALUE)


class GraderError(Failure):
    """The library cannot be used: without it no answer would have a verdict, and nobody would be
    told.
    """


class _OutOfTimeError(BaseException):
    """Not an Exception, which the library catches."""


def verdicts(pairs: Sequence[tuple[str, str]], workers: Workers | None = None) -> list[bool | None]:
    """Whether each completion's answer equals its gold answer; None where a limit was reached.
    Equal pairs are graded once.

    `workers` are used again by later calls; without them, some are started and stopped if any are
    needed.
    """
    known: dict[tuple[str, str], bool | None] = {}
    hard = []
    for pair in dict.fromkeys(pairs):
        plain = _plain(*pair)
        if plain is None:
            hard.append(pair)
        else:
            known[pair] = plain
    if hard and workers is not None:
        known |= workers.grade(hard)
    elif hard:
        with Workers() as own:
            known |= own.grade(hard)
    return [known[pair] for pair in pairs]


def _plain(completion: str, gold: str) -> bool | None:
    """The verdict where both are plain numbers, which the library compares by value; None for all
    else.
    """
    if not _GOLD.fullmatch(gold):
        return None
    boxed = completion.rfind("boxed")
    places = [_STATED.search(completion[-120:])]
    if boxed >= 0:
        places.append(_BOXED.match(completion, boxed - 1))
    stated = {next(filter(None, place.groups())) if place else None for place in places}
    if boxed >= 0 and "nswer is" not in completion[boxed:]:
        stated.discard(None)
    if len(stated) != 1 or None in stated or (boxed >= 0 and places[1] is None):
        return None
    answer = stated.pop()
    if ("frac" in answer and "." in gold) or ("frac" in gold and "." in answer):
        return None  # the library rounds before it compares these
    left, right = _value(answer), _value(gold)
    return None if left is None or right is None else left == right


def _value(text: str) -> Fraction | None:
    if "frac" not in text:
        return Fraction(text.replace(",", ""))
    above, below = map(int, re.findall(r"\d+", text))
    return None if below == 0 else Fraction(-above if text.startswith("-") else above, below)


@dataclass
class _Worker:
    """A process and the pairs that it has still to grade, the one at hand first."""

    process: Any
    connection: Connection
    share: deque[tuple[str, str]]
    ready: bool = False
    graded: int = 0

    def send(self) -> bool:
        """Give the process its share; False where it is dead."""
        try:
            self.connection.send(list(self.share))
        except OSError:
            return False
        return True

    def end(self) -> None:
        self.connection.close()
        self.process.join()


class Workers:
    """Processes that grade a share of the pairs each. One that died or reached a limit is replaced."""

    def __init__(self, count: int | None = None, seconds: float = SECONDS) -> None:
        self.count = count or min(len(os.sched_getaffinity(0)), WORKERS)
        self._seconds = seconds
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._idle:
            worker.end()
        self._idle.clear()

    def grade(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bool | None]:
        """The verdict of each pair, see `verdicts`. Raises GraderError where a worker cannot start."""
        known: dict[tuple[str, str], bool | None] = {}
        ordered = sorted(pairs, key=lambda pair: pair[1])  # neighbours have the same gold answer, which is parsed once
        ends = [k * len(ordered) // self.count for k in range(self.count + 1)]
        started = [self._put_to(deque(ordered[start:end])) for start, end in pairwise(ends) if end > start]
        running = {worker.connection: worker for worker in started}
        while running:
            for connection in wait(list(running)):
                worker = running.pop(connection)
                follower = self._hear(worker, known)
                if follower is not None:
                    running[follower.connection] = follower
        return known

    def _hear(self, worker: _Worker, known: dict[tuple[str, str], bool | None]) -> _Worker | None:
        """Take what a worker says. Returns who goes on with its share: itself, a new one, or nobody
        where it is done.
        """
        try:
            said = worker.connection.recv()
        except (EOFError, OSError):  # dead: of its limit on memory, or on a time that Python could not act on
            said = None if worker.ready else "its process died"
        if not worker.ready:
            _check_start(said)
            worker.ready = True
            worker.send()  # where it is dead, the next word says so
            return worker
        if said is None:
            worker.end()
            if worker.graded == 0:
                known[worker.share.popleft()] = None
            return self._start(worker.share) if worker.share else None
        known[worker.share.popleft()] = said
        worker.graded += 1
        if worker.share:
            return worker
        self._idle.append(worker)
        return None

    def _put_to(self, share: deque[tuple[str, str]]) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            worker.share = share
            if worker.send():
                return worker
            worker.end()
        return self._start(share)

    def _start(self, share: deque[tuple[str, str]]) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._seconds), daemon=True)
        try:
            with _environment("PYTHONHASHSEED", "0"):
                process.start()
        except OSError as error:
            _check_start(f"{type(error).__name__}: {error}")
        theirs.close()
        return _Worker(process, ours, share)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """The processes that are started within have a variable of their own."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _check_start(said: str) -> None:
    """The first word of a worker: none where it is ready, else what is wrong."""
    if said:
        what = f"the grader math_verify cannot start ({said})"
        raise GraderError(f"{what}; `pip install -r envs/requirements.txt` installs the versions that it runs with")


def _work(connection: Connection, seconds: float) -> None:
    import logging
    import resource
    import sys

    try:
        from math_verify import parse, verify

        logging.disable(logging.CRITICAL)
        # What is imported or built at first use is none of an answer's time.
        first, second = (parse(text, parsing_timeout=None) for text in (r"$\frac{1}{2}$", r"so \boxed{0.5}"))
        if not verify(first, second, timeout_seconds=None):
            raise ImportError("it does not find 1/2 equal to 0.5")
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send("")
    sys.setrecursionlimit(1000)
    limit = int(MEMORY_GB * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPROF, _out_of_time)
    # In dollars a gold answer is read as LaTeX, whatever it is.
    parsed = lru_cache(lambda gold: _limited(lambda: parse(f"${gold}$", parsing_timeout=None), seconds))
    while True:
        try:
            pairs = connection.recv()
        except EOFError:
            return
        for completion, gold in pairs:
            verdict = _verdict(completion, parsed(gold), seconds, parse, verify)
            connection.send(verdict)
            if verdict is None:  # what was stopped midway may have left anything behind
                return


def _verdict(completion: str, gold: Any, seconds: float, parse: Any, verify: Any) -> bool | None:
    """The library's verdict on one pair, or None where it takes too long or too much."""
    if gold is None or gold is False:
        return gold
    # The answer stands at the end of a completion.
    tail = completion[-_LONGEST_COMPLETION:]
    return _limited(lambda: bool(verify(gold, parse(tail, parsing_timeout=None), timeout_seconds=None)), seconds)


def _limited(work: Callable[[], Any], seconds: float) -> Any:
    """What the work returns; None where it takes too long or too much, False where the library
    fails.
    """
    import resource

    # The timer acts at the next instruction of Python; should none come, the limit ends the
    # process.
    used = sum(os.times()[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 2, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return work()
    except (_OutOfTimeError, MemoryError):
        return None
    except Exception:
        return False  # the library's errors on strange input are of every kind: no answer was found equal
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _out_of_time(number: int, frame: object) -> None:
    raise _OutOfTimeError
