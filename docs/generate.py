"""Write the generated parts of README.md and data/models/README.md from results/, docs/measured.json and the model cards.

A generated part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. Nobody types a number there.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"


def main() -> None:
    for name in ("fig1", "fig2", "fig6"):
        (ROOT / "docs" / "figures").mkdir(exist_ok=True)
        shutil.copy(ROOT / "figures" / f"{name}.png", ROOT / "docs" / "figures" / f"{name}.png")
    shutil.copy(RESULTS / "table1.csv", ROOT / "docs" / "table1.csv")
    _fill(ROOT / "README.md", {"table1": _table1, "findings": _findings, "cost": _cost, "tuning": _tuning, "bench": _bench})
    for name in ("controls", "significance", "agreement"):
        shutil.copy(RESULTS / f"{name}.csv", ROOT / "docs" / f"{name}.csv")
    shutil.copy(ROOT / "figures" / "controls.png", ROOT / "docs" / "figures" / "controls.png")
    parts = {"claims": _claims, "controls": _controls, "significance": _significance, "grading": _grading}
    _fill(ROOT / "docs" / "replication.md", parts)
    _fill(ROOT / "docs" / "cluster.md", {"slurm": _slurm})
    _fill(ROOT / "data" / "models" / "README.md", {"cards": _cards})


def _fill(path: Path, parts: dict) -> None:
    text = path.read_text()
    for name, make in parts.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        if not re.search(pattern, text, re.DOTALL):
            raise SystemExit(f"{path}: has no part {name}")
        text = re.sub(pattern, lambda m, make=make: m[1] + make().rstrip() + "\n" + m[2], text, flags=re.DOTALL)
    path.write_text(text)


def _table1() -> str:
    return (RESULTS / "table1.md").read_text()


def _findings() -> str:
    lines = []
    curves = pd.read_csv(RESULTS / "fig2.csv")
    for (model, dataset), cell in curves.groupby(["model", "dataset"], sort=False):
        meta = json.loads((RESULTS / model / dataset / "critical.meta.json").read_text())
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
    measured = json.loads((ROOT / "docs" / "measured.json").read_text())
    machine, startup = measured["machine"], measured["startup_seconds"]
    heaviest = max(startup, key=startup.get)
    rows = [("`snakemake` (the whole selection)", measured["make"]), ("`snakemake` again (nothing to do)", measured["again"])]
    rows.append(("`snakemake results/pocket-s/pocket-gsm/table1.csv` (one cell)", measured["cell"]))
    lines = [
        f"Measured on {machine['cores']} cores without a GPU by `python docs/measure.py`:",
        "",
        "| command | minutes | GB |",
    ]
    lines.append("|---|---:|---:|")
    lines += [f"| {name} | {cost['wall_seconds'] / 60:.1f} | {cost['peak_memory_mb'] / 1024:.1f} |" for name, cost in rows]
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
    bench = json.loads(path.read_text())
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
    slurm = json.loads((ROOT / "docs" / "slurm.json").read_text())
    measured = json.loads((ROOT / "docs" / "measured.json").read_text())
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


def _claims() -> str:
    """The paper's claims beside what the pocket world shows."""
    curves = pd.read_csv(RESULTS / "fig2.csv").set_index(["arm", "k"])["pass_at_k"]
    kept, replaced = (100 * curves[arm, 64] for arm in ("kept", "replaced"))
    table = pd.read_csv(RESULTS / "table1.csv").groupby(["model", "dataset", "method"])["accuracy"].mean().unstack()
    agreement = pd.read_csv(RESULTS / "agreement.csv")

    def ahead(first: str, second: str) -> str:
        return f"{int((table[first] > table[second]).sum())} of {len(table)} cells"

    def span(values: pd.Series, scale: float = 1.0, digits: int = 2) -> str:
        return f"{scale * values.min():.{digits}f} to {scale * values.max():.{digits}f}"

    rollouts, truth = (span(agreement[f"auc_contrast_{label}"]) for label in ("rollouts", "truth"))
    before, very = (span(agreement[f"critical_{where}_first_wrong"], 100, 0) for where in ("at_or_before", "is"))
    rows = [
        ("after a critical token rollouts fail", f"pass@64 with the token kept: {span(kept, 1, 0)} %"),
        ("another token in its place saves the answer", f"pass@64 with the token replaced: {span(replaced, 1, 0)} %"),
        (
            "contrastive estimation finds the rollouts' critical tokens (AUC 0.77 GSM8K, 0.84 MATH, ICML)",
            f"AUC {rollouts}; against the planted first wrong token {truth}",
        ),
        (
            "a critical token is often not the first error (v3)",
            f"at or before the first wrong token in {before} %, the very token in {very} %",
        ),
        ("cDPO is better than DPO from the base model", ahead("cdpo", "dpo")),
        ("cDPO is better than RPO", ahead("cdpo", "rpo")),
        ("cDPO is better than SFT", ahead("cdpo", "sft")),
        ("cDPO is better than the baseline", ahead("cdpo", "baseline")),
    ]
    return "\n".join(["| claim | pocket world |", "|---|---|", *(f"| {claim} | {found} |" for claim, found in rows)])


def _controls() -> str:
    """Mean and spread of every control by cell."""
    table = pd.read_csv(RESULTS / "controls.csv")
    cells = list(dict.fromkeys(zip(table["model"], table["dataset"], strict=True)))
    lines = [
        "| method | " + " | ".join(f"{model}, {dataset}" for model, dataset in cells) + " |",
        "|---|" + "---:|" * len(cells),
    ]
    for method, rows in table.groupby("method", sort=False):
        by_cell = rows.set_index(["model", "dataset"])
        shown = [
            f"{by_cell.loc[cell, 'mean']:.1f}"
            + (f" ± {by_cell.loc[cell, 'deviation']:.1f}" if by_cell.loc[cell, "seeds"] > 1 else "")
            for cell in cells
        ]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    return "\n".join([*lines, "", f"Mean accuracy (%) ± standard deviation over {int(table['seeds'].max())} training seeds."])


def _significance() -> str:
    """How many cells a method is ahead in, beyond doubt, against whom."""
    table = pd.read_csv(RESULTS / "significance.csv")
    lines = ["| method | against the baseline | against the best other method |", "|---|---|---|"]
    for method, rows in table.groupby("method", sort=False):
        words = []
        for role in ("baseline", "best other"):
            of_role = rows[rows["role"] == role]
            sure = of_role[of_role["p_holm"] < 0.05]
            better, worse = int((sure["difference"] > 0).sum()), int((sure["difference"] < 0).sum())
            words.append(
                f"better in {better}, worse in {worse}, open in {len(of_role) - better - worse} of {len(of_role)} cells"
            )
        lines.append(f"| {method} | " + " | ".join(words) + " |")
    return "\n".join([*lines, "", "Better and worse: p below 0.05 after correction."])


def _grading() -> str:
    """Agreement and speed of the graders, from docs/bench/grading.py."""
    path = ROOT / "docs" / "grading.json"
    if not path.is_file():
        return "Not measured yet."
    grading = json.loads(path.read_text())
    lines = ["| completions | grader | agreement | answers per second |", "|---|---|---:|---:|"]
    for style, name in (("gsm8k", "GSM8K"), ("math", "MATH")):
        g = grading[style]
        for grader in ("released", "math_verify"):
            share, speed = g[f"{grader}_agreement"], g[f"{grader}_per_second"]
            lines.append(f"| {name} ({g['rows']:,}) | {grader} | {100 * share:.2f} % | {speed:,} |")
    return "\n".join([*lines, "", f"On {grading['cores']} cores, workers started before, equal pairs graded once."])


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
        card = json.loads((folder / "card.json").read_text())
        recipe = card["recipe"]
        lines += [f"### {folder.name}", ""]
        lines.append(
            f"{recipe['parameters']:,} parameters ({recipe['layers']} layers of {recipe['width']}, {recipe['heads']} heads); "
            f"{recipe['tokens']:,} tokens of {recipe['documents']:,} documents, seed {recipe['seed']}, final loss "
            f"{recipe['loss']:.3f}, {recipe['minutes']:.0f} minutes on a busy machine. Rebuilt by `{card['command']}`."
        )
        lines += ["", "| dataset | greedy | 95 % interval | pass@1 | pass@64 | train problems with right and wrong among 16 |"]
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
