"""Copy the numbers, tables and figures of a run of a real model into docs/.

    python docs/real_run.py RUN

RUN is the folder in which presets/real.yaml ran, with results/real, figures/real and
benchmarks/real. `snakemake plan` must have run there before anything else, so that its plan comes
from the formulas. The accuracy on all test problems comes from results/anchor, which has the
baseline alone. `docs/real_model.py` writes the pages' parts from what is copied.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd

DOCS = Path(__file__).resolve().parent
REAL = DOCS / "real"
sys.path.insert(0, str(DOCS.parent / "scripts"))

from critical_tokens.core import records  # noqa: E402 - the library is found above
from critical_tokens.reporting import costs, estimates  # noqa: E402

# Continuations of a token in the released procedure (paper, section 2).
RELEASED = 64
# The metrics of the model without training, in the folder of a cell.
BASELINE = "baseline/seed1/metrics.json"
_TABLES = (
    "trajectories", "grades", "positive", "negative", "pairs", "rollouts", "critical", "replacement", "contrast",
    "reference",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of the run")
    copy(parser.parse_args().run)


def copy(run: Path) -> None:
    """Copy what the pages show; see the module."""
    results = run / "results" / "real"
    (sampled_answers,) = results.glob("*/gsm8k/trajectories.parquet")
    cell = sampled_answers.parent
    model = records.read_json(results / "models" / cell.parent.name / "model.meta.json")
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
            "shots": records.read_json(results / "data" / "gsm8k" / "shots.meta.json")["shots"],
        },
        "critical": {name: _meta(cell, "critical")[name] for name in ("trajectories", "found")},
        "words": _words(cell),
        "tokens": _tokens(cell),
        "contrast": _contrast(cell),
        "anchor": records.read_json(run / "results" / "anchor" / cell.parent.name / cell.name / BASELINE),
        "hours": _hours(results / "plan.csv", run / "benchmarks" / "real", cell),
    }
    REAL.mkdir(exist_ok=True)
    shutil.copy(results / "fig2.csv", REAL / "fig2.csv")
    records.write_json(REAL / "run.json", found)
    (REAL / "tables").mkdir(exist_ok=True)
    for name in _TABLES:
        shutil.copy(cell / f"{name}.parquet", REAL / "tables" / f"{name}.parquet")
    (DOCS / "figures" / "real").mkdir(parents=True, exist_ok=True)
    for picture in (run / "figures" / "real").glob("*.png"):
        shutil.copy(picture, DOCS / "figures" / "real" / picture.name)


def _meta(cell: Path, table: str) -> dict[str, Any]:
    return records.read_json(cell / f"{table}.meta.json")


def _words(cell: Path) -> dict[str, Any]:
    """What `classify_critical` found, without the questions, which are the data of other people."""
    found = records.read_json(cell / "critical_words.json")
    for example in found["examples"]:
        del example["question"]
    return found


def _contrast(cell: Path) -> dict[str, Any]:
    """How the two models were trained, how far they are apart, and how well their scores agree.

    The entry `apart` is the mean of |log p+ - log p-| over the tokens of the scored answers (nats).
    """
    sides = {side: _meta(cell / side, "adapter_model") for side in ("positive", "negative")}
    trained = ("learning_rate", "epochs", "batch_size", "lora_rank", "lora_layers")
    row = pd.read_csv(cell / "agreement.csv").iloc[0]
    table = pd.read_parquet(cell / "contrast.parquet", columns=["positive_logps", "negative_logps"])
    gaps = (table["positive_logps"].explode() - table["negative_logps"].explode()).abs()
    names = ("auc_contrast_rollouts", "auc_base_rollouts", "lowest_is_critical")
    agreed = {f"{name}{end}": float(row[f"{name}{end}"]) for name in names for end in ("", "_low", "_high")}
    return {
        **agreed,
        "apart": float(gaps.mean()),
        "training": {name: sides["positive"]["settings"][name] for name in trained},
        **{side: {"answers": about["examples"], "updates": about["updates"]} for side, about in sides.items()},
    }


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


def _tokens(cell: Path) -> dict[str, float]:
    """Tokens that the search took, and that the released procedure would take for the same answers.

    The released procedure draws 64 continuations after every token, each decoded by itself. Their
    mean length is known where the critical token is kept, in proportion to what the answer has left
    there.
    """
    critical = pd.read_parquet(cell / "critical.parquet", columns=["problem_id", "position", "length"])
    drawn = pd.read_parquet(cell / "replacement.parquet", columns=["problem_id", "arm", "answer"])
    kept = drawn[drawn["arm"] == "kept"].merge(critical)
    continued = (kept["answer"].map(len) - kept["position"]).sum() / (kept["length"] - kept["position"]).sum()
    behind = (critical["length"] * (critical["length"] + 1) / 2).sum()
    return {
        "answers": len(critical),
        "mean_length": float(critical["length"].mean()),
        "generated": _meta(cell, "rollouts")["tokens_generated"],
        "released": float(RELEASED * behind * continued),
    }


if __name__ == "__main__":
    main()
