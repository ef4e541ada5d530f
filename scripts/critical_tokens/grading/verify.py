"""The grader `math_verify`: the library of that name, in worker processes with hard limits.

The library passes LaTeX to its own parser and to sympy, which may take any amount of time and
memory. So it runs in worker processes with a limit on memory, and a limit on the processor time of
every answer. With a limit on wall time, verdicts would depend on the load of the machine.

A verdict does not depend on earlier answers either:
- Work that a worker does once (imports, the parsing of a gold answer) counts for no answer.
- An answer that reaches a limit in a worker with earlier answers is graded again in a new worker.
- Python's hash seed is fixed, so all workers iterate over sets in the same order.

An answer that reaches a limit in a new worker has no verdict (None). These answers are counted.
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
from multiprocessing.process import BaseProcess
from typing import Any

from critical_tokens.core.records import Failure
from critical_tokens.grading.limits import MEMORY_GB, SECONDS, WORKERS

_LONGEST_COMPLETION = 20_000
# Answers that do not need the library: a plain number or fraction, at the end or in the last box.
_DECIMAL = r"-?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,5})?"
_VALUE = rf"({_DECIMAL}|-?\\frac\{{\d{{1,12}}\}}\{{\d{{1,12}}\}})"
_STATED = re.compile(rf"(?:[Tt]he answer is {_VALUE}\.?|final answer is \$?{_VALUE}\$?\. I hope it is correct\.?)\s*\Z")
_BOXED = re.compile(rf"\\boxed\{{{_VALUE}\}}")
_GOLD = re.compile(_VALUE)


class GraderError(Failure):
    """The library cannot be used; without this error, all answers would silently lack a verdict."""


class _OutOfTimeError(BaseException):
    """An answer reached its time limit. It is no Exception, because the library catches those."""


def verdicts(pairs: Sequence[tuple[str, str]], workers: Workers | None = None) -> list[bool | None]:
    """Whether each completion's answer equals its gold answer; None where a limit was reached.

    pairs: completions with their gold answers; equal pairs are graded once.
    workers: the workers to use; they keep running for later calls. With None, workers are started
        if they are needed, and stopped at the end of the call.
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
    """The verdict if both are plain numbers, which the library compares by value; else None."""
    if not _GOLD.fullmatch(gold):
        return None
    boxed = completion.rfind("boxed")
    places = [_STATED.search(completion[-120:])]
    if boxed >= 0:
        places.append(_BOXED.match(completion, boxed - 1))
    stated: set[str | None] = {next(filter(None, place.groups())) if place else None for place in places}
    if boxed >= 0 and "nswer is" not in completion[boxed:]:
        stated.discard(None)
    answer = stated.pop() if len(stated) == 1 else None
    if answer is None or (boxed >= 0 and places[1] is None):
        return None
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
    """A worker process and the pairs that it still has to grade; the first is the current pair."""

    process: BaseProcess
    connection: Connection
    share: deque[tuple[str, str]]
    ready: bool = False
    graded: int = 0

    def send(self) -> bool:
        """Send the process its share of the pairs; returns False if the process has died."""
        try:
            self.connection.send(list(self.share))
        except OSError:
            return False
        return True

    def end(self) -> None:
        self.connection.close()
        self.process.join()


class Workers:
    """Processes that each grade a share of the pairs; one that dies or reaches a limit is replaced.

    count: the number of processes; by default as many as the job has threads, which Snakemake says
        in OMP_NUM_THREADS, or else one per core, and at most limits.WORKERS.
    seconds: the limit on the processor time of an answer.
    """

    def __init__(self, count: int | None = None, seconds: float = SECONDS) -> None:
        self.count = count or min(_threads(), WORKERS)
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
        """The verdict of each pair (see `verdicts`); GraderError where a worker cannot start."""
        known: dict[tuple[str, str], bool | None] = {}
        # Pairs with the same gold answer are neighbours, so that a worker parses it once.
        ordered = sorted(pairs, key=lambda pair: pair[1])
        ends = [k * len(ordered) // self.count for k in range(self.count + 1)]
        started = [self._worker_for(deque(ordered[start:end])) for start, end in pairwise(ends) if end > start]
        running: dict[object, _Worker] = {worker.connection: worker for worker in started}
        while running:
            for connection in wait([worker.connection for worker in running.values()]):
                successor = self._receive(running.pop(connection), known)
                if successor is not None:
                    running[successor.connection] = successor
        return known

    def _receive(self, worker: _Worker, known: dict[tuple[str, str], bool | None]) -> _Worker | None:
        """Receive one message of a worker.

        Returns the worker that goes on with its share: the same worker, a new one in its place, or
        None where the share is done.
        """
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):  # the process reached its memory limit, or its hard limit on processor time
            message = None if worker.ready else "its process died"
        if not worker.ready:
            _check_start(message)
            worker.ready = True
            worker.send()  # if the process has died, its next message will show that
            return worker
        if message is None:
            worker.end()
            if worker.graded == 0:
                known[worker.share.popleft()] = None
            return self._start(worker.share) if worker.share else None
        known[worker.share.popleft()] = message
        worker.graded += 1
        if worker.share:
            return worker
        self._idle.append(worker)
        return None

    def _worker_for(self, share: deque[tuple[str, str]]) -> _Worker:
        """A worker that grades a share of the pairs: an idle one, or else a new one."""
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


def _threads() -> int:
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return int(stated) if stated.isdigit() and int(stated) else len(os.sched_getaffinity(0))


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for the processes that are started within the block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _check_start(problem: str) -> None:
    """Raise GraderError if the first message of a worker names a problem; it is empty if not."""
    if problem:
        what = f"the grader math_verify cannot start ({problem})"
        raise GraderError(f"{what}; `pip install -r envs/requirements.txt` installs the versions that it runs with")


def _work(connection: Connection, seconds: float) -> None:
    """The main function of a worker process: receives pairs, and sends a verdict for each."""
    import logging
    import resource
    import sys

    try:
        from math_verify import parse, verify

        logging.disable(logging.CRITICAL)
        # The first use of the library imports and builds much, which must not count for an answer.
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
    # Between dollar signs, the library parses any gold answer as LaTeX.
    parsed = lru_cache(lambda gold: _limited(lambda: parse(f"${gold}$", parsing_timeout=None), seconds))
    while True:
        try:
            pairs = connection.recv()
        except EOFError:
            return
        for completion, gold in pairs:
            verdict = _verdict(completion, parsed(gold), seconds, parse, verify)
            connection.send(verdict)
            if verdict is None:  # the interrupted comparison may have left the library in a broken state
                return


def _verdict(completion: str, gold: Any, seconds: float, parse: Any, verify: Any) -> bool | None:
    """The library's verdict on one pair; None where it takes too much time or memory."""
    if gold is None or gold is False:
        return gold
    # The answer stands at the end of a completion.
    tail = completion[-_LONGEST_COMPLETION:]
    return _limited(lambda: bool(verify(gold, parse(tail, parsing_timeout=None), timeout_seconds=None)), seconds)


def _limited(work: Callable[[], Any], seconds: float) -> Any:
    """The result of `work`; None where it takes too much time or memory, False where it fails."""
    import resource

    # The timer interrupts the next Python instruction. If none comes, because the time is spent
    # outside Python, the hard limit on processor time ends the process.
    used = sum(os.times()[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 2, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return work()
    except (_OutOfTimeError, MemoryError):
        return None
    except Exception:
        return False  # strange input makes the library raise errors of every kind; then nothing was found equal
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _out_of_time(number: int, frame: object) -> None:
    raise _OutOfTimeError
