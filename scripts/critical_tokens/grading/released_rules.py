r"""The released code's grader without its unsafe part.

The rules are those of the released parser.py and grader.py, in the same order and with the same
faults (docs/grading.md lists them). One part is replaced. The released grader passes model output
to sympy's `parse_expr`, which executes it. It also gives up after one second of wall time, so that
its verdicts depend on the load of the machine. Here, `expressions.same` compares the same texts
without executing them. LaTeX is compared as text, because the library versions that the released
code pins cannot parse it.
"""

from __future__ import annotations

import math
import re

from critical_tokens.grading import expressions

# A longer answer counts as no answer; all gold answers are much shorter.
_LONGEST_ANSWER = 1_000
_NUMBER = re.compile(r"-?\d*\.?\d+")
_MBOX = re.compile(r"\\mbox\{([^}]*)\}")
_NEXT_QUESTION = ("\n\nQuestion:", "\n\nProblem:")


def extract(completion: str, style: str) -> str | None:
    r"""The answer that the released code finds in a completion; None where it finds none.

    A completion ends where it goes on to another question (utils.py:64).

    Style gsm8k (parser.py:218-234): the first number after the first "he answer is "; without these
    words, the last number.

    Style math (parser.py:126-170): the first of these that exists:
    - the text between dollar signs after the last "Final Answer:",
    - the content of the last \boxed,
    - the line after the last "he answer is",
    - the last number.
    """
    for heading in _NEXT_QUESTION:
        completion = completion.split(heading, 1)[0]
    answer = _number(completion) if style == "gsm8k" else _expression(completion)
    return answer if answer and len(answer) <= _LONGEST_ANSWER else None


def _number(completion: str) -> str | None:
    _, stated, rest = completion.partition("he answer is ")
    if not stated:
        found = _NUMBER.findall(_without(completion, "$€£,"))
        return found[-1] if found else None
    # Nothing is read after a second "he answer is ".
    first = _NUMBER.search(_without(rest.split("he answer is ", 1)[0], "$€£,"))
    return first[0] if first else None


def _expression(completion: str) -> str | None:
    answer = _in_dollars(completion)
    if answer is None:
        if "boxed" in completion:
            answer = _boxed(completion.rsplit("boxed", 1)[1])
        elif "he answer is" in completion:
            answer = completion.rsplit("he answer is", 1)[1].strip()
        else:
            found = _NUMBER.findall(_without(completion, "$€,\\"))
            answer = found[-1] if found else ""
    answer = answer.split("\n", 1)[0]
    if len(answer) > 2 * _LONGEST_ANSWER:
        return None
    return strip(answer.removeprefix(":").removesuffix(".").removesuffix("/"))


def _in_dollars(completion: str) -> str | None:
    """The text between the first and last dollar sign after the last "Final Answer:"; or None."""
    if "Final Answer:" not in completion:
        return None
    # Where "I hope it is correct" stands before "Final Answer:", the heading is cut off, and all of
    # the text before "I hope it is correct" is searched.
    tail = completion.split("I hope it is correct", 1)[0].rsplit("Final Answer:", 1)[-1]
    first, last = tail.find("$"), tail.rfind("$")
    return tail[first + 1 : last] if first < last else None


def _boxed(tail: str) -> str:
    r"""The content of a box; `tail` is the text after "boxed".

    It ends at the brace that closes the box or, without an opening brace, at the next dollar sign.
    """
    if not tail.startswith("{"):
        return tail.split("$", 1)[0].strip()
    depth = 0
    for index, char in enumerate(tail):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return tail[1:index]
    return tail[1:]


def _without(text: str, characters: str) -> str:
    for character in characters:
        text = text.replace(character, "")
    return text


def strip(text: str) -> str:
    r"""An answer without typography, units and words, as the released code strips it.

    A unit is removed only where \text{…} ends the answer or \mbox{…} marks it. The left side of an
    equation is removed only where it has at most two characters (parser.py:58-123).
    """
    text = text.strip().replace("\n", "").rstrip(".")
    text = text.replace("\\!", "").replace("\\ ", "").replace("\\\\", "\\").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac").replace("\\left", "").replace("\\right", "")
    text = _without_unit(text)
    for word in ("^{\\circ}", "^\\circ", "\\$", "$", "\\text", "x\\in", "\\%", "%"):
        text = text.replace(word, "")
    text = text.replace(" .", " 0.").replace("{.", "{0.").replace("\\cdot", "").replace("infinity", "\\infty")
    if "\\infty" not in text:
        text = text.replace("inf", "\\infty")
    text = text.replace("and", "").replace("\\mathbf", "")
    text = _without_boxes(text)
    if "i" not in text:
        text = text.replace("j", "i")
    text = re.sub(r"(\d)\.0+(?!\d)", r"\1", text)
    if text.startswith("."):
        text = "0" + text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = re.sub(r"\\sqrt(\w+)", r"\\sqrt{\1}", text).replace(" ", "")
    return _slash(_braced(text))


def _without_unit(text: str) -> str:
    r"""The part before the first \text{, if a brace ends the text and that part is not empty."""
    start = text.find("\\text{")
    if start < 0 or not text.endswith("}"):
        return text
    return text[:start].strip() or text


def _without_boxes(text: str) -> str:
    r"""The text without each \mbox{…}, or with the contents of these if nothing else is left."""
    # No box is closed after the last brace, and a search there could take quadratic time.
    closed = text[: text.rfind("}") + 1]
    rest = text[len(closed) :]
    return (_MBOX.sub("", closed) + rest) or _MBOX.sub(r"\1", closed)


def _braced(text: str) -> str:
    r"""The text with \frac12 and \frac1{2} as \frac{1}{2}; unchanged if a \frac ends too early."""
    head, *tails = text.split("\\frac")
    for tail in tails:
        if tail.startswith("{"):
            head += f"\\frac{tail}"
        elif len(tail) < 2:
            return text
        else:
            below = tail[1] if tail[1] == "{" else f"{{{tail[1]}}}"
            head += f"\\frac{{{tail[0]}}}{below}{tail[2:]}"
    return head


def _slash(text: str) -> str:
    r"""A quotient a/b as \frac{a}{b}, if each of a and b is a whole number or has a root."""
    parts = text.split("/")
    if len(parts) != 2:
        return text
    whole = all("sqrt" in part or re.fullmatch(r"0|-?[1-9]\d{0,300}", part) for part in parts)
    return f"\\frac{{{parts[0]}}}{{{parts[1]}}}" if whole else text


def equal(answer: str, gold: str) -> bool:
    """Whether an extracted answer equals a gold answer by the released code (grader.py:28-78)."""
    if answer == gold:
        return True
    if len(answer) > _LONGEST_ANSWER or len(gold) > _LONGEST_ANSWER:
        return False
    left, right = _float(answer), _float(gold)
    if left is not None and right is not None:
        return any(math.isclose(left, value, rel_tol=1e-4) for value in (right / 100, right, right * 100))
    if answer == strip(gold):
        return True
    if not answer:
        return False
    if answer.count("=") == 1 and gold.count("=") == 1:
        one, other = (_difference(text) for text in (answer, gold))
        if expressions.same(one, other) or expressions.same(f"-({one})", other):
            return True
    elif answer.count("=") == 1 and "=" not in gold and _short(answer):
        if equal(answer.split("=")[1], gold):
            return True
    elif gold.count("=") == 1 and "=" not in answer and _short(gold) and equal(answer, gold.split("=")[1]):
        return True
    return expressions.same(answer, gold)


def _short(equation: str) -> bool:
    return len(equation.split("=")[0].strip()) <= 2


def _difference(equation: str) -> str:
    left, right = equation.split("=")
    return f"{left.strip()} - ({right.strip()})"


def _float(text: str) -> float | None:
    try:
        return float(text.replace(",", "").replace("%", ""))
    except ValueError:
        return None
