"""How gold answers in users' files are read, and which of them no answer could ever equal."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from critical_tokens.grading import answers

_CURRENCY = "$€£"
_AMOUNT = re.compile(rf"([-+]?)\s*\\?[{_CURRENCY}]\s*([-+]?\d[\d,]*(\.\d+)?)")
# The form of ASDiv's gold answers: a number with its unit in brackets.
_UNIT_IN_BRACKETS = re.compile(r"([-+]?\d[\d.,]*) \([A-Za-z][A-Za-z ]+\)")
# Gold answers that are no mathematical expression, so GSM8K's grader decides about them: one number
# with signs around it, or words and numbers.
_SIGNS = r"[$€£¥%°\u2212+.\s-]*"
_NUMBER = re.compile(rf"{_SIGNS}\d+(?:,\d{{3}})*(?:\.\d+)?(?: \d{{3}})*(?:\s[^\W\d_])?{_SIGNS}")
_WORDS_AND_NUMBERS = re.compile(r"(?=.*\d)(?=.*\b[^\W\d_]{2})[\w\s$€£¥%°\u2212.,:;!?'\"()-]*", re.DOTALL)
# A number with words after it. No answer equals it, because answers are extracted without units.
_WITH_UNIT = re.compile(rf"[-+{_CURRENCY}]*\s*\d[\d.,]*(\s+\(?[A-Za-z]{{2,}}|\s*\([A-Za-z])[A-Za-z0-9 .,()/]*")
_SENTENCE = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,} [A-Za-z0-9]+")
# The texts of empty cells in tables that were written by pandas or by a spreadsheet program.
_EMPTY = ("", "nan", "null", "n/a", "#n/a")


def of_column(value: Any) -> str | None:
    r"""The gold answer in a cell of an answer column; None where the cell has none.

    The cell may hold
    - a number,
    - a text,
    - an amount of money or a number with its unit in brackets: the number is the gold answer,
    - a worked solution, with "####" or \boxed: its final answer is the gold answer,
    - a list with one of these as its only member.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or value.strip().lower() in _EMPTY:
        return None
    value = value.strip()
    if amount := _AMOUNT.fullmatch(value):
        return amount[1] + amount[2]
    if number := _UNIT_IN_BRACKETS.fullmatch(value):
        return number[1]
    return of_solution(value) if "####" in value or "\\boxed" in value else value


def of_solution(solution: str) -> str | None:
    r"""The gold answer of a worked solution: after "####" (GSM8K), else in the last \boxed (MATH).

    None where there is none. Commas and currency signs after "####" are removed, because the
    released grader removes them from the numbers that it extracts (parser.py:221).
    """
    if "####" in solution:
        return solution.rsplit("####", 1)[1].replace("\\$", "").translate(_NO_SIGNS).strip() or None
    return answers.last_boxed(solution) or None


_NO_SIGNS = dict.fromkeys(map(ord, "," + _CURRENCY))


def is_gradable(gold: str, style: str | None) -> bool:
    """Whether an answer that states the gold answer is graded as correct, and could ever occur.

    style: the style whose grader decides. With None, GSM8K's grader decides about gold answers that
        are no mathematical expression, and MATH's grader about all others.
    """
    if style is None:
        plain = any(form.fullmatch(gold) for form in (_NUMBER, _WITH_UNIT, _WORDS_AND_NUMBERS))
        style = "gsm8k" if plain else "math"
    # A grader finds a sentence equal to itself, but no model will write exactly the same sentence.
    sentence = "\\" not in gold and _SENTENCE.search(gold) is not None
    return not sentence and answers.gold_is_gradable(gold, style)
