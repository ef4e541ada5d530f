"""What a pocket problem is, and how the splits are kept apart.

The signature of a problem names its mathematical content (numbers and operations) without any
wording. The hash of the signature alone decides the split. So no test problem occurs in the train
split or in the pretraining corpus, not even in another wording.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from critical_tokens.pocket.language import Solution

# The buckets of each split: the hash of a signature, modulo 100.
SPLITS = {"pretrain": range(70), "train": range(70, 84), "validation": range(84, 87), "test": range(87, 100)}


@dataclass(frozen=True)
class Trap:
    """A phrasing that is often misread: its name and the share of writers who misread it (0..1)."""

    name: str
    rate: float


@dataclass(frozen=True)
class Problem:
    """A problem in words.

    question: the text of the problem.
    answer: the gold answer, as text.
    signature: names the mathematical content; it is the same for all wordings.
    solution: the correct solutions.
    trap: the phrasing that is often misread, if the problem has one.
    misreading: the solutions of writers who misread the trap.
    """

    question: str
    answer: str
    signature: str
    solution: Solution
    trap: Trap | None = None
    misreading: Solution | None = None


def split_of(signature: str) -> str:
    """The split of a problem, from the hash of its signature."""
    bucket = int.from_bytes(hashlib.sha256(signature.encode()).digest()[:8], "big") % 100
    return next(name for name, buckets in SPLITS.items() if bucket in buckets)


def draw_problems(draw: Callable[[random.Random], Problem | None], split: str, seed: int) -> Iterator[Problem]:
    """Yield problems of one split without end; where `draw` returns None, it is called again."""
    rng = random.Random(f"{seed}/{split}")
    while True:
        problem = draw(rng)
        if problem is not None and split_of(problem.signature) == split:
            yield problem


def distinct_problems(draw: Callable[[random.Random], Problem | None], split: str, seed: int, n: int) -> list[Problem]:
    """The first `n` drawn problems with different signatures.

    Raises ValueError where there seem to be fewer such problems.
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
