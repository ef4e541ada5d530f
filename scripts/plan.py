"""Plan a run: jobs, tokens, hours, memory and disk of every rule in every selected cell.

The formulas are in critical_tokens/planning. If a rule has already run in a cell, its
hours come from its benchmark files. The hours without a GPU are those of this machine, whose speed
a trial of half a second tells.
"""

from __future__ import annotations

import sys
from pathlib import Path

from critical_tokens.core import hub, provenance, records
from critical_tokens.planning import hardware, sizing
from critical_tokens.planning.cell_plan import cell_plan
from critical_tokens.reporting import costs
from critical_tokens.workflow import command_line


def _nothing() -> dict[str, int]:
    """What a job without a model generates, trains and asks for."""
    return dict.fromkeys(("generated_tokens", "trained_tokens", "gpus", "gpu_hours", "cpu_hours", "gpu_memory_gb"), 0)


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the completed config, JSON")
    parser.add_argument("--benchmarks", type=Path, required=True, help="folder of Snakemake's benchmark files")
    parser.add_argument("--output", type=Path, required=True, help="a row per rule and cell, CSV")
    args = parser.parse_args()
    run = provenance.Run("plan", args)

    import pandas as pd

    config = records.read_json(args.config)
    stated = hardware.hardware_of(config)
    rows = []
    for model in config["models"]:
        entry = config["model_registry"][model]
        if hub.on_hub(entry["path"]):
            fetched = {"rule": "fetch_model", "jobs": 1, "disk_gb": sizing.weights_gb(entry), "source": "formula"}
            rows.append({"model": model, "dataset": "", "memory_gb": 1.0, **fetched, **_nothing()})
        if "gguf" in entry:
            memory = sizing.conversion_memory_mb(entry, 1, stated) / 1000
            written = {"jobs": 1, "memory_gb": memory, "disk_gb": sizing.weights_gb(entry), "source": "formula"}
            rows.append({"model": model, "dataset": "", "rule": "convert_gguf", **written, **_nothing()})
        speed = hardware.processor(entry.get("dtype", "float32"))
        for dataset in config["datasets"]:
            measured = costs.measured_hours(args.benchmarks, model, dataset)
            rows += cell_plan(config, model, dataset, measured, speed)
    table = pd.DataFrame(rows)
    records.write_csv(args.output, table)
    run.describe(args.output, rows=len(table))

    cells = table.groupby(["model", "dataset"], sort=False)[
        ["jobs", "generated_tokens", "trained_tokens", "gpu_hours", "cpu_hours"]
    ].sum()
    cells["gpu_memory_gb"] = table.groupby(["model", "dataset"], sort=False)["gpu_memory_gb"].max()
    cells["disk_gb"] = table.groupby(["model", "dataset"], sort=False)["disk_gb"].sum()
    cells.loc[("all", ""), :] = [*cells.iloc[:, :5].sum(), cells["gpu_memory_gb"].max(), cells["disk_gb"].sum()]
    print(cells.round(1).to_string(float_format=lambda x: f"{x:,.1f}"))
    if stated.gpu_memory_gb is None and table["gpus"].max():
        needed = f"{table['gpus'].max()} GPUs of {table['gpu_memory_gb'].max():.0f} GB"
        unknown = "state gpu_memory_gb and gpus_per_node in the config to check that they are there"
        print(f"warning: jobs need up to {needed}; {unknown}", file=sys.stderr)
    gain = hardware.bfloat16_gain()
    if stated.gpu_memory_gb is not None or hardware.visible_gpus() or gain > 1:
        return
    what = "this machine has no GPU, and its processor has no instructions for bfloat16"
    remedy = f"here `dtype: float32` is about {1 / gain:.0f} times as fast"
    for name in config["models"]:
        if config["model_registry"][name].get("dtype") == "bfloat16":
            print(f"warning: model_registry: {name}: {what}; {remedy}", file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main)
