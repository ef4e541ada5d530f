"""What jobs took, from the benchmark files that Snakemake writes, and what they will take."""

from __future__ import annotations

import ast
import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critical_tokens.core.records import ArtifactError
from critical_tokens.workflow import sizing

# How much faster bfloat16 is than float32 on a processor that has instructions for it, and on one
# that has not.
BFLOAT16, BFLOAT16_EMULATED = 2.5, 0.15


@dataclass(frozen=True)
class Measured:
    """What Snakemake measured of a job.

    rule, wildcards: which job it was.
    wall_seconds: the time that it took.
    cpu_seconds, peak_memory_mb: CPU time and memory; "NA" if the job was too short to measure.
    """

    rule: str
    wildcards: Mapping[str, str]
    wall_seconds: float
    cpu_seconds: str
    peak_memory_mb: str


def read_benchmark(path: Path) -> Measured:
    """Read the last run of a benchmark file.

    Raises ArtifactError if it is not a benchmark file of this workflow.
    """
    with path.open(encoding="utf-8", newline="") as opened:
        runs = list(csv.DictReader(opened, delimiter="\t"))
    try:
        last = runs[-1]
        # Snakemake writes the wildcards as a Python dictionary.
        wildcards = ast.literal_eval(last["wildcards"])
        return Measured(last["rule_name"], dict(wildcards), float(last["s"]), last["cpu_time"], last["max_rss"])
    except (LookupError, ValueError, TypeError, SyntaxError) as error:
        what = "is not a benchmark file with a rule and its wildcards"
        raise ArtifactError(f"{path}: {what}; delete it and run its job again") from error


def measured_hours(benchmarks: Path, model: str, dataset: str) -> dict[str, tuple[float, int]]:
    """The hours and the number of a cell's jobs by the name of their work, from benchmark files."""
    hours: dict[str, tuple[float, int]] = {}
    for path in sorted(benchmarks.rglob("*.tsv")):
        job = read_benchmark(path)
        if (job.wildcards.get("model"), job.wildcards.get("dataset")) == (model, dataset):
            name = " ".join([job.rule, *([job.wildcards["method"]] if "method" in job.wildcards else [])])
            known, jobs = hours.get(name, (0.0, 0))
            hours[name] = (known + job.wall_seconds / 3600, jobs + 1)
    return hours


def processor(dtype: str) -> sizing.Speed:
    """How fast this machine computes in a dtype with the threads of this job.

    A short trial in float32 tells it.
    """
    import numpy as np

    # The shape of a layer of a small model with many tokens. One product takes about 0.1 s.
    rows, columns = np.ones((1024, 896), np.float32), np.ones((896, 4864), np.float32)
    times = []
    for _ in range(4):
        start = time.monotonic()
        rows @ columns
        times.append(time.monotonic() - start)
    float32 = 2 * rows.size * columns.shape[1] / min(times)
    return sizing.Speed(float32 * (1.0 if dtype == "float32" else bfloat16_gain()), *sizing.PROCESSOR_SHARES)


def bfloat16_gain() -> float:
    """How much faster this machine's processor computes in bfloat16 than in float32."""
    facts = Path("/proc/cpuinfo")
    known = facts.is_file() and not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(facts.read_text().split())
    return BFLOAT16 if known else BFLOAT16_EMULATED


def cell_plan(
    config: Mapping[str, Any],
    model: str,
    dataset: str,
    measured: Mapping[str, tuple[float, int]],
    speed: sizing.Speed,
) -> list[dict[str, Any]]:
    """The plan of one cell, a row per work of `cell_work`.

    measured: hours and number of measured jobs by the name of their work (see `measured_hours`).
        The mean time of such jobs is used instead of the formula.
    speed: that of this machine, see `processor`.
    """
    entry, data = config["model_registry"][model], config["dataset_registry"][dataset]
    sampling = config["trajectories"]
    unlimited = sizing.Hardware(None, None)
    rows = []
    for work in sizing.cell_work(config, data, sizing.dataset_rows(data)):
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
