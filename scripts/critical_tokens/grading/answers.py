"""What the answer of a completion is, and whether it is correct, by two graders.

released: the rules of the released code, made safe (`grading.released_rules`).
math_verify: the library of that name (`grading.verify`).

Every sample has the verdicts of both graders; the config says which grader labels the data.
Completions are hostile input, so nothing in them is ever executed. A completion without a
recognisable answer is wrong and counts as unanswered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from critical_tokens.core.records import ByProblem, Row
from critical_tokens.grading import released_rules, verify

GRADERS = ("released", "math_verify")
_BOXED = re.compile(r"\\boxed(?: *\{| +([^\s{}\\$]))")


@dataclass(frozen=True)
class Grade:
    """The extracted answer (None if none was found), and whether it equals the gold answer."""

    answer: str | None
    correct: bool


def grade(completion: str, gold: str, style: str) -> Grade:
    """Grade a completion by the released code's rules for a prompt style (see `prompts.STYLES`)."""
    answer = released_rules.extract(completion, style)
    gold = gold if style == "gsm8k" else released_rules.strip(gold)
    return Grade(answer, answer is not None and released_rules.equal(answer, gold))


def gold_is_gradable(gold: str, style: str) -> bool:
    """Whether a completion that states the gold answer is correct by the released rules.

    If it is not (because of a unit after a number, say), no answer could ever be correct. The
    completion states a gold answer of several lines on one line.
    """
    forms = (
        ("The answer is {}.",)
        if style == "gsm8k"
        else (r"So $\boxed{{{}}}$.", "Final Answer: The final answer is ${}$.")
    )
    return any(grade(form.format(" ".join(gold.split())), gold, style).correct for form in forms)


def grade_rows(
    samples: Sequence[Row], problems: Sequence[Row], style: str, grader: str, workers: verify.Workers | None = None
) -> list[dict[str, Any]]:
    """The grades of samples, as rows of the table "grades".

    samples: rows of the table "trajectories".
    problems: rows of the table "problems"; all problems of the samples are among them.
    style: the prompt style.
    grader: the grader whose verdict becomes the column `correct`, one of GRADERS.
    workers: see `verify.verdicts`.
    """
    asked = ByProblem(problems, "the table of problems")
    pairs = [(sample["text"], asked[sample["problem_id"]]["answer"]) for sample in samples]
    known = {pair: grade(*pair, style) for pair in dict.fromkeys(pairs)}
    rows = []
    for sample, pair, verified in zip(samples, pairs, verify.verdicts(pairs, workers), strict=True):
        verdicts = {"released": known[pair].correct, "math_verify": verified}
        rows.append({
            "problem_id": sample["problem_id"],
            "sample_id": sample["sample_id"],
            "answer": known[pair].answer,
            "correct": bool(verdicts[grader]),
            **verdicts,
        })  # fmt: skip
    return rows


def counts(grades: Sequence[Row]) -> dict[str, int]:
    """The number of samples by outcome.

    released, math_verify: correct by that grader.
    unanswered: no answer was extracted.
    timed_out: math_verify reached a limit.
    """
    return {
        "released": sum(g["released"] for g in grades),
        "math_verify": sum(bool(g["math_verify"]) for g in grades),
        "unanswered": sum(g["answer"] is None for g in grades),
        "timed_out": sum(g["math_verify"] is None for g in grades),
    }


def label(completion: str, gold: str, style: str, grader: str, workers: verify.Workers | None = None) -> bool:
    """Whether one completion is correct by a grader; False where the grader reached a limit."""
    if grader == "released":
        return grade(completion, gold, style).correct
    return bool(verify.verdicts([(completion, gold)], workers)[0])


def last_boxed(text: str) -> str | None:
    r"""The content of the last box in a text; None where there is none.

    A box is \boxed{...} with balanced braces, or \boxed with a single character, as in "\boxed 5".
    """
    closed_at: dict[int, int] = {}
    opened: list[int] = []
    for index, char in enumerate(text):
        if char == "{":
            opened.append(index)
        elif char == "}" and opened:
            closed_at[opened.pop()] = index
    found = None
    for match in _BOXED.finditer(text):
        if match[1]:
            found = match[1]
        elif match.end() - 1 in closed_at:
            found = text[match.end() : closed_at[match.end() - 1]]
    return found
