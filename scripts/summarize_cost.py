"""What every rule took by cell, from the benchmark files: jobs, wall seconds, CPU seconds, peak
memory, generated tokens.
"""

from __future__ import annotations

import json
from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder of Snakemake's benchmark files")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    rows = []
    for path in sorted(args.benchmarks.rglob("*.tsv")):
        frame = records.read_csv(path, ("s", "cpu_time", "max_rss", "rule_name", "wildcards"), separator="\t")
        if frame.empty:
            raise records.ArtifactError(f"{path}: has no row, unlike the benchmark files of Snakemake; remove it")
        last = frame.iloc[-1]
        names = json.loads(last["wildcards"])
        numbers = {"wall_seconds": last["s"], "cpu_seconds": last["cpu_time"], "peak_memory_mb": last["max_rss"]}
        rows.append({"rule": last["rule_name"], "model": names.get("model"), "dataset": names.get("dataset")} | numbers)
    table = pd.DataFrame(rows)
    for column in ("wall_seconds", "cpu_seconds", "peak_memory_mb"):
        table[column] = pd.to_numeric(
            table[column], errors="coerce"
        )  # Snakemake writes "NA" for jobs too short to sample
    summary = table.groupby(["rule", "model", "dataset"], dropna=False, sort=False).agg(
        jobs=("wall_seconds", "size"),
        wall_seconds=("wall_seconds", "sum"),
        cpu_seconds=("cpu_seconds", "sum"),
        peak_memory_mb=("peak_memory_mb", "max"),
    )
    records.write_csv(args.output, summary.reset_index())


if __name__ == "__main__":
    command_line.run(main)
