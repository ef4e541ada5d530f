"""Table 1 from the metrics of evaluations, as a tidy table and in the paper's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from critical_tokens.core import records
from critical_tokens.reporting import estimates

COLUMNS = (
    "model", "dataset", "method", "start", "seed", "n", "correct", "accuracy", "low", "high",
    "reported", "reported_version",
)  # fmt: skip

# The methods' names in the paper's table, and its blocks by the model that a method starts from.
LABELS = {
    "baseline": "Baseline",
    "sft": "+ SFT",
    "sft_dpo": "+ DPO",
    "sft_tdpo": "+ TokenDPO",
    "dpo": "+ DPO",
    "rpo": "+ RPO",
    "cdpo": "+ cDPO",
}
BLOCKS = {"baseline": "", "sft": "from SFT", "base": "from base"}


def cell_row(
    run: Mapping[str, Any], metrics: Mapping[str, Any], reported: Mapping[tuple[str, str, str], float], version: str
) -> dict[str, Any]:
    """One row of Table 1, with accuracies in percent.

    run: model, dataset, method, start and seed of an evaluation.
    metrics: its n, correct, accuracy, low and high (shares).
    reported: the paper's numbers, by model, dataset and method.
    version: the version of the paper that they are from.
    """
    value = reported.get((run["model"], run["dataset"], run["method"]))
    return {
        "model": run["model"],
        "dataset": run["dataset"],
        "method": run["method"],
        "start": run["start"],
        "seed": int(run["seed"]),
        "n": metrics["n"],
        "correct": metrics["correct"],
        "accuracy": 100 * metrics["accuracy"],
        "low": 100 * metrics["low"],
        "high": 100 * metrics["high"],
        "reported": value,
        "reported_version": version if value is not None else None,
    }


def read_reported(path: Path, version: str) -> dict[tuple[str, str, str], float]:
    """The numbers of one version of the paper, by (model, dataset, method).

    Raises ArtifactError for a row without a number.
    """
    frame = records.read_csv(path, ("version", "model", "dataset", "method", "accuracy"))
    for index in frame.index[frame["accuracy"].isna()]:
        raise records.ArtifactError(f"{path}, row {index + 2}: has no accuracy")
    chosen = frame[frame["version"] == version]
    return {(r.model, r.dataset, r.method): float(r.accuracy) for r in chosen.itertuples()}


def read_cells(paths: Sequence[Path]) -> pd.DataFrame:
    """Concatenate the tidy tables of several cells.

    Raises ArtifactError for a file with other columns.
    """
    frames = []
    for path in paths:
        frame = records.read_csv(path)
        if tuple(frame.columns) != COLUMNS:
            raise records.ArtifactError(f"{path}: has the columns {', '.join(frame.columns)}, not those of Table 1")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def markdown(table: pd.DataFrame) -> str:
    """Table 1 in the paper's layout, as Markdown: a row per method, a column per dataset and model.

    Every dataset also has a column with the average over models. Several seeds are shown as mean ±
    standard deviation. The best number of a column is bold. The paper's number follows in
    parentheses if there is one, and a last line names the version of the paper.
    """
    cells = table.groupby(["method", "dataset", "model"], sort=False)["accuracy"].agg(["mean", "std", "count"])
    starts = dict(zip(table["method"], table["start"], strict=True))
    models, datasets, methods = (list(dict.fromkeys(table[c])) for c in ("model", "dataset", "method"))
    columns = [(d, m) for d in datasets for m in [*models, None]]
    compared = table.dropna(subset=["reported"])
    reported = {(r.method, r.dataset, r.model): r.reported for r in compared.itertuples()}
    means = {
        (method, d, m): _mean([cells["mean"].get((method, d, one)) for one in ([m] if m else models)])
        for method in methods
        for d, m in columns
    }
    best = {
        (d, m): max((mean for x in methods if (mean := means[x, d, m]) is not None), default=None) for d, m in columns
    }

    def shown(method: str, d: str, m: str | None) -> str:
        value = means[method, d, m]
        if value is None:
            return "–"
        text = f"{value:.1f}"
        if m is not None and cells["count"].get((method, d, m), 0) > 1:
            text += f" ± {cells['std'][method, d, m]:.1f}"
        text = f"**{text}**" if value == best[d, m] else text
        return f"{text} ({reported[method, d, m]:.1f})" if (method, d, m) in reported else text

    header = ["start", "method"] + [f"{d} {m or 'avg.'}" for d, m in columns]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * 2 + "---:|" * len(columns)]
    for method in methods:
        block = BLOCKS["baseline"] if method == "baseline" else BLOCKS.get(starts[method], f"from {starts[method]}")
        row = [block, LABELS.get(method, method)] + [shown(method, d, m) for d, m in columns]
        lines.append("| " + " | ".join(row) + " |")
    if reported:
        versions = " and ".join(sorted(set(compared["reported_version"])))
        lines += ["", f"In parentheses: the paper's numbers, version {versions}."]
    return "\n".join(lines) + "\n"


def significance_rows(verdicts: Mapping[int, Mapping[str, Mapping[str, bool]]]) -> list[dict[str, Any]]:
    """Compare each method with the baseline and with the best other method of the same seed.

    verdicts: whether an answer is correct, by seed, method and problem id. The baseline has one
        seed and is compared with the methods of all seeds.

    Columns of the result, a row per comparison:
    seed, method, against: what is compared.
    role: what `against` is, "baseline" or "best other".
    n: problems that both answered.
    only_first, only_second: problems that only `method` or only `against` got right.
    difference, low, high: difference of the accuracies in percentage points, and its 95 % interval.
    p: p-value of McNemar's exact test.
    p_holm: p corrected by Holm's procedure for all comparisons of the seed.
    needed: how many problems more `method` would have to lead by for p < 0.05, if the two still
        differed on equally many problems. None if no lead would be enough.
    """
    untrained = {
        method: answers for of_seed in verdicts.values() for method, answers in of_seed.items() if method == "baseline"
    }
    rows = []
    for seed, of_seed in sorted(verdicts.items()):
        methods = {**untrained, **of_seed}
        accuracy = {method: sum(answers.values()) / len(answers) for method, answers in methods.items()}
        compared = []
        for method in methods:
            if method == "baseline":
                continue
            others = [m for m in methods if m not in ("baseline", method)]
            best = max(others, key=lambda m: accuracy[m], default=None)
            compared += [(method, other) for other in ("baseline", best) if other in methods]
        tests = [_paired(methods[a], methods[b]) for a, b in compared]
        corrected = estimates.holm([test["p"] for test in tests])
        for (method, other), test, p in zip(compared, tests, corrected, strict=True):
            role = "baseline" if other == "baseline" else "best other"
            rows.append({"seed": seed, "method": method, "against": other, "role": role, **test, "p_holm": p})
    return rows


def _paired(first: Mapping[str, bool], second: Mapping[str, bool]) -> dict[str, Any]:
    """The columns n to needed of `significance_rows`, for two methods."""
    names = sorted(first.keys() & second.keys())
    a, b = [first[name] for name in names], [second[name] for name in names]
    only_first = sum(x and not y for x, y in zip(a, b, strict=True))
    only_second = sum(y and not x for x, y in zip(a, b, strict=True))
    low, high = estimates.paired_interval(a, b)
    differing = only_first + only_second
    gains = (2 * k - differing for k in range((differing + 1) // 2, differing + 1))
    asterisk = next(
        (gain for gain in gains if estimates.mcnemar_exact((differing + gain) // 2, (differing - gain) // 2) < 0.05),
        None,
    )
    return {
        "n": len(names),
        "only_first": only_first,
        "only_second": only_second,
        "difference": 100 * (only_first - only_second) / len(names),
        "low": 100 * low,
        "high": 100 * high,
        "p": estimates.mcnemar_exact(only_first, only_second),
        "needed": None if asterisk is None else max(0, asterisk - (only_first - only_second)),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None if a value is missing.

    An average over fewer models could not be compared with the other averages.
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
