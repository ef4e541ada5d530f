"""The plan of a cell: jobs, tokens, hours, memory and disk of every rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from critical_tokens.planning import sizing
from critical_tokens.planning.cell_work import cell_work, dataset_rows
from critical_tokens.planning.hardware import Hardware, Speed


def cell_plan(
    config: Mapping[str, Any],
    model: str,
    dataset: str,
    measured: Mapping[str, tuple[float, int]],
    speed: Speed,
) -> list[dict[str, Any]]:
    """The plan of one cell, a row per work of `cell_work`.

    measured: hours and number of measured jobs by the name of their work, from benchmark files.
        The mean time of such jobs is used instead of the formula.
    speed: that of this machine, see `hardware.processor`.
    """
    entry, data = config["model_registry"][model], config["dataset_registry"][dataset]
    sampling = config["trajectories"]
    unlimited = Hardware(None, None)
    rows = []
    for work in cell_work(config, data, dataset_rows(data)):
        count = sizing.gpus(entry, work.kind) if work.kind != "none" else 0
        known = work.name in measured
        hours, jobs = measured.get(work.name, (0.0, 1))
        if work.kind == "none":
            memory = sizing.batch_memory_mb(sampling["batch_rows"], data["max_new_tokens"], True, 1, unlimited)
        else:
            memory = sizing.memory_mb(entry, 1, unlimited)
        rows.append({
            "model": model,
            "dataset": dataset,
            "rule": work.name,
            "jobs": work.jobs,
            "generated_tokens": round(work.tokens) if work.kind == "sample" else 0,
            "trained_tokens": round(work.tokens) if work.kind == "train" else 0,
            "gpus": count,
            "gpu_hours": count * hours / jobs * work.jobs if known else sizing.gpu_hours(entry, work),
            "cpu_hours": hours / jobs * work.jobs if known else sizing.machine_hours(entry, work, speed),
            "gpu_memory_gb": sizing.gpu_memory_gb(entry, work.kind) if count else 0.0,
            "memory_gb": memory / 1000,
            # Samples take token ids and text; a training takes the adapter and its optimiser state.
            "disk_gb": work.tokens * sizing.BYTES_PER_TOKEN / 1e9 if work.kind == "sample" else
                       work.jobs * sizing.ADAPTER_SHARE * sizing.weights_gb(entry) if work.kind == "train" else 0.0,
            "source": "measured" if known else "formula",
        })  # fmt: skip
    return rows
