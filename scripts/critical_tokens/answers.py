"""Extract the answer of a completion and grade it against the gold answer.

Completions are hostile input: they are matched with bounded patterns and compared as text or as exact fractions; nothing
of them is evaluated. A completion without a recognisable answer is wrong and counts as unanswered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from critical_tokens.records import Row

# A longer completion is cut before anything is searched in it; a longer number is no answer.
_LONGEST_COMPLETION = 20_000
_LONGEST_ANSWER = 300

_NUMBER = re.compile(r"-?\$?\d[\d,]{0,40}(?:\.\d{1,40})?")
_STATED = re.compile(r"[Tt]he (?:final )?answer is:? ")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(-?\d{1,40})\}\{(-?\d{1,40})\}")
_BOXED = re.compile(r"\\boxed(?: *\{| +([^\s{}\\$]))")
_RATIO = re.compile(r"(-?\d{1,40})/(\d{1,40})")


@dataclass(frozen=True)
class Grade:
    """The extracted answer (None: none found) and whether it equals the gold answer."""

    answer: str | None
    correct: bool


def grade(completion: str, gold: str, style: str) -> Grade:
    """Grade a completion of a prompt style (see `prompts.STYLES`)."""
    answer = extract(completion, style)
    return Grade(answer, answer is not None and equal(answer, gold))


def grade_rows(samples: Sequence[Row], problems: Sequence[Row], style: str) -> list[dict[str, Any]]:
    """Grades of samples as rows of the table "grades"."""
    gold = {p["problem_id"]: p["answer"] for p in problems}
    rows = []
    for sample in samples:
        result = grade(sample["text"], gold[sample["problem_id"]], style)
        rows.append({
            "problem_id": sample["problem_id"],
            "sample_id": sample["sample_id"],
            "answer": result.answer,
            "correct": result.correct,
        })  # fmt: skip
    return rows


def extract(completion: str, style: str) -> str | None:
    """The answer a completion states, or None.

    gsm8k: the first number after the first "The answer is", else the last number (as the released parser.py:219-225).
    math: the last boxed expression, else what follows the last "The answer is" up to the end of the sentence.
    """
    completion = completion[:_LONGEST_COMPLETION]
    answer = _extract_number(completion) if style == "gsm8k" else _extract_expression(completion)
    return answer if answer is not None and 0 < len(answer) <= _LONGEST_ANSWER else None


def _extract_number(completion: str) -> str | None:
    stated = _STATED.search(completion)
    if stated:
        first = _NUMBER.search(completion, stated.end())
        if first:
            return first.group(0)
    numbers = _NUMBER.findall(completion)
    return numbers[-1] if numbers else None


def _extract_expression(completion: str) -> str | None:
    boxed = last_boxed(completion)
    if boxed is not None:
        return boxed.strip()
    stated = list(_STATED.finditer(completion))
    if not stated:
        return None
    sentence = completion[stated[-1].end() :].split("\n", 1)[0]
    return sentence.split(". ", 1)[0].strip().rstrip(".").strip("$ ") or None


def last_boxed(text: str) -> str | None:
    r"""Content of the last \boxed{...} with balanced braces, or the one character of a later "\boxed 5"; None without any."""
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


def equal(answer: str, gold: str) -> bool:
    """Whether two answers are the same number or, after removing typographic differences, the same text."""
    left, right = number(answer), number(gold)
    if left is not None and right is not None:
        return left == right
    return normalise(answer) == normalise(gold)


def number(text: str) -> Fraction | None:
    r"""The exact value of an integer, a decimal, a/b or \frac{a}{b}; None for anything else."""
    text = normalise(text)
    match = _FRACTION.fullmatch(text)
    if match:
        sign, above, below = match.groups()
        return None if int(below) == 0 else Fraction(int(above), int(below)) * (-1 if sign else 1)
    match = _RATIO.fullmatch(text)
    if match:
        return None if int(match[2]) == 0 else Fraction(int(match[1]), int(match[2]))
    if re.fullmatch(r"-?\d{1,40}(?:\.\d{1,40})?", text):
        return Fraction(text)
    return None


def normalise(text: str) -> str:
    """An answer without spaces, dollar signs, thousands separators, LaTeX spacing and a final full stop."""
    text = text.strip().rstrip(".")
    text = re.sub(r"\\[!,;: ]|\\left|\\right|\\text\{ *\}|[\s$]", "", text)
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\%", "%").removesuffix("%")
    return re.sub(r"(?<=\d),(?=\d{3})", "", text)
