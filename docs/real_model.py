"""The generated parts on a real language model, and the numbers that they are written from.

    python docs/real_model.py RUN    copy the numbers and figures of a run into docs/

RUN is the folder in which presets/real.yaml ran, with results/real, figures/real and
benchmarks/real. `snakemake plan` must have run there before anything else, so that its plan comes
from the formulas.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from evidence import markdown, read_published

DOCS = Path(__file__).resolve().parent
REAL = DOCS / "real"
sys.path.insert(0, str(DOCS.parent / "scripts"))

from critical_tokens.core import records  # noqa: E402 - the library is found above
from critical_tokens.reporting import costs, estimates  # noqa: E402

# Continuations of a token in the released procedure (paper, section 2).
_RELEASED = 64
_TABLES = ("trajectories", "grades", "positive", "negative", "pairs", "rollouts", "critical", "replacement")
_QUARTERS = ("first", "second", "third", "last")


# --- copying


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of the run")
    copy(parser.parse_args().run)


def copy(run: Path) -> None:
    """Copy what the pages show; see the module."""
    results = run / "results" / "real"
    (cell,) = results.glob("*/gsm8k")
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
        "critical": _meta(cell, "critical"),
        "words": json.loads((cell / "critical_words.json").read_text(encoding="utf-8")),
        "tokens": _tokens(cell),
        "hours": _hours(results / "plan.csv", run / "benchmarks" / "real", cell),
    }
    for example in found["words"]["examples"]:
        del example["question"]  # the data of other people
    for name in ("settings", "inputs", "versions", "machine", "checksum", "program"):
        found["critical"].pop(name, None)
    REAL.mkdir(exist_ok=True)
    records.write_json(REAL / "run.json", found)
    shutil.copy(results / "fig2.csv", REAL / "fig2.csv")
    (REAL / "tables").mkdir(exist_ok=True)
    for name in _TABLES:
        shutil.copy(cell / f"{name}.parquet", REAL / "tables" / f"{name}.parquet")
    pictures = DOCS / "figures" / "real"
    pictures.mkdir(parents=True, exist_ok=True)
    for picture in (run / "figures" / "real").glob("*.png"):
        shutil.copy(picture, pictures / picture.name)


def _meta(cell: Path, table: str) -> dict[str, Any]:
    return json.loads((cell / f"{table}.meta.json").read_text(encoding="utf-8"))


def _tokens(cell: Path) -> dict[str, float]:
    """Tokens that the search took, and that the released procedure would take for the same answers.

    The released procedure draws 64 continuations after every token, each decoded by itself. Their
    mean length is known at the critical tokens, in proportion to what the answer has left there.
    """
    critical = pd.read_parquet(cell / "critical.parquet", columns=["problem_id", "position", "length"])
    drawn = pd.read_parquet(cell / "replacement.parquet", columns=["problem_id", "answer"]).merge(critical)
    continued = (drawn["answer"].map(len) - drawn["position"]).sum() / (drawn["length"] - drawn["position"]).sum()
    behind = (critical["length"] * (critical["length"] + 1) / 2).sum()
    return {
        "answers": len(critical),
        "mean_length": float(critical["length"].mean()),
        "generated": _meta(cell, "rollouts")["tokens_generated"],
        "released": float(_RELEASED * behind * continued),
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


# --- the parts of the pages


def _run() -> dict[str, Any]:
    return json.loads((REAL / "run.json").read_text(encoding="utf-8"))


def _curves() -> pd.DataFrame:
    """Figure 2, with pass@k in %."""
    table = pd.read_csv(REAL / "fig2.csv")
    table[["pass_at_k", "low", "high"]] *= 100
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _setting() -> str:
    """The model, its answers, and how many problems have right and wrong ones."""
    found = _run()
    model, answers = found["model"], found["answers"]
    number = answers["problems"] * answers["samples"]
    low, high = answers["interval"]
    lines = [
        f"- Model: `{model['name']}` ({model['quantisation']}, {model['parameters']:,} parameters, SHA-256",
        f"  `{model['checksum'].removeprefix('sha256:')}`), computed in {model['dtype']}.",
        f"- Answers: {answers['samples']} to each of {answers['problems']} train problems of GSM8K, at temperature",
        f"  {answers['temperature']:g} and top-p {answers['top_p']:g}, with 8 worked examples as earlier messages of a",
        f"  chat. {_percent(answers['correct'])} of them are correct (95 % interval {100 * low:.1f} to",
        f"  {100 * high:.1f}), and {_percent(answers['truncated'] / number)} were cut off at the longest length.",
        f"- {answers['mixed']} of the {answers['problems']} problems have correct and incorrect answers. The examined",
        "  answers are incorrect ones of such problems.",
    ]
    return "\n".join(lines)


def _replaced() -> str:
    """pass@k of the real model beside the paper's, and how often a critical token was found."""
    found = _run()["critical"]
    own, published = _curves(), read_published("figure2").query("dataset == 'gsm8k'")
    shown = [k for k in (1, 2, 4, 8, 16, 32, 64) if k in set(own["k"])]
    rows = []
    for arm, of_arm in own.groupby("arm", sort=False):
        by_k = of_arm.set_index("k")
        cells = [f"{by_k.pass_at_k[k]:.1f} [{by_k.low[k]:.1f}, {by_k.high[k]:.1f}]" for k in shown]
        rows.append([f"token {arm}", str(int(of_arm["trajectories"].iloc[0])), *cells])
        theirs = published[published["arm"] == arm].set_index("k")["pass_at_k"]
        rows.append([f"paper: Llama-3-8B, token {arm}", "100", *(f"{theirs[k]:.1f}" for k in shown)])
    told = f"A critical token was found in {found['found']} of {found['trajectories']} incorrect answers."
    return "\n".join([told, "", markdown(["arm", "answers", *(f"pass@{k}" for k in shown)], rows)])


def _verdict() -> str:
    """What the real model shows, in one paragraph."""
    found, own = _run(), _curves()
    most = own["k"].max()
    kept, replaced = (own[(own["arm"] == arm) & (own["k"] == most)].iloc[0] for arm in ("kept", "replaced"))
    critical, billions = found["critical"], found["model"]["parameters"] / 1e9
    lines = [
        f"- After a critical token, answers of a real model of {billions:.1f} billion parameters fail, too. A",
        f"  critical token was found in {critical['found']} of {critical['trajectories']} incorrect answers. If it is",
        f"  kept, at least one of {most} continuations is correct in {kept.pass_at_k:.0f} % of these answers. If",
        f"  another token takes its place, this share is {replaced.pass_at_k:.0f} % [{replaced.low:.0f},",
        f"  {replaced.high:.0f}].",
    ]
    return "\n".join(lines)


def _words() -> str:
    """Where critical tokens are, their kinds, and the most frequent ones."""
    words = _run()["words"]
    places = markdown(["quarter of the answer", *_QUARTERS], [["critical tokens", *map(str, words["quarters"])]])
    kinds = markdown(
        ["tokens", *words["kinds"]],
        [[name, *_shares(words[key])] for name, key in (("critical", "kinds"), ("all of these answers", "all_kinds"))],
    )
    most = markdown(
        ["token", "critical", "in these answers"],
        [[_visible(row["token"]), str(row["critical"]), str(row["all"])] for row in words["most_frequent"]],
    )
    return "\n\n".join([places, kinds, most])


def _shares(counts: Mapping[str, int]) -> list[str]:
    return [_percent(count / sum(counts.values())) for count in counts.values()]


def _visible(text: str) -> str:
    """A token as code, with its blanks and line ends shown."""
    shown = text.replace(" ", "␣").replace("\n", "⏎").replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def _examples() -> str:
    """Answers up to their critical token and behind it, with the scores of both."""
    parts = []
    for example in _run()["words"]["examples"]:
        before, score = (f"{100 * example[name]:.0f} %" for name in ("score_before", "score"))
        asked = f"Problem `{example['problem_id']}`, correct answer {example['gold']}."
        told = f"Continuations are correct in {before} before the critical token and in {score} after it:"
        text = f"{example['before']}【{example['token']}】{example['after']}"
        parts += [f"{asked} {told}", "\n".join(f"    {line}" for line in text.splitlines())]
    return "\n\n".join(parts)


def _tokens_spent() -> str:
    """What the search for critical tokens cost against the released procedure, in tokens."""
    found = _run()["tokens"]
    answers = f"{found['answers']} answers, which have {found['mean_length']:.0f} tokens on average"
    released, ratio = f"{found['released'] / 1e6:.1f} million", f"{found['released'] / found['generated']:.0f}"
    lines = [
        f"The search took {found['generated']:,} generated tokens for {answers}. The released",
        f"procedure would take about {released}, {ratio} times as many: {_RELEASED} continuations of",
        "every token, each decoded by itself.",
    ]
    return "\n".join(lines)


def _plan() -> str:
    """Planned and measured hours of every rule."""
    numbers = [(row["rule"], row["planned"], row["measured"]) for row in _run()["hours"]]
    rows = [[f"`{rule}`", f"{said:.2f}", f"{took:.2f}", f"{took / said:.1f}"] for rule, said, took in numbers]
    return markdown(["rule", "planned hours", "measured hours", "ratio"], rows)


PARTS: dict[str, Callable[[], str]] = {
    "real_verdict": _verdict,
    "real_setting": _setting,
    "real_replaced": _replaced,
    "real_words": _words,
    "real_examples": _examples,
    "real_tokens": _tokens_spent,
    "real_plan": _plan,
}


if __name__ == "__main__":
    main()
