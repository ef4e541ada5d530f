"""Sum up the cost of every rule by cell: jobs, wall and CPU seconds, and peak memory."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from critical_tokens.core import records
from critical_tokens.reporting import costs
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder of Snakemake's benchmark files")
    parser.add_argument("--output", type=Path, required=True, help="a row per rule and cell, CSV")
    args = parser.parse_args()

    import pandas as pd

    rows = []
    for path in sorted(args.benchmarks.rglob("*.tsv")):
        job = asdict(costs.read_benchmark(path))
        names = job.pop("wildcards")
        rows.append({"rule": job.pop("rule"), "model": names.get("model"), "dataset": names.get("dataset"), **job})
    table = pd.DataFrame(rows)
    for column in ("wall_seconds", "cpu_seconds", "peak_memory_mb"):
        # Snakemake writes "NA" for jobs that were too short to measure.
        table[column] = pd.to_numeric(table[column], errors="coerce")
    summary = table.groupby(["rule", "model", "dataset"], dropna=False, sort=False).agg(
        jobs=("wall_seconds", "size"),
        wall_seconds=("wall_seconds", "sum"),
        cpu_seconds=("cpu_seconds", "sum"),
        peak_memory_mb=("peak_memory_mb", "max"),
    )
    records.write_csv(args.output, summary.reset_index())


if __name__ == "__main__":
    command_line.run(main)
