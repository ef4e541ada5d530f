r"""The released code's grader, without its unsafe parts: what it extracts, and what it takes for equal.

The released grader hands model output to sympy's `parse_expr`, which executes it, and gives up on a pair after a second of wall
time, so its verdicts depend on the machine's load. Here expressions are compared by `expressions.same`. The rest follows the
released parser.py and grader.py rule by rule, wrong ones included (a factor of 100 is accepted, grader.py:42-43).
"""

from __future__ import annotations

import math
import re

from critical_tokens.grading import expressions

_LONGEST_COMPLETION = 20_000
_LONGEST_ANSWER = 1_000
_NUMBER = re.compile(r"-?\d*\.?\d+")
_UNITS = re.compile(
    r"(?<![A-Za-z\\])(?:degrees?|cm|dm|mm|km|m|kg|g|lb|lbs|inch(?:es)?|ft|feet|foot|miles?|mph|hours?|hrs?|hr|minutes?|mins?|seconds?|secs?"
    r"|days?|weeks?|months?|years?|dollars?|cents?|points?|units?|square|cubic|people|students?|times|sq|ml|l|meters?|yards?)(?![A-Za-z])"
)


def extract(completion: str, style: str) -> str | None:
    r"""The answer that the released code would find; None where it finds none.

    gsm8k: the first number behind the first "he answer is ", else the last number (parser.py:219-225). math: what stands behind
    "Final Answer: The final answer is", else the last \boxed, else behind the last "he answer is", else the last number.
    """
    completion = completion[:_LONGEST_COMPLETION]
    if style == "gsm8k":
        _, stated, rest = completion.partition("he answer is ")
        if stated:
            first = _NUMBER.search(rest.replace(",", ""))
            if first:
                return first.group(0)
        return _last_number(completion)
    answer = _stated(completion)
    if answer is None or len(answer) > _LONGEST_ANSWER:
        return None
    answer = re.sub(r"\n\s*", "", answer).lstrip(":").rstrip(".").rstrip("/")
    answer = strip(answer)
    return answer if 0 < len(answer) <= _LONGEST_ANSWER else None


def _stated(completion: str) -> str | None:
    if "final answer is $" in completion and "$. I hope" in completion:
        return completion.split("final answer is $", 1)[1].split("$. I hope", 1)[0].strip()
    if "Final Answer:" in completion:
        tail = completion.split("Final Answer:", 1)[1]
        tail = tail.split("I hope it is correct", 1)[0].strip()
        if "boxed" not in tail:
            return re.sub(r"^[Tt]he final answer is:?\s*", "", tail).strip().strip("$").rstrip(".").strip("$")
    if "boxed" in completion:
        return _boxed(completion.rsplit("boxed", 1)[1])
    if "he answer is" in completion:
        return completion.rsplit("he answer is", 1)[1].strip().split("\n")[0]
    return _last_number(completion)


def _boxed(tail: str) -> str:
    if not tail.startswith("{"):
        return tail.split("$")[0].strip()
    depth = 0
    for index, char in enumerate(tail):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return tail[1:index]
    return tail[1:]


def _last_number(completion: str) -> str | None:
    numbers = _NUMBER.findall(completion.replace(",", ""))
    return numbers[-1] if numbers else None


def strip(text: str) -> str:
    """An answer without what the released code takes for typography, units and words (parser.py:80-119)."""
    text = text[: 2 * _LONGEST_ANSWER].strip().replace("\n", "").rstrip(".")
    text = text.replace("\\!", "").replace("\\\\", "\\")
    text = re.sub(r"\\begin\{[a-z]*matrix\}", r"\\begin{pmatrix}", text)
    text = re.sub(r"\\end\{[a-z]*matrix\}", r"\\end{pmatrix}", text)
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    text = text.replace("\\neq", "\\ne").replace("\\leq", "\\le").replace("\\geq", "\\ge")
    text = text.replace("\\left", "").replace("\\right", "").replace("\\{", "{").replace("\\}", "}")
    text = (
        re.sub(r"\\text\{\s*([^{}]*?)\s*\}$", r"\1", text) if text.startswith("\\text") else re.sub(r"\\text\{.*?\}$", "", text)
    )
    text = text.replace("^{\\circ}", "").replace("^\\circ", "")
    text = _UNITS.sub("", text)
    text = text.replace("\\$", "").replace("$", "").replace("\\(", "").replace("\\)", "")
    text = re.sub(r"\\(?:textbf|text|mbox|mathrm|mathbf)\s*(?:\{([^{}]*)\})?", r"\1", text)
    for word in ("x=", "y=", "z=", "x\\in", "y\\in", "z\\in", "\\cdot", "\\%", "%", "infinity"):
        text = text.replace(word, "\\infty" if word == "infinity" else "")
    text = text.replace("and", "").replace(" .", " 0.").replace("{.", "{0.")
    text = re.sub(r"(\d+)\.0*([^\d]|$)", r"\1\2", text)
    text = re.sub(r"\bj\b", "i", text)
    if len(text.split("=")) == 2 and len(text.split("=")[0].strip()) <= 2:
        text = text.split("=")[1]
    text = re.sub(r"\\sqrt(\w)", r"\\sqrt{\1}", text)
    text = text.replace(" ", "")
    text = _braced(text)
    return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", text)


def _braced(text: str) -> str:
    r"""\frac12 and \frac1{2} as \frac{1}{2}."""
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac(\d)\{", r"\\frac{\1}{", text)
    return re.sub(r"(\\frac\{[^{}]*\})(\d)", r"\1{\2}", text)


def equal(answer: str, gold: str) -> bool:
    """Whether the released code takes two extracted answers for equal (grader.py: math_equal)."""
    answer, gold = answer[:_LONGEST_ANSWER], gold[:_LONGEST_ANSWER]
    if answer.strip().lower() == gold.strip().lower():
        return True
    left, right = _digits(answer), _digits(gold)
    if left is not None and right is not None:
        return any(math.isclose(left, value, rel_tol=1e-4) for value in (right / 100, right, right * 100))
    left_bare, right_bare = _bare(answer), _bare(gold)
    if left_bare == right_bare:
        return bool(left_bare)
    parts = _parts(answer), _parts(gold)
    if parts[0] and parts[1]:
        return len(parts[0]) == len(parts[1]) and all(equal(a, b) for a, b in zip(*parts, strict=True))
    if answer.count("=") == 1 and gold.count("=") == 1:
        sides = [f"({a})-({b})" for a, b in (answer.split("="), gold.split("="))]
        return expressions.same(*sides) or expressions.same(sides[0], f"-({sides[1]})")
    for one, other in ((answer, gold), (gold, answer)):
        if one.count("=") == 1 and "=" not in other and len(one.split("=")[0].strip()) <= 2:
            return equal(one.split("=")[1], other)
    return expressions.same(answer, gold)


def _digits(text: str) -> float | None:
    text = text.replace(",", "").strip()
    percent = text.endswith("%")
    text = text.removesuffix("%").removesuffix("\\")
    if not re.fullmatch(r"[-+]?(\d{1,300}\.?\d{0,300}|\.\d{1,300})(e[-+]?\d{1,2})?", text):
        return None
    return float(text) / (100 if percent else 1)


def _bare(text: str) -> str:
    return re.sub(r"[{}()\[\] ]", "", text).lower()


def _parts(text: str) -> list[str]:
    """Members of a tuple, an interval, a set or a matrix; nothing for anything else."""
    matrix = re.fullmatch(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", text)
    if matrix:
        return [cell.strip() for row in re.split(r"\\+(?![A-Za-z])", matrix[1]) if row.strip() for cell in row.split("&")]
    bracketed = re.fullmatch(r"[(\[](.+)[)\]]", text)
    inner = bracketed[1] if bracketed else text
    members, depth, start = [], 0, 0
    for index, char in enumerate(inner):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            members.append(inner[start:index].strip())
            start = index + 1
    members.append(inner[start:].strip())
    return members if len(members) > 1 and all(members) else []
