"""What a pocket problem is, and how the splits are kept apart.

A world (pocket.gsm, pocket.math) draws *contents*: the numbers and operations of a problem without
any wording. A content has a signature, and the hash of the signature alone decides the split. So no
test problem, in whatever wording, occurs in the train split or in the pretraining corpus.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from critical_tokens.pocket.language import Solution

SPLITS = {"pretrain": range(70), "train": range(70, 84), "validation": range(84, 87), "test": range(87, 100)}


@dataclass(frozen=True)
class Trap:
    """A phrasing that the corpus misreads: its name and the share of writers who do (0..1)."""

    name: str
    rate: float


@dataclass(frozen=True)
class Problem:
    """A worded problem with its correct solutions and, if it has a trap, the solutions of those who
    misread it.

    `signature` names the mathematical content: equal for all wordings of it. `answer` is the gold
    answer as text.
    """

    question: str
    answer: str
    signature: str
    solution: Solution
    trap: Trap | None = None
    misreading: Solution | None = None


def split_of(signature: str) -> str:
    """The split a content belongs to, from the hash of its signature."""
    bucket = int.from_bytes(hashlib.sha256(signature.encode()).digest()[:8], "big") % 100
    return next(name for name, buckets in SPLITS.items() if bucket in buckets)


def draw_problems(draw: Callable[[random.Random], Problem | None], split: str, seed: int) -> Iterator[Problem]:
    """An endless stream of a world's problems of one split; `draw` may return None for an
    unsuitable draw.
    """
    rng = random.Random(f"{seed}/{split}")
    while True:
        problem = draw(rng)
        if problem is not None and split_of(problem.signature) == split:
            yield problem


def distinct_problems(draw: Callable[[random.Random], Problem | None], split: str, seed: int, n: int) -> list[Problem]:
    """The first `n` problems with different signatures. Raises ValueError if the world seems to run
    out of them.
    """
    found: dict[str, Problem] = {}
    for tries, problem in enumerate(draw_problems(draw, split, seed)):
        found.setdefault(problem.signature, problem)
        if len(found) == n:
            return list(found.values())
        if tries > 200 * n + 10_000:
            raise ValueError(
                f"only {len(found)} distinct {split} problems exist or are easily found, {n} were asked for"
            )
    raise AssertionError("the stream of problems is endless")
