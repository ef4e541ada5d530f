"""The generated parts on cost and on graders.

Their numbers are in docs/*.json, which docs/measure.py, docs/bench and `make test-slurm` write, and
in docs/cost.csv and docs/tuning.csv, which a run of the workflow makes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

DOCS = Path(__file__).resolve().parent
NAMES = {"gsm8k": "GSM8K", "math": "MATH"}


def _read(name: str) -> Any:
    return json.loads((DOCS / name).read_text(encoding="utf-8"))


def grading() -> str:
    """Agreement of both graders with the originals, by source, and their speed."""
    found = _read("grading.json")
    lines = ["| completions | `released` and the authors' grader | `math_verify` and the library |", "|---|---:|---:|"]
    for style, name in NAMES.items():
        whole = found[style]
        library = f"{100 * whole['math_verify_agreement']:.2f} %"
        lines.append(f"| {name} ({whole['rows']:,}) | {100 * whole['released_agreement']:.2f} % | {library} |")
        for source, share in whole["released_agreement_by_source"].items():
            lines.append(f"| {name}, of source `{source}` | {100 * share:.2f} % | |")
    speeds = [
        f"On {name}, `released` grades {found[style]['released_per_second']:,} answers per second on one core, and "
        f"`math_verify` {found[style]['math_verify_per_second']:,} on {found['cores']} cores."
        for style, name in NAMES.items()
    ]
    once = "Equal pairs of an answer and a gold answer are graded only once."
    return "\n".join([*lines, "", " ".join([*speeds, once])])


def blank() -> str:
    """Accuracy of the pocket models with the blank in the prompt, and in the answer."""
    rows = _read("blank.json")
    accuracy = {(r["model"], r["dataset"], r["blank"]): r["accuracy"] for r in rows}
    lines = ["| model | dataset | blank in the prompt (%) | blank in the answer (%) |", "|---|---|---:|---:|"]
    for model, dataset in dict.fromkeys((r["model"], r["dataset"]) for r in rows):
        shown = " | ".join(f"{100 * accuracy[model, dataset, side]:.1f}" for side in ("prompt", "answer"))
        lines.append(f"| {model} | {dataset} | {shown} |")
    return "\n".join(lines)


def memory() -> str:
    """Time and memory of the programs that read all sampled answers of a cell."""
    found = _read("memory.json")
    lines = [f"| program | answers of {found['tokens']} tokens | seconds | MB at most |", "|---|---:|---:|---:|"]
    lines += [f"| `{run['program']}` | {run['rows']:,} | {run['seconds']:.0f} | {run['mb']} |" for run in found["runs"]]
    measured = f"Measured with batches of {found['batch_rows']:,} rows by `python docs/bench/memory.py`."
    whole = f"At the paper's scale GSM8K has {max(run['rows'] for run in found['runs']):,} sampled answers."
    return "\n".join([*lines, "", f"{measured} {whole}"])


def doors() -> str:
    """Three ways to run the workflow: where, the command, the time, and what comes out."""
    measured = _read("measured.json")
    plans = measured["plans"]
    minutes = f"{measured['make']['wall_seconds'] / 60:.0f} minutes on {measured['machine']['cores']} cores, measured"
    own, paper = (
        f"about {plans[name]['gpu_hours']:,.{digits}f} GPU hours, planned"
        for name, digits in (("own", 1), ("paper", 0))
    )
    rows = [
        ("laptop: the pocket world", "`make`", minutes, "Table 1, Figures 1, 2, 3, 5 and 6, and their cost"),
        (
            "one GPU: your own model",
            "`snakemake --configfile presets/own.yaml mine.yaml`",
            f"{own} (a model of {plans['own']['parameters'] / 1e9:.1f} billion parameters)",
            "the same for your model on GSM8K, with the paper's settings",
        ),
        (
            "cluster: the paper's models",
            "`snakemake results/table1.csv --profile slurm`",
            f"{paper}, in {measured['paper_dry_run']['jobs']:,} jobs",
            "Table 1 of five models on GSM8K and MATH-500",
        ),
    ]
    lines = ["| where | command | time | what comes out |", "|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def cost() -> str:
    """Minutes and memory of runs of the workflow, and of its most expensive rules."""
    measured = _read("measured.json")
    machine, startup = measured["machine"], measured["startup_seconds"]
    heaviest = max(startup, key=startup.get)
    rows = [
        ("`snakemake` (the whole selection)", measured["make"]),
        ("`snakemake` again (nothing to do)", measured["again"]),
    ]
    rows.append(("`snakemake results/pocket-s/pocket-gsm/table1.csv` (one cell)", measured["cell"]))
    lines = [
        f"Measured on {machine['cores']} cores without a GPU by `python docs/measure.py`:",
        "",
        "| command | minutes | GB |",
    ]
    lines.append("|---|---:|---:|")
    lines += [
        f"| {name} | {spent['wall_seconds'] / 60:.1f} | {spent['peak_memory_mb'] / 1024:.1f} |" for name, spent in rows
    ]
    lines += ["", f"Start-up of a program: {min(startup.values()):.1f} s to {startup[heaviest]:.1f} s (`{heaviest}`)."]
    if "gsm8k" in measured:
        real = measured["gsm8k"]
        lines.append(
            f"The base model `pocket-s` on the {real['n']} real GSM8K test problems, which it was never made for: "
            f"{real['correct']} correct ({100 * real['accuracy']:.1f} %), {real['unanswered']} without an answer, "
            f"{real['truncated']} cut off, in {real['wall_seconds'] / 60:.1f} minutes."
        )
    by_rule = pd.read_csv(DOCS / "cost.csv").groupby("rule", sort=False)
    summary = by_rule.agg({"jobs": "sum", "wall_seconds": "sum", "peak_memory_mb": "max"}).sort_values(
        "wall_seconds", ascending=False
    )
    lines += ["", "| rule | jobs | seconds of all jobs | MB at most |", "|---|---:|---:|---:|"]
    lines += [
        f"| {rule} | {int(row.jobs)} | {row.wall_seconds:.0f} | {row.peak_memory_mb:.0f} |"
        for rule, row in summary.head(8).iterrows()
    ]
    return "\n".join(lines)


def _ratios(measured: Mapping[str, Any], against: Mapping[str, str]) -> list[str]:
    """A table of those of the named ratios that were measured."""
    lines = ["| what | ours | theirs | ratio | unit |", "|---|---:|---:|---:|---|"]
    for key, words in against.items():
        if key in measured:
            b = measured[key]
            ours, theirs = (f"{b[side]:,.{0 if b[side] >= 10 else 2}f}" for side in ("ours", "theirs"))
            lines.append(f"| {words} | {ours} | {theirs} | {b['ratio']:.1f} | {b['unit']} |")
    return lines


def bench() -> str:
    """The ratios of the benchmark of rollouts and engines."""
    measured = _read("bench.json")
    against = {
        "rollout_tokens": "scores and Figure 2, tokens: coupled against the released procedure",
        "rollout_tokens_backward": "the same, scored as far as the critical token needs",
        "rollout_tokens_stratified": "the same, with stratified scores",
        "rollout_tokens_unshared": "coupled against the released procedure with every sample decoded by itself",
        "rollout_tokens_backward_unshared": "the same, as far as the critical token needs",
        "rollout_tokens_stratified_unshared": "the same, with stratified scores",
        "rollout_wall": "scores and Figure 2, time: coupled",
        "rollout_wall_backward": "the same, as far as the critical token needs",
        "rollout_wall_stratified": "the same, with stratified scores",
        "tokens_at_equal_error": "tokens for the error of 64 independent rollouts: stratified against independent",
        "tokens_at_equal_error_unshared": "the same, against independent rollouts each decoded by itself",
        "tokens_at_equal_error_coupled": "coupled against independent",
        "sampling_vs_generate": "sampling 512 rows: against `generate` of transformers",
        "memory_vs_generate": "memory of this sampling",
        "branching_vs_vllm": "64 rollouts from each of 40 nested prefixes: against vLLM's CPU build",
    }
    lines = _ratios(measured, against)
    agreement, found = measured["rollout_agreement"], measured["thresholds"]
    lines += [
        "",
        f"Coupled and released scores agree: standardised differences at {agreement['positions']} tokens have mean "
        f"{agreement['mean_z']:.2f} and root mean square {agreement['root_mean_square_z']:.2f}; the critical token is "
        f"the same in {agreement['same_critical_token']} trajectories. On {found['trajectories']} trajectories the "
        f"best thresholds on stratified scores (`zero_up_to` {found['best']['zero']}, "
        f"`later_below` {found['best']['later']}) find the critical token of the paper's "
        f"rule in {100 * found['best']['same']:.0f} %; a second set of 64 rollouts per token finds it in "
        f"{100 * found['counts_again']:.0f} %.",
    ]
    return "\n".join(lines)


def decoding() -> str:
    """Decoding with the shapes of a real model against prefill, generate and vLLM."""
    found = _read("bench.json")["decoding"]
    against = {
        "decoding_vs_prefill": "decoding: against the machine's own prefill",
        "end_to_end_vs_vllm": "end to end: against vLLM's CPU build",
        "end_to_end_vs_generate": "end to end: against `generate` of transformers",
        "kv_tokens_vs_copies": "key-value memory: against a copy of the prompt in every row",
    }
    told = f"{found['rows']} rows of {found['prompt_tokens']:.0f} prompt tokens, {found['model']}, {found['dtype']}:"
    return "\n".join([told, "", *_ratios(found, against)])


def training() -> str:
    """Training on pairs against TRL, and contrastive scoring against the released code."""
    measured = _read("bench.json")
    against = {
        "pairs_vs_trl": "preference training: against TRL's DPOTrainer",
        "training_memory_vs_trl": "its memory above the loaded model",
        "training_memory_in_all_vs_trl": "its memory with the model",
        "pairs_vs_trl_checkpointing": "the same with gradient checkpointing on both sides",
        "training_memory_vs_trl_checkpointing": "its memory above the loaded model",
        "training_memory_in_all_vs_trl_checkpointing": "its memory with the model",
        "scoring_vs_released": "contrastive scoring: against one pair at a time, both answers",
        "scoring_vs_released_rejected_only": "the same, against the rejected answers alone",
    }
    dtype = measured["training_dtype"]
    told = f"{measured['training_model']}, {dtype}:"
    apart = {"float32": measured["losses_vs_trl_exact"]["largest_difference"]}
    apart.setdefault(dtype, measured["losses_vs_trl"]["largest_difference"])
    differences = " and ".join(f"{value:g} in {name}" for name, value in apart.items())
    losses = f"The losses of both trainings differ by at most {differences}."
    return "\n".join([told, "", *_ratios(measured, against), "", losses])


def slurm() -> str:
    """What the last `make test-slurm` did, and what a dry run of the paper's scale takes."""
    run = _read("slurm.json")
    names = {
        "kill": "killed programs",
        "cancel": "cancelled jobs",
        "crash": "crashed nodes",
        "overrun": "jobs past their time limit",
        "driver_dies": "killed drivers",
    }
    faults = ", ".join(f"{names[kind]}: {count}" for kind, count in run["faults"].items())
    plan = _read("measured.json")["paper_dry_run"]
    same = "same" if run["tables_equal"] else "OTHER"
    return (
        f"Its last run had {run['jobs']} jobs and took {run['seconds']} s. Slurm and Snakemake add "
        f"{run['overhead_per_job']:.1f} s to the work of each job. With {sum(run['faults'].values())} faults "
        f"({faults}), the same command, given {run['drivers']} times, ended in the {same} table, byte by byte.\n\n"
        f"A dry run of the paper's scale ({plan['jobs']:,} jobs, {plan['shards']} shards a cell) takes "
        f"{plan['wall_seconds']:.0f} s and {plan['peak_memory_mb'] / 1024:.1f} GB."
    )


def tuning() -> str:
    """Mean validation accuracy by method and learning rate, from the last search."""
    table = pd.read_csv(DOCS / "tuning.csv")
    rates = sorted(table["learning_rate"].unique())
    lines = ["| method | " + " | ".join(f"{rate:g}" for rate in rates) + " |", "|---|" + "---:|" * len(rates)]
    for method, rows in table.groupby("method", sort=False):
        means = dict(zip(rows["learning_rate"], rows["mean"], strict=True))
        best = max(means.values())
        shown = [f"**{means[rate]:.1f}**" if means[rate] == best else f"{means[rate]:.1f}" for rate in rates]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    "doors": doors,
    "cost": cost,
    "bench": bench,
    "decoding": decoding,
    "training": training,
    "slurm": slurm,
    "memory": memory,
    "tuning": tuning,
    "grading": grading,
    "blank": blank,
}
