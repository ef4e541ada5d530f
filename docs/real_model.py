"""The generated parts on a real language model, and the numbers that they are written from.

    python docs/real_model.py RUN    copy the numbers of a run into docs/real/

RUN is the folder in which presets/real.yaml ran, with results/real and benchmarks/real. `snakemake
plan` must have run there before anything else, so that its plan comes from the formulas.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from evidence import markdown

DOCS = Path(__file__).resolve().parent
REAL = DOCS / "real"
sys.path.insert(0, str(DOCS.parent / "scripts"))

from critical_tokens.core import records  # noqa: E402 - the library is found above
from critical_tokens.reporting import costs, estimates  # noqa: E402

_TABLES = ("trajectories", "grades", "positive", "negative", "pairs")


# --- copying


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of the run")
    copy(parser.parse_args().run)


def copy(run: Path) -> None:
    """Copy what the pages show; see the module."""
    results = run / "results" / "real"
    (sampled_answers,) = results.glob("*/gsm8k/trajectories.parquet")
    cell = sampled_answers.parent
    model = json.loads((results / "models" / cell.parent.name / "model.meta.json").read_text(encoding="utf-8"))
    sampled = _meta(cell, "trajectories")
    grades = pd.read_parquet(cell / "grades.parquet", columns=["problem_id", "correct"])
    right = grades.groupby("problem_id")["correct"].mean()
    found: dict[str, Any] = {
        "model": {**model["gguf"], "dtype": sampled["settings"]["dtype"]},
        "answers": {
            "problems": len(right),
            "samples": sampled["settings"]["samples"],
            "temperature": sampled["settings"]["temperature"],
            "top_p": sampled["settings"]["top_p"],
            "interval": estimates.accuracy_interval(list(grades.itertuples(index=False, name=None))),
            "correct": float(grades["correct"].mean()),
            "truncated": _meta(cell, "grades")["truncated"],
            "mixed": int(((right > 0) & (right < 1)).sum()),
        },
        "hours": _hours(results / "plan.csv", run / "benchmarks" / "real", cell),
    }
    REAL.mkdir(exist_ok=True)
    records.write_json(REAL / "run.json", found)
    (REAL / "tables").mkdir(exist_ok=True)
    for name in _TABLES:
        shutil.copy(cell / f"{name}.parquet", REAL / "tables" / f"{name}.parquet")


def _meta(cell: Path, table: str) -> dict[str, Any]:
    return json.loads((cell / f"{table}.meta.json").read_text(encoding="utf-8"))


def _hours(plan: Path, benchmarks: Path, cell: Path) -> list[dict[str, Any]]:
    """Planned and measured hours of every rule that ran."""
    planned = pd.read_csv(plan)
    if (planned["source"] == "measured").any():
        raise SystemExit(f"{plan} was made after the run; make it in a folder without benchmarks")
    measured = costs.measured_hours(benchmarks, cell.parent.name, cell.name)
    by_rule = planned.set_index("rule")["cpu_hours"]
    return [
        {"rule": rule, "planned": round(float(by_rule[rule]), 3), "measured": round(hours, 3)}
        for rule, (hours, _) in measured.items()
        if by_rule.get(rule)
    ]


# --- the parts of the pages


def _run() -> dict[str, Any]:
    return json.loads((REAL / "run.json").read_text(encoding="utf-8"))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _setting() -> str:
    """The model, its answers, and how many problems have right and wrong ones."""
    found = _run()
    model, answers = found["model"], found["answers"]
    number = answers["problems"] * answers["samples"]
    low, high = answers["interval"]
    file = f"`{model['name']}` ({model['quantisation']}, {model['parameters']:,} parameters, SHA-256"
    sampled = f"{answers['samples']} to each of {answers['problems']} train problems of GSM8K, at temperature"
    shots = f"{answers['temperature']:g} and top-p {answers['top_p']:g}, with 8 worked examples as earlier messages"
    right = f"{_percent(answers['correct'])} are correct (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    items = [
        f"Model: {file} `{model['checksum'].removeprefix('sha256:')}`), computed in {model['dtype']}.",
        f"Answers: {sampled} {shots} of a chat. {right}, and {_percent(answers['truncated'] / number)} were cut off at "
        "the longest length.",
        f"{answers['mixed']} of the problems have correct and incorrect answers, so as many pairs can be made.",
    ]
    return "\n".join(textwrap.fill(item, 100, initial_indent="- ", subsequent_indent="  ") for item in items)


def _plan() -> str:
    """Planned and measured hours of every rule."""
    numbers = [(row["rule"], row["planned"], row["measured"]) for row in _run()["hours"]]
    rows = [[f"`{rule}`", f"{said:.2f}", f"{took:.2f}", f"{took / said:.1f}"] for rule, said, took in numbers]
    return markdown(["rule", "planned hours", "measured hours", "ratio"], rows)


PARTS: dict[str, Callable[[], str]] = {
    "real_setting": _setting,
    "real_plan": _plan,
}


if __name__ == "__main__":
    main()
