"""The numbers of the studies, of the search over learning rates, and of Figures 2, 5 and 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from critical_tokens.core import batches, records
from critical_tokens.reporting import estimates


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one method in one cell with one seed.

    shares: the share of correct answers to each problem, by problem id.
    """

    model: str
    dataset: str
    method: str
    seed: int
    shares: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        """Mean over the problems, in percent."""
        return 100 * sum(self.shares.values()) / len(self.shares)


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation from a table of grades, with one or several answers per problem.

    Raises ArtifactError if it has no answers.
    """
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
    """A row per cell and method, with the accuracy over seeds and the gap to the method `against`.

    Columns of the result, in percent where they are accuracies:
    model, dataset, method: what the row is about.
    seeds, problems: how many there are.
    mean, deviation: mean and standard deviation of the accuracy over seeds.
    low, high: 95 % interval that resamples problems and seeds (`estimates.crossed_interval`).
    against: the method that this one is compared with.
    gap, gap_low, gap_high: mean difference to that method and its interval. Both are compared on
        the same problems and, if both have several seeds, in pairs of seeds.

    Raises Failure if a run occurs twice, because one seed would then count as two seeds without any
    difference between them.
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
        row: dict[str, Any] = {
            "model": model, "dataset": dataset, "method": method, "seeds": len(own), "problems": len(names),
            "mean": mean, "deviation": spread, "low": 100 * low, "high": 100 * high,
        }  # fmt: skip
        others = groups.get((model, dataset, against)) if against else None
        if others:
            row |= {"against": against} | (_gap(own, others) if method != against else {})
        rows.append(row)
    return rows


def _gap(first: Sequence[Evaluation], second: Sequence[Evaluation]) -> dict[str, float]:
    """The mean difference first - second with its interval, in percent.

    A method with one run is compared with every run of the other method.
    """
    n = max(len(first), len(second))
    pairs = [(first[i % len(first)], second[i % len(second)]) for i in range(n)]
    names = sorted(first[0].shares.keys() & second[0].shares.keys())
    differences = [[a.shares[name] - b.shares[name] for name in names] for a, b in pairs]
    low, high = estimates.crossed_interval(differences)
    return {"gap": 100 * sum(map(sum, differences)) / (n * len(names)), "gap_low": 100 * low, "gap_high": 100 * high}


def pass_at_k_rows(path: Path) -> list[dict[str, Any]]:
    """pass@k of a table "replacement", a row per arm and k, with 95 % intervals over trajectories.

    Raises ArtifactError for an empty table.
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


def pass_at_k_curves(paths: Sequence[Path], names: Sequence[str]) -> pd.DataFrame:
    """`pass_at_k_rows` of several tables, with columns that say what each table is about.

    names: entries of the tables' metadata that become columns, such as model and dataset.
    """
    rows: list[dict[str, Any]] = []
    for path in paths:
        about = records.read_about(path, names)
        rows += [{name: about[name] for name in names} | row for row in pass_at_k_rows(path)]
    return pd.DataFrame(rows)


def replacement_curves(paths: Sequence[Path]) -> pd.DataFrame:
    """pass@k with the critical token replaced, by cell, distribution and k, over seeds of rollouts.

    Columns of the result besides these: seeds (their number), mean and deviation of pass@k.
    """
    curves = pass_at_k_curves(paths, ("model", "dataset", "distribution", "seed"))
    replaced = curves[curves["arm"] == "replaced"]
    by_seed = replaced.groupby(["model", "dataset", "distribution", "k"], sort=False)["pass_at_k"]
    return by_seed.agg(seeds="count", mean="mean", deviation="std").reset_index()


def exclusion_bars(excluded: Sequence[records.Row], run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The three bars of Figure 5 for one cell, a row for each.

    excluded: rows of the table "replacement" with the arms "kept" and "excluded". A problem whose
        answer has no tokens has no rows, and counts as wrong in both arms.
    run: model, dataset, method, n and correct of the evaluation of a trained method.

    Columns of the result: model, dataset, condition, n, accuracy, low, high (in percent), and p,
    the p-value of McNemar's test of the answers with and without critical tokens.
    """
    right = {
        arm: {row["problem_id"] for row in excluded if row["arm"] == arm and row["correct"]}
        for arm in ("kept", "excluded")
    }
    p = estimates.mcnemar_exact(len(right["excluded"] - right["kept"]), len(right["kept"] - right["excluded"]))
    bars = {
        "with critical tokens": (len(right["kept"]), None),
        "critical tokens excluded": (len(right["excluded"]), p),
        run["method"]: (run["correct"], None),
    }
    rows = []
    for condition, (correct, p_value) in bars.items():
        low, high = estimates.wilson_interval(correct, run["n"])
        rows.append({
            "model": run["model"], "dataset": run["dataset"], "condition": condition, "n": run["n"],
            "accuracy": 100 * correct / run["n"], "low": 100 * low, "high": 100 * high, "p": p_value,
        })  # fmt: skip
    return rows


def log_probability_curves(histories: pd.DataFrame, window: int) -> pd.DataFrame:
    """The curves of Figure 6: log-probabilities averaged over seeds and over windows of updates.

    A batch holds other pairs at every update, so the values of single updates are noisy.

    histories: columns model, dataset, method, step (from 1), chosen_logps and rejected_logps, a row
        per update of every run.
    window: the number of updates that are averaged into a point.

    Columns of the result: model, dataset, method, step (the middle of the window), chosen and
    rejected, both also with the bounds of their 95 % intervals (_low, _high).
    """
    middle = (histories["step"] - 1) // window * window + (window + 1) / 2
    named = histories.assign(step=middle).rename(columns={"chosen_logps": "chosen", "rejected_logps": "rejected"})
    grouped = named.groupby(["model", "dataset", "method", "step"], sort=False)[["chosen", "rejected"]]
    curves = grouped.mean()
    error = 1.96 * grouped.sem().fillna(0.0)
    for side in ("chosen", "rejected"):
        curves[f"{side}_low"], curves[f"{side}_high"] = curves[side] - error[side], curves[side] + error[side]
    return curves.reset_index()


def tuning_table(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Validation accuracy of every method (row) at every learning rate of the search, in percent.

    runs: model, dataset, method, learning_rate and accuracy (a share) of validations.

    Columns of the result: method, learning_rate, one column per cell with the mean over seeds, the
    mean of these columns, and best: whether this learning rate has the method's highest mean.
    """
    rows = [
        {
            "method": run["method"],
            "learning_rate": run["learning_rate"],
            "cell": f"{run['model']} {run['dataset']}",
            "accuracy": 100 * run["accuracy"],
        }
        for run in runs
    ]
    table = pd.DataFrame(rows).pivot_table(
        index=["method", "learning_rate"], columns="cell", values="accuracy", sort=False
    )
    table["mean"] = table.mean(axis=1)
    table["best"] = table["mean"] == table.groupby("method")["mean"].transform("max")
    return table.reset_index()
