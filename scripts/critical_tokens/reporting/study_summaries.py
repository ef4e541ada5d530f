"""Summaries over seeds: accuracy, its spread and interval, and the gaps between methods over the
same problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critical_tokens.core import batches, records
from critical_tokens.reporting import estimates


@dataclass(frozen=True)
class Evaluation:
    """One method's evaluation in one cell with one seed: the share of correct answers to each
    problem.
    """

    model: str
    dataset: str
    method: str
    seed: int
    shares: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100 * sum(self.shares.values()) / len(self.shares)


def read_evaluation(path: Path) -> Evaluation:
    """An evaluation from a table of grades, one or several answers per problem."""
    about = records.read_about(path, ("model", "dataset", "method", "seed"))
    answers: dict[str, list[bool]] = {}
    for row in batches.read_rows(path, "grades", ("problem_id", "correct")):
        answers.setdefault(row["problem_id"], []).append(row["correct"])
    if not answers:
        raise records.ArtifactError(f"{path}: has no answers")
    return Evaluation(
        about["model"],
        about["dataset"],
        about["method"],
        int(about["seed"]),
        {name: sum(a) / len(a) for name, a in answers.items()},
    )


def summary_rows(runs: Sequence[Evaluation], against: str | None = None) -> list[dict[str, Any]]:
    """A row per cell and method: mean over seeds, their standard deviation, a 95 % interval, and
    the gap to method `against`.

    All numbers in percent. Intervals resample problems and seeds (estimates.crossed_interval); gaps
    are of the same problems and, where both methods have several, of the same seeds. Raises Failure
    for a run that is there twice: one seed would count as two, without any spread between them.
    """
    groups: dict[tuple[str, str, str], list[Evaluation]] = {}
    for run in runs:
        group = groups.setdefault((run.model, run.dataset, run.method), [])
        if run.seed in [other.seed for other in group]:
            what = f"{run.method} of {run.model} on {run.dataset} with seed {run.seed} is there twice"
            raise records.Failure(f"{what}; a study takes each run once")
        group.append(run)
    rows = []
    for (model, dataset, method), own in groups.items():
        accuracies = [run.accuracy for run in own]
        mean = sum(accuracies) / len(own)
        spread = (sum((a - mean) ** 2 for a in accuracies) / (len(own) - 1)) ** 0.5 if len(own) > 1 else None
        names = sorted(own[0].shares)
        low, high = estimates.crossed_interval([[run.shares[name] for name in names] for run in own])
        row = {
            "model": model, "dataset": dataset, "method": method, "seeds": len(own), "problems": len(names), "mean": mean,
            "deviation": spread, "low": 100 * low, "high": 100 * high,
        }  # fmt: skip
        others = groups.get((model, dataset, against)) if against else None
        if others:
            row |= {"against": against} | (_gap(own, others) if method != against else {})
        rows.append(row)
    return rows


def _gap(first: Sequence[Evaluation], second: Sequence[Evaluation]) -> dict[str, float]:
    """first - second; a method with one run is compared with every run of the other."""
    n = max(len(first), len(second))
    pairs = [(first[i % len(first)], second[i % len(second)]) for i in range(n)]
    names = sorted(first[0].shares.keys() & second[0].shares.keys())
    differences = [[a.shares[name] - b.shares[name] for name in names] for a, b in pairs]
    low, high = estimates.crossed_interval(differences)
    return {"gap": 100 * sum(map(sum, differences)) / (n * len(names)), "gap_low": 100 * low, "gap_high": 100 * high}


def pass_at_k_rows(path: Path) -> list[dict[str, Any]]:
    """pass@k of a table "replacement" by arm and k, with 95 % intervals over trajectories;
    ArtifactError for an empty one.
    """
    table = records.read_frame(path, "replacement", ("problem_id", "arm", "correct"))
    if table.empty:
        raise records.ArtifactError(f"{path}: no trajectory had a critical token to replace")
    rows = []
    for arm, of_arm in table.groupby("arm", sort=True):
        counts = of_arm.groupby("problem_id")["correct"].agg(["sum", "size"])
        for k in range(1, int(counts["size"].min()) + 1):
            values = [estimates.pass_at_k(int(n), int(c), k) for c, n in counts.to_numpy()]
            low, high = estimates.mean_interval(values)
            own = {"arm": arm, "k": k, "trajectories": len(values), "pass_at_k": sum(values) / len(values)}
            rows.append(own | {"low": low, "high": high})
    return rows
