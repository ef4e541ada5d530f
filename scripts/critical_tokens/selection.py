"""Which trajectories train what: the positive set, the negative set and the preference pairs (paper, section 3.2 and 4.1)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A graded sample of a problem: its number, its answer (None: none found) and whether it is correct."""

    sample_id: int
    answer: str | None
    correct: bool


@dataclass(frozen=True)
class Selection:
    """Sample ids chosen from one problem; `pair` is (chosen, rejected)."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    pair: tuple[int, int] | None


def select(samples: Sequence[Sample], rng: random.Random, coverage: float = 0.5, repeated_only: bool = False) -> Selection:
    """What one problem contributes.

    Positive: one random correct sample. Negative: one random sample of each of the most frequent wrong answers, until the
    answers taken cover `coverage` of the wrong samples (counts 3, 2, 1, 1, 1, 1, 1 give two). Pair: the positive sample and
    a random one of the most frequent wrong answer; None where a problem has no right or no wrong sample. Samples without
    an answer count as one wrong answer of their own. `repeated_only`: behind the most frequent wrong answer only those that
    were seen more than once are taken, as in the released code (pipeline.py:102).
    """
    right = [s for s in samples if s.correct]
    wrong: dict[str | None, list[Sample]] = {}
    for sample in samples:
        if not sample.correct:
            wrong.setdefault(sample.answer, []).append(sample)
    positive = (rng.choice(right).sample_id,) if right else ()
    counts = Counter({answer: len(group) for answer, group in wrong.items()})
    total, covered, negative = sum(counts.values()), 0, []
    for answer, count in counts.most_common():
        if covered >= coverage * total or (repeated_only and negative and count == 1):
            break
        negative.append(rng.choice(wrong[answer]).sample_id)
        covered += count
    pair = (positive[0], negative[0]) if positive and negative else None
    return Selection(positive, tuple(negative), pair)
