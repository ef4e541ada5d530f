"""Table 1: from the metrics of its cells to the tidy table and to the paper's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from critical_tokens.core import records
from critical_tokens.reporting import estimates

COLUMNS = (
    "model", "dataset", "method", "start", "seed", "n", "correct", "accuracy", "low", "high", "reported", "reported_version",
)  # fmt: skip

# Names of the paper's table, and the block a method stands in there.
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
    """One row of Table 1; accuracies in percent.

    run: model, dataset, method, start and seed of an evaluation.
    metrics: its n, correct, accuracy, low and high (shares).
    reported: the paper's numbers by model, dataset and method; version: what they are from.
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
    """The paper's numbers of one version by (model, dataset, method). Raises ArtifactError for a
    row without a number.
    """
    frame = records.read_csv(path, ("version", "model", "dataset", "method", "accuracy"))
    for index in frame.index[frame["accuracy"].isna()]:
        raise records.ArtifactError(f"{path}, row {index + 2}: has no accuracy")
    chosen = frame[frame["version"] == version]
    return {(r.model, r.dataset, r.method): float(r.accuracy) for r in chosen.itertuples()}


def read_cells(paths: Sequence[Path]) -> pd.DataFrame:
    """The tidy tables of several cells, one under the other."""
    frames = []
    for path in paths:
        frame = records.read_csv(path)
        if tuple(frame.columns) != COLUMNS:
            raise records.ArtifactError(f"{path}: has the columns {', '.join(frame.columns)}, not those of Table 1")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def markdown(table: pd.DataFrame) -> str:
    """Table 1 in the paper's layout: a row per method, a column per model under each dataset, and
    its average.

    Several seeds show as mean ± standard deviation. The best of a column is bold. Where the paper
    has a number it follows in parentheses, and the table ends with the version that it is from.
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
        (d, m): max((means[x, d, m] for x in methods if means[x, d, m] is not None), default=None) for d, m in columns
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
    """Each method against the baseline and against the best other method, of the same seed and over
    the same problems.

    verdicts: by seed, method and problem; the baseline stands under one seed and is compared with
    all. p is McNemar's exact test, p_holm corrected for all comparisons of a seed. needed: by how
    many problems its lead would have to grow, with as many on which the two differ, for p below
    0.05: what an asterisk would take.
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
    """Two methods on the problems that both answered."""
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
    """The mean, or None where a value is missing: an average over other models would not compare."""
    return None if any(v is None for v in values) else sum(values) / len(values)
