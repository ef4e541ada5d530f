"""What jobs took, from the benchmark files that Snakemake writes."""

from __future__ import annotations

import ast
import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from critical_tokens.core.records import ArtifactError


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
