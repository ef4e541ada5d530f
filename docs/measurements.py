"""The generated parts of pages that need no run. Their numbers are in docs/*.json, which docs/bench
writes.
"""

from __future__ import annotations

import json
from pathlib import Path

DOCS = Path(__file__).resolve().parent
NAMES = {"gsm8k": "GSM8K", "math": "MATH"}


def grading() -> str:
    """Agreement of both graders with the originals, by source of the completions, and their speed."""
    found = json.loads((DOCS / "grading.json").read_text(encoding="utf-8"))
    lines = ["| completions | `released` and the authors' grader | `math_verify` and the library |", "|---|---:|---:|"]
    for style, name in NAMES.items():
        whole = found[style]
        library = f"{100 * whole['math_verify_agreement']:.2f} %"
        lines.append(f"| {name} ({whole['rows']:,}) | {100 * whole['released_agreement']:.2f} % | {library} |")
        for source, share in whole["released_agreement_by_source"].items():
            lines.append(f"| {name}, of source `{source}` | {100 * share:.2f} % | |")
    speeds = [
        f"{name}: {found[style]['released_per_second']:,} and {found[style]['math_verify_per_second']:,}"
        for style, name in NAMES.items()
    ]
    told = f"Answers per second of `released` on one core and of `math_verify` on {found['cores']}, equal pairs graded once: "
    return "\n".join([*lines, "", told + "; ".join(speeds) + "."])


def blank() -> str:
    """Accuracy of the pocket models whichever side the blank between prompt and answer belongs to."""
    rows = json.loads((DOCS / "blank.json").read_text(encoding="utf-8"))
    accuracy = {(r["model"], r["dataset"], r["blank"]): r["accuracy"] for r in rows}
    lines = ["| model | dataset | blank in the prompt (%) | blank in the answer (%) |", "|---|---|---:|---:|"]
    for model, dataset in dict.fromkeys((r["model"], r["dataset"]) for r in rows):
        shown = " | ".join(f"{100 * accuracy[model, dataset, side]:.1f}" for side in ("prompt", "answer"))
        lines.append(f"| {model} | {dataset} | {shown} |")
    return "\n".join(lines)


def memory() -> str:
    """What the programs take that read all sampled answers of a cell."""
    found = json.loads((DOCS / "memory.json").read_text(encoding="utf-8"))
    lines = [f"| program | answers of {found['tokens']} tokens | seconds | MB at most |", "|---|---:|---:|---:|"]
    lines += [f"| `{run['program']}` | {run['rows']:,} | {run['seconds']:.0f} | {run['mb']} |" for run in found["runs"]]
    measured = f"Measured with batches of {found['batch_rows']:,} rows by `python docs/bench/memory.py`."
    whole = f"At the paper's scale GSM8K has {max(run['rows'] for run in found['runs']):,} sampled answers."
    return "\n".join([*lines, "", f"{measured} {whole}"])
