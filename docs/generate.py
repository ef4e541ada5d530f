"""Write the generated parts of README.md and data/models/README.md from results/,
docs/measured.json and the model cards.

A generated part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. Nobody types a number
there.
"""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path

import evidence
import measurements
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
FIGURES = ROOT / "figures"
MEASURED = ROOT / "docs" / "measured.json"

STUDIES = ("table1", "controls", "switches", "beta", "temperatures", "agreement", "critical_rule", "replacement")
# What the pages are written from, by the command that makes it.
SOURCES = {
    "snakemake": [
        *(
            RESULTS / f"{name}.csv"
            for name in ("table1", "significance", "agreement", "critical_kinds", "fig2", "fig5", "cost")
        ),
        RESULTS / "table1.md",
    ],
    "snakemake studies": [RESULTS / "studies" / f"{name}.csv" for name in STUDIES],
    "snakemake tuning": [RESULTS / "tuning.csv"],
    "snakemake --configfile presets/released.yaml": [
        RESULTS / "released" / f"table1.{suffix}" for suffix in ("csv", "md")
    ],
    "python docs/measure.py": [MEASURED],
}


def main() -> None:
    _fill(ROOT / "docs" / "grading.md", {"grading": measurements.grading})
    _fill(ROOT / "docs" / "cluster.md", {"memory": measurements.memory})
    _fill(ROOT / "docs" / "replication.md", {"blank": measurements.blank})
    _require_sources()
    for picture in [*FIGURES.glob("*.png"), *FIGURES.glob("studies/*.png")]:
        copy = ROOT / "docs" / picture.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, copy)
    shutil.copy(RESULTS / "released" / "table1.csv", ROOT / "docs" / "table1_released.csv")
    for name in ("table1", "significance", "agreement", "critical_kinds", "fig5"):
        shutil.copy(RESULTS / f"{name}.csv", ROOT / "docs" / f"{name}.csv")
    shutil.copytree(RESULTS / "studies", ROOT / "docs" / "studies", dirs_exist_ok=True)
    _fill(
        ROOT / "README.md",
        {"table1": _table1, "findings": _findings, "cost": _cost, "tuning": _tuning, "bench": _bench},
    )
    parts = {name: partial(make, ROOT) for name, make in evidence.PARTS.items()}
    _fill(ROOT / "docs" / "replication.md", parts)
    _fill(ROOT / "docs" / "cluster.md", {"slurm": _slurm})
    _fill(ROOT / "data" / "models" / "README.md", {"cards": _cards})


def _require_sources() -> None:
    """Ends with the commands that are still to be run, before anything is written."""
    told = []
    for command, paths in SOURCES.items():
        missing = [str(path.relative_to(ROOT)) for path in paths if not path.is_file()]
        if missing:
            told.append(f"  {command}    (makes {', '.join(missing)})")
    if told:
        raise SystemExit(
            "\n".join(["The generated parts of the documentation need the results of these commands first:", *told])
        )


def _fill(path: Path, parts: dict) -> None:
    text = path.read_text(encoding="utf-8")
    for name, make in parts.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        if not re.search(pattern, text, re.DOTALL):
            raise SystemExit(f"{path}: has no part {name}")
        text = re.sub(pattern, lambda m, make=make: m[1] + make().rstrip() + "\n" + m[2], text, flags=re.DOTALL)
    path.write_text(text, encoding="utf-8")


def _table1() -> str:
    return (RESULTS / "table1.md").read_text(encoding="utf-8")


def _findings() -> str:
    lines = []
    curves = pd.read_csv(RESULTS / "fig2.csv")
    for (model, dataset), cell in curves.groupby(["model", "dataset"], sort=False):
        meta = json.loads((RESULTS / model / dataset / "critical.meta.json").read_text(encoding="utf-8"))
        at = cell.set_index(["arm", "k"])["pass_at_k"]
        lines.append(
            f"| {model} | {dataset} | {meta['found'] - meta['zero_only']} of {meta['trajectories']} "
            f"| {meta['at_or_before_first_wrong']} of {meta['with_known_first_wrong']} "
            f"| {100 * at['kept', 64]:.0f} | {100 * at['replaced', 1]:.0f} | {100 * at['replaced', 64]:.0f} |"
        )
    header = [
        "| model | dataset | critical token found | at or before the first wrong token | pass@64 kept | pass@1 replaced | "
        "pass@64 replaced |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    return "\n".join(header + lines)


def _cost() -> str:
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
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
        f"| {name} | {cost['wall_seconds'] / 60:.1f} | {cost['peak_memory_mb'] / 1024:.1f} |" for name, cost in rows
    ]
    lines += ["", f"Start-up of a program: {min(startup.values()):.1f} s to {startup[heaviest]:.1f} s (`{heaviest}`)."]
    if "gsm8k" in measured:
        real = measured["gsm8k"]
        lines.append(
            f"The base model `pocket-s` on the {real['n']} real GSM8K test problems, which it was never made for: "
            f"{real['correct']} correct ({100 * real['accuracy']:.1f} %), {real['unanswered']} without an answer, "
            f"{real['truncated']} cut off, in {real['wall_seconds'] / 60:.1f} minutes."
        )
    cost = pd.read_csv(RESULTS / "cost.csv").groupby("rule", sort=False)
    summary = cost.agg({"jobs": "sum", "wall_seconds": "sum", "peak_memory_mb": "max"}).sort_values(
        "wall_seconds", ascending=False
    )
    lines += ["", "| rule | jobs | seconds in all | MB at most |", "|---|---:|---:|---:|"]
    lines += [
        f"| {rule} | {int(row.jobs)} | {row.wall_seconds:.0f} | {row.peak_memory_mb:.0f} |"
        for rule, row in summary.head(8).iterrows()
    ]
    return "\n".join(lines)


def _bench() -> str:
    """The ratios of the last full run of the benchmark."""
    path = ROOT / "docs" / "bench.json"
    if not path.is_file():
        return "Not measured yet."
    bench = json.loads(path.read_text(encoding="utf-8"))
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
        "tokens_at_equal_error_unshared": "against independent rollouts decoded each by itself",
        "tokens_at_equal_error_coupled": "coupled against independent",
        "sampling_vs_generate": "sampling 512 rows: against `generate` of transformers",
        "memory_vs_generate": "its memory",
        "branching_vs_vllm": "64 rollouts from each of 40 nested prefixes: against vLLM's CPU build",
    }
    lines = ["| what | ours | theirs | ratio | unit |", "|---|---:|---:|---:|---|"]
    for key, words in against.items():
        if key in bench:
            b = bench[key]
            ours, theirs = (f"{b[side]:,.{0 if b[side] >= 10 else 2}f}" for side in ("ours", "theirs"))
            lines.append(f"| {words} | {ours} | {theirs} | {b['ratio']:.1f} | {b['unit']} |")
    agreement, found = bench["rollout_agreement"], bench["thresholds"]
    lines += [
        "",
        f"Coupled and released scores agree: standardised differences at {agreement['positions']} tokens have mean "
        f"{agreement['mean_z']:.2f} and root mean square {agreement['root_mean_square_z']:.2f}; the critical token is the "
        f"same in {agreement['same_critical_token']} trajectories. On {found['trajectories']} trajectories the best "
        f"thresholds on stratified scores (zero {found['best']['zero']}, later {found['best']['later']}) find the critical "
        f"token of the paper's rule in {100 * found['best']['same']:.0f} %; a second set of 64 counts finds it in "
        f"{100 * found['counts_again']:.0f} %.",
    ]
    return "\n".join(lines)


def _slurm() -> str:
    """What the last `make test-slurm` did, and what a dry run of the paper's scale takes."""
    if (RESULTS / "slurm.json").is_file():
        shutil.copy(RESULTS / "slurm.json", ROOT / "docs" / "slurm.json")
    slurm = json.loads((ROOT / "docs" / "slurm.json").read_text(encoding="utf-8"))
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    names = {"kill": "programs killed", "cancel": "jobs cancelled", "crash": "nodes down", "overrun": "jobs past their limit",
             "driver_dies": "drivers killed"}  # fmt: skip
    faults = ", ".join(f"{count} {names[kind]}" for kind, count in slurm["faults"].items())
    plan = measured["paper_dry_run"]
    same = "same" if slurm["tables_equal"] else "OTHER"
    return (
        f"Its last run: {slurm['jobs']} jobs in {slurm['seconds']} s, {slurm['overhead_per_job']:.1f} s of every job for Slurm "
        f"and Snakemake around its own work. With {sum(slurm['faults'].values())} faults ({faults}) the same command, given "
        f"{slurm['drivers']} times, ended in the {same} table, byte by byte.\n\n"
        f"A dry run of the paper's scale ({plan['jobs']:,} jobs, {plan['shards']} shards a cell) takes "
        f"{plan['wall_seconds']:.0f} s and {plan['peak_memory_mb'] / 1024:.1f} GB."
    )


def _tuning() -> str:
    """Mean validation accuracy by method and learning rate, from the last search."""
    table = pd.read_csv(RESULTS / "tuning.csv")
    shutil.copy(RESULTS / "tuning.csv", ROOT / "docs" / "tuning.csv")
    rates = sorted(table["learning_rate"].unique())
    lines = ["| method | " + " | ".join(f"{rate:g}" for rate in rates) + " |", "|---|" + "---:|" * len(rates)]
    for method, rows in table.groupby("method", sort=False):
        means = dict(zip(rows["learning_rate"], rows["mean"], strict=True))
        best = max(means.values())
        shown = [f"**{means[rate]:.1f}**" if means[rate] == best else f"{means[rate]:.1f}" for rate in rates]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _cards() -> str:
    lines = []
    for folder in sorted((ROOT / "data" / "models").iterdir()):
        if not (folder / "card.json").is_file():
            continue
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        recipe = card["recipe"]
        lines += [f"### {folder.name}", ""]
        lines.append(
            f"{recipe['parameters']:,} parameters ({recipe['layers']} layers of {recipe['width']}, {recipe['heads']} heads); "
            f"{recipe['tokens']:,} tokens of {recipe['documents']:,} documents, seed {recipe['seed']}, final loss "
            f"{recipe['loss']:.3f}, {recipe['minutes']:.0f} minutes on a busy machine. Rebuilt by `{card['command']}`."
        )
        lines += [
            "",
            "| dataset | greedy | 95 % interval | pass@1 | pass@64 | train problems with right and wrong among 16 |",
        ]
        lines.append("|---|---:|---:|---:|---:|---:|")
        for dataset, m in card["measured"].items():
            low, high = m["greedy_interval"]
            lines.append(
                f"| {dataset} | {100 * m['greedy_accuracy']:.1f} | {100 * low:.1f}–{100 * high:.1f} "
                f"| {100 * m['pass_at_1']:.1f} | {100 * m['pass_at_64']:.1f} | {100 * m['mixed_of_16']:.1f} |"
            )
        lines += ["", f"Sampled at temperature {card['temperature']}, top-p {card['top_p']}. Checksums:", ""]
        lines += [f"- `{name}` {checksum}" for name, checksum in card["checksums"].items()]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
