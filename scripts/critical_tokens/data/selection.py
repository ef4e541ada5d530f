"""Which trajectories train what: the positive set, the negative set and the preference pairs
(paper, section 3.2 and 4.1).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa

from critical_tokens.core import batches
from critical_tokens.core.records import ArtifactError


@dataclass(frozen=True)
class Sample:
    """A graded sample of a problem: its number, its answer (None: none found) and whether it is
    correct.
    """

    sample_id: int
    answer: str | None
    correct: bool


@dataclass(frozen=True)
class Selection:
    """Sample ids chosen from one problem; `pair` is (chosen, rejected)."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    pair: tuple[int, int] | None


def select(
    samples: Sequence[Sample], rng: random.Random, coverage: float = 0.5, repeated_only: bool = False
) -> Selection:
    """What one problem contributes.

    Positive: one random correct sample. Negative: one random sample of each of the most frequent
    wrong answers, until the answers taken cover `coverage` of the wrong samples (counts 3, 2, 1, 1,
    1, 1, 1 give two). Pair: the positive sample and a random one of the most frequent wrong answer;
    None where a problem has no right or no wrong sample. Samples without an answer count as one
    wrong answer of their own. `repeated_only`: behind the most frequent wrong answer only those
    that were seen more than once are taken, as in the released code (pipeline.py:102).
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


@dataclass(frozen=True)
class GradedProblem:
    """A problem's samples in the order of the tables; `table` has their rows of the table
    "answers", still in Arrow.
    """

    problem_id: str
    samples: Sequence[Sample]
    table: pa.Table

    def answers(self, sample_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """The rows of some samples by sample id, as those of the table "answers"."""
        places = {sample.sample_id: place for place, sample in enumerate(self.samples)}
        wanted = pa.array([places[i] for i in sample_ids], pa.int64())
        return dict(zip(sample_ids, self.table.take(wanted).to_pylist(), strict=True))


def graded_problems(trajectories: Path, grades: Path, batch_rows: int) -> Iterator[GradedProblem]:
    """Problems with their samples, from the tables "trajectories" and "grades", of which
    `batch_rows` rows are held at a time.

    Raises ArtifactError, naming the problem, where the two tables do not have the same samples in
    the same order, where a sample stands twice, and where the rows of a problem are not neighbours.
    """
    answered = batches.read_problems(trajectories, "trajectories", batches.SCHEMAS["answers"].names, batch_rows)
    graded = batches.read_problems(grades, "grades", ("problem_id", "sample_id", "answer", "correct"), batch_rows)
    for (problem, table), (same, verdicts) in zip_longest(answered, graded, fillvalue=(None, None)):
        if problem != same or table["sample_id"] != verdicts["sample_id"]:
            what = f"its samples are not those of {trajectories} from problem {problem or same} on"
            raise ArtifactError(f"{grades}: {what}; delete {grades} and run again")
        samples = [Sample(row["sample_id"], row["answer"], row["correct"]) for row in verdicts.to_pylist()]
        if len({sample.sample_id for sample in samples}) < len(samples):
            raise ArtifactError(f"{trajectories}: has a sample of problem {problem} twice")
        yield GradedProblem(problem, samples, table)
