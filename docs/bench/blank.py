"""Accuracy of the pocket models with and without the blank at the end of a prompt.

    PYTHONPATH=scripts python docs/bench/blank.py      # a minute on two cores; docs/blank.json

The pocket models were trained on prompts that end with the blank, and a little on the prompts'
tokens themselves. So they can also write the blank as the first token of an answer. The paper's
models cannot be tested both ways, because their tokenizers join the blank to the word behind it.
Answers are greedy, to test problems.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.data import prompts, sources
from critical_tokens.decoding.distributions import GREEDY
from critical_tokens.engines.opening import EngineSettings
from critical_tokens.grading import answers
from critical_tokens.models.checkpoints import ModelSource
from critical_tokens.pocket.worlds import WORLDS
from critical_tokens.reporting import estimates
from critical_tokens.rollouts.sampler import Sampler

ROOT = Path(__file__).resolve().parent.parent.parent
PROBLEMS, LONGEST, BUFFER = 1000, 96, 24_576


def main() -> None:
    report = []
    for model in ("pocket-s", "pocket-m"):
        for dataset, world in WORLDS.items():
            problems = sources.generated(dataset, "test", PROBLEMS, 0)
            for blank in prompts.BLANKS:
                source = ModelSource(str(ROOT / "data" / "models" / model))
                sampler = Sampler(source, [], prompts.Prompt(world.style, blank=blank), EngineSettings(BUFFER))
                found = sampler.sample(problems, 1, GREEDY, LONGEST, 0, f"{model} {dataset} {blank}")
                grades = answers.grade_rows(found, problems, world.style, "released")
                low, high = estimates.accuracy_interval([(g["problem_id"], g["correct"]) for g in grades])
                report.append({
                    "model": model,
                    "dataset": dataset,
                    "blank": blank,
                    "accuracy": sum(g["correct"] for g in grades) / len(grades),
                    "low": low,
                    "high": high,
                    "truncated": sum(not f["finished"] for f in found),
                })  # fmt: skip
    records.write_json(ROOT / "docs" / "blank.json", report)


if __name__ == "__main__":
    main()
