"""Selection of trajectories for training: positive and negative set and pairs (paper, 3.2, 4.1)."""

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
from critical_tokens.core.schemas import SCHEMAS


@dataclass(frozen=True)
class Sample:
    """A graded sample of a problem; `answer` is None where no answer was extracted."""

    sample_id: int
    answer: str | None
    correct: bool


@dataclass(frozen=True)
class Selection:
    """The sample ids that were selected from one problem; `pair` is (chosen, rejected)."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    pair: tuple[int, int] | None


def select(
    samples: Sequence[Sample], rng: random.Random, coverage: float = 0.5, repeated_only: bool = False
) -> Selection:
    """Select samples of one problem.

    positive: one random correct sample.
    negative: one random sample of each of the most frequent wrong answers, until these answers
        cover the share `coverage` of the wrong samples. With a coverage of 0.5, wrong answers that
        occur 3, 2, 1, 1, 1, 1 and 1 times give two samples.
    pair: the positive sample, and the negative sample of the most frequent wrong answer. None where
        a problem has no correct or no wrong sample.

    All samples without an answer count as having the same wrong answer. With `repeated_only`, every
    wrong answer but the most frequent one must occur more than once to be taken, as in the released
    code (pipeline.py:102).
    """
    right = [s for s in samples if s.correct]
    wrong: dict[str | None, list[Sample]] = {}
    for sample in samples:
        if not sample.correct:
            wrong.setdefault(sample.answer, []).append(sample)
    positive = (rng.choice(right).sample_id,) if right else ()
    counts = Counter({answer: len(group) for answer, group in wrong.items()})
    total, covered = sum(counts.values()), 0
    negative: list[int] = []
    for answer, count in counts.most_common():
        if covered >= coverage * total or (repeated_only and negative and count == 1):
            break
        negative.append(rng.choice(wrong[answer]).sample_id)
        covered += count
    pair = (positive[0], negative[0]) if positive and negative else None
    return Selection(positive, tuple(negative), pair)


@dataclass(frozen=True)
class GradedProblem:
    """The samples of a problem, in the order of the tables.

    table: the same samples as rows of the table "answers", in Arrow's format.
    """

    problem_id: str
    samples: Sequence[Sample]
    table: pa.Table

    def answers(self, sample_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Rows of the table "answers" for some samples, by sample id."""
        places = {sample.sample_id: place for place, sample in enumerate(self.samples)}
        wanted = pa.array([places[i] for i in sample_ids], pa.int64())
        return dict(zip(sample_ids, self.table.take(wanted).to_pylist(), strict=True))


def graded_problems(trajectories: Path, grades: Path, batch_rows: int) -> Iterator[GradedProblem]:
    """Yield each problem with its samples, from the tables "trajectories" and "grades".

    `batch_rows` rows of each table are held in memory at a time. Raises ArtifactError, naming the
    problem, where
    - the two tables do not have the same samples in the same order,
    - a table has a sample twice,
    - the rows of a problem are not next to each other.
    """
    answered = batches.read_problems(trajectories, "trajectories", SCHEMAS["answers"].names, batch_rows)
    graded = batches.read_problems(grades, "grades", ("problem_id", "sample_id", "answer", "correct"), batch_rows)
    missing: tuple[str, pa.Table] = ("", SCHEMAS["answers"].empty_table())
    for (problem, table), (same, verdicts) in zip_longest(answered, graded, fillvalue=missing):
        if problem != same or table["sample_id"] != verdicts["sample_id"]:
            what = f"its samples are not those of {trajectories} from problem {problem or same} on"
            raise ArtifactError(f"{grades}: {what}; delete {grades} and run again")
        samples = [Sample(row["sample_id"], row["answer"], row["correct"]) for row in verdicts.to_pylist()]
        if len({sample.sample_id for sample in samples}) < len(samples):
            raise ArtifactError(f"{trajectories}: has a sample of problem {problem} twice")
        yield GradedProblem(problem, samples, table)
