"""Table 1: from the metrics of its cells to the tidy table and to the paper's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from critical_tokens import records

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
    model: str,
    dataset: str,
    method: str,
    start: str,
    seed: int,
    metrics: Mapping[str, Any],
    reported: Mapping[tuple, float],
    version: str,
) -> dict[str, Any]:
    """One row of Table 1; accuracies in percent. `reported` maps (model, dataset, method) to the paper's number."""
    value = reported.get((model, dataset, method))
    return {
        "model": model,
        "dataset": dataset,
        "method": method,
        "start": start,
        "seed": seed,
        "n": metrics["n"],
        "correct": metrics["correct"],
        "accuracy": 100 * metrics["accuracy"],
        "low": 100 * metrics["low"],
        "high": 100 * metrics["high"],
        "reported": value,
        "reported_version": version if value is not None else None,
    }


def read_reported(path: Path, version: str) -> dict[tuple[str, str, str], float]:
    """The paper's numbers of one version by (model, dataset, method). Raises ArtifactError for a row without a number."""
    frame = pd.read_csv(path)
    missing = {"version", "model", "dataset", "method", "accuracy"} - set(frame.columns)
    if missing:
        raise records.ArtifactError(f"{path}: no column {', '.join(sorted(missing))}")
    for index in frame.index[frame["accuracy"].isna()]:
        raise records.ArtifactError(f"{path}, row {index + 2}: has no accuracy")
    chosen = frame[frame["version"] == version]
    return {(r.model, r.dataset, r.method): float(r.accuracy) for r in chosen.itertuples()}


def read_cells(paths: Sequence[Path]) -> pd.DataFrame:
    """The tidy tables of several cells, one under the other."""
    frames = []
    for path in paths:
        frame = pd.read_csv(path)
        if tuple(frame.columns) != COLUMNS:
            raise records.ArtifactError(f"{path}: has the columns {', '.join(frame.columns)}, not those of Table 1")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def markdown(table: pd.DataFrame) -> str:
    """Table 1 in the paper's layout: a row per method, a column per model under each dataset, and its average.

    Several seeds show as mean ± standard deviation. The best of a column is bold.
    """
    cells = table.groupby(["method", "dataset", "model"], sort=False)["accuracy"].agg(["mean", "std", "count"])
    starts = dict(zip(table["method"], table["start"], strict=True))
    models, datasets, methods = (list(dict.fromkeys(table[c])) for c in ("model", "dataset", "method"))
    columns = [(d, m) for d in datasets for m in [*models, None]]
    means = {
        (method, d, m): _mean([cells["mean"].get((method, d, one)) for one in ([m] if m else models)])
        for method in methods
        for d, m in columns
    }
    best = {(d, m): max((means[x, d, m] for x in methods if means[x, d, m] is not None), default=None) for d, m in columns}

    def shown(method: str, d: str, m: str | None) -> str:
        value = means[method, d, m]
        if value is None:
            return "–"
        text = f"{value:.1f}"
        if m is not None and cells["count"].get((method, d, m), 0) > 1:
            text += f" ± {cells['std'][method, d, m]:.1f}"
        return f"**{text}**" if value == best[d, m] else text

    header = ["start", "method"] + [f"{d} {m or 'avg.'}" for d, m in columns]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * 2 + "---:|" * len(columns)]
    for method in methods:
        block = BLOCKS["baseline"] if method == "baseline" else BLOCKS[starts[method]]
        row = [block, LABELS.get(method, method)] + [shown(method, d, m) for d, m in columns]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None where a value is missing: an average over other models would not compare."""
    return None if any(v is None for v in values) else sum(values) / len(values)
