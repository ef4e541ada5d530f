"""What every rule took by cell, from the benchmark files: jobs, wall seconds, CPU seconds, peak memory, generated tokens."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import cli, records


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder of Snakemake's benchmark files")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    rows = []
    for path in sorted(args.benchmarks.rglob("*.tsv")):
        names = path.relative_to(args.benchmarks).with_suffix("").parts
        frame = pd.read_csv(path, sep="\t")
        if not {"s", "max_rss", "cpu_time"} <= set(frame.columns):
            raise records.ArtifactError(f"{path}: is not a benchmark file of Snakemake")
        last = frame.iloc[-1]
        cell = names[1:3] if len(names) > 2 else (None, names[1]) if len(names) > 1 else (None, None)
        rows.append(
            {
                "rule": names[0],
                "model": cell[0],
                "dataset": cell[1],
                "s": last["s"],
                "cpu": last["cpu_time"],
                "rss": last["max_rss"],
            }
        )
    table = pd.DataFrame(rows)
    for column in ("s", "cpu", "rss"):
        table[column] = pd.to_numeric(table[column], errors="coerce")  # Snakemake writes "NA" for jobs too short to sample
    summary = table.groupby(["rule", "model", "dataset"], dropna=False, sort=False).agg(
        jobs=("s", "size"), wall_seconds=("s", "sum"), cpu_seconds=("cpu", "sum"), peak_memory_mb=("rss", "max")
    )
    records.write_csv(args.output, summary.reset_index())


if __name__ == "__main__":
    cli.run(main)
