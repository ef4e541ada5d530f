"""Gold answers as people's files have them: how they are read, and which of them no answer could ever equal."""

from __future__ import annotations

import math
import re
from typing import Any

from critical_tokens import answers

_CURRENCY = "$€£"
_AMOUNT = re.compile(rf"([-+]?)\s*\\?[{_CURRENCY}]\s*([-+]?\d[\d,]*(\.\d+)?)")
# A number with words behind it: no answer is extracted with its unit.
_WITH_UNIT = re.compile(rf"[-+{_CURRENCY}]*\s*\d[\d.,]*(\s+\(?[A-Za-z]{{2,}}|\s*\([A-Za-z])[A-Za-z0-9 .,()/]*")
_SENTENCE = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,} [A-Za-z0-9]+")
# What tables that went through pandas or a spreadsheet have in empty cells.
_EMPTY = ("", "nan", "null", "n/a", "#n/a")


def of_column(value: Any) -> str | None:
    """The gold answer in a column of its own; None where none stands there.

    A number, or the only member of a list, is one, too. Of a worked solution its answer is taken, of
    an amount of money the number.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or value.strip().lower() in _EMPTY:
        return None
    if amount := _AMOUNT.fullmatch(value.strip()):
        return amount[1] + amount[2]
    return of_solution(value) or value


def of_solution(solution: str) -> str | None:
    r"""The gold answer of a worked solution: after "####" (GSM8K), else the last \boxed{…} (MATH).

    A number of GSM8K has neither commas nor a currency sign, as the released grader reads numbers (parser.py:221).
    """
    if "####" in solution:
        return solution.rsplit("####", 1)[1].replace("\\$", "").translate(_NO_SIGNS).strip() or None
    return answers.last_boxed(solution) or None


_NO_SIGNS = dict.fromkeys(map(ord, "," + _CURRENCY))


def is_gradable(gold: str, style: str | None) -> bool:
    """Whether an answer that states a gold answer is found right, and could ever be given.

    style: whose grader decides. Without one it is MATH's, but GSM8K's for a number with its unit.
    """
    if style is None:
        style = "gsm8k" if _WITH_UNIT.fullmatch(gold) else "math"
    # A grader may find a sentence equal to itself, but no model puts the same sentence into a box.
    sentence = "\\" not in gold and _SENTENCE.search(gold) is not None
    return not sentence and answers.gold_is_gradable(gold, style)
