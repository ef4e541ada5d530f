"""pocket-math: short exercises in LaTeX with a boxed answer, in the manner of MATH.

    Solve $4x - 8 = 20$ for $x$. Then multiply the result by $3$. First, add $8$ to get $4x = 28$.
    So divide by $4$ to get $x = 7$. Next, $7 \\cdot 3 = 21$. The answer is $\\boxed{21}$.

The exercises are linear equations, fractions, remainders, squares and the order of operations, most
of them with a second operation on the result. As in `gsm_world`, a known share of the corpus
misreads some phrasings:
- it changes the sign of a term that moves to the other side of an equation,
- it adds fractions by adding their numerators and their denominators,
- it gives the quotient instead of the remainder,
- it takes the square of the sum instead of the sum of the squares,
- it works from left to right instead of multiplying first.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from critical_tokens.pocket.language import Segment, Solution, Step
from critical_tokens.pocket.problems import Problem, Trap

LARGEST = 299
RATES = {"hard": 0.70, "mild": 0.34}


@dataclass(frozen=True)
class Worked:
    """The sentences of one reading and its result; each sentence is a list of (role, text)."""

    sentences: tuple[tuple[tuple[str, str], ...], ...]
    result: str


@dataclass(frozen=True)
class Exercise:
    """An exercise before its second operation, with its correct reading and its misreading."""

    said: str
    key: str  # its part of the problem's signature
    right: Worked
    wrong: Worked | None = None
    trap: Trap | None = None


def _calculation(a: int, op: str, b: int, c: int) -> tuple[tuple[str, str], ...]:
    return (
        ("running", f"${a}"),
        ("operation", f" {op} "),
        ("operand", f"{b}"),
        ("wording", " = "),
        ("result", f"{c}$."),
    )


def _dot(a: int, b: int) -> tuple[tuple[str, str], ...]:
    return _calculation(a, "\\cdot", b, a * b)


def _strength(rng: random.Random, hard: float, mild: float) -> str | None:
    return rng.choices(("hard", "mild", None), (hard, mild, 1 - hard - mild))[0]


def _trap(name: str, strength: str) -> Trap:
    return Trap(f"{name}/{strength}", RATES[strength])


# Functions that draw an exercise.


def linear(rng: random.Random) -> Exercise:
    """Solve a x + b = c; with a trap a x - b = c, which is misread as a x + b = c."""
    a, x = rng.randint(2, 9), rng.randint(2, 20)
    strength = _strength(rng, 0.42, 0.25)
    if strength is None:
        b = rng.randint(1, 30)
        c = a * x + b
        return Exercise(f"Solve ${a}x + {b} = {c}$ for $x$.", f"{a}x+{b}={c}", _transposed("subtract", a, b, a * x, x))
    b = a * rng.randint(1, 4)
    c = a * x - b
    said = f"Solve ${a}x - {b} = {c}$ for $x$." if strength == "hard" else f"What is $x$ if ${a}x - {b} = {c}$?"
    wrong_x = (c - b) // a
    return Exercise(
        said,
        f"{a}x-{b}={c}",
        _transposed("add", a, b, a * x, x),
        _transposed("subtract", a, b, c - b, wrong_x),
        _trap("linear", strength),
    )


def _transposed(verb: str, a: int, b: int, ax: int, x: int) -> Worked:
    moved = (("operation", verb), ("operand", f" ${b}$"), ("wording", f" to get ${a}x = "), ("result", f"{ax}$."))
    divided = (("operation", "divide"), ("operand", f" by ${a}$"), ("wording", " to get $x = "), ("result", f"{x}$."))
    return Worked((moved, divided), str(x))


def fraction(rng: random.Random) -> Exercise:
    """Add a/n and b/(kn); misread by adding the numerators and the denominators."""
    n, k = rng.randint(2, 9), rng.randint(2, 4)
    m = n * k
    a, b = rng.randint(1, n), rng.randint(1, m)
    strength = _strength(rng, 0.42, 0.42)
    said = {
        None: f"Write $\\frac{{{a}}}{{{n}}} + \\frac{{{b}}}{{{m}}}$ over ${m}$.",
        "mild": f"Add $\\frac{{{a}}}{{{n}}}$ and $\\frac{{{b}}}{{{m}}}$.",
        "hard": f"Compute $\\frac{{{a}}}{{{n}}} + \\frac{{{b}}}{{{m}}}$.",
    }[strength]
    right = Worked(
        (
            (
                ("operation", "expand"),
                ("operand", f" $\\frac{{{a}}}{{{n}}}$ to "),
                ("result", f"$\\frac{{{a * k}}}{{{m}}}$."),
            ),
            _calculation(a * k, "+", b, a * k + b),
        ),
        f"\\frac{{{a * k + b}}}{{{m}}}",
    )
    wrong = Worked((_calculation(a, "+", b, a + b), _calculation(n, "+", m, n + m)), f"\\frac{{{a + b}}}{{{n + m}}}")
    key = f"{a}/{n}+{b}/{m}"
    return Exercise(said, key, right, wrong, _trap("fraction", strength)) if strength else Exercise(said, key, right)


def remainder(rng: random.Random) -> Exercise:
    """Find a b modulo m; misread as the quotient."""
    a, b, m = rng.randint(3, 15), rng.randint(3, 9), rng.randint(3, 12)
    q, r = divmod(a * b, m)
    strength = _strength(rng, 0.42, 0.25)
    said = {
        None: f"Find the remainder when ${a} \\cdot {b}$ is divided by ${m}$.",
        "mild": f"Reduce ${a} \\cdot {b}$ modulo ${m}$.",
        "hard": f"What is ${a} \\cdot {b}$ modulo ${m}$?",
    }[strength]
    divided = (
        ("running", f"${a * b}"),
        ("wording", " = "),
        ("operand", f"{m} \\cdot "),
        ("result", f"{q}"),
        ("wording", " + "),
        ("result", f"{r}$."),
    )
    right = Worked((_dot(a, b), divided, (("operation", "take the remainder"), ("result", f" ${r}$."))), str(r))
    wrong = Worked((_dot(a, b), divided, (("operation", "take the quotient"), ("result", f" ${q}$."))), str(q))
    low, high = sorted((a, b))
    key = f"{low}*{high}%{m}"
    return Exercise(said, key, right, wrong, _trap("remainder", strength)) if strength else Exercise(said, key, right)


def squares(rng: random.Random) -> Exercise:
    """Find the sum of two squares; misread as the square of the sum."""
    a, b = rng.randint(2, 10), rng.randint(2, 6)
    strength = _strength(rng, 0.42, 0.25)
    said = {
        None: f"Find ${a}^2 + {b}^2$.",
        "mild": f"Find the sum of the squares of ${a}$ and ${b}$.",
        "hard": f"Find the sum of ${a}$ and ${b}$, each of them squared.",
    }[strength]
    right = Worked((_square(a), _square(b), _calculation(a * a, "+", b * b, a * a + b * b)), str(a * a + b * b))
    wrong = Worked((_calculation(a, "+", b, a + b), _square(a + b)), str((a + b) ** 2))
    low, high = sorted((a, b))
    key = f"{low}^2+{high}^2"
    return Exercise(said, key, right, wrong, _trap("squares", strength)) if strength else Exercise(said, key, right)


def _square(a: int) -> tuple[tuple[str, str], ...]:
    return (("running", f"${a}"), ("operation", "^2"), ("wording", " = "), ("result", f"{a * a}$."))


def precedence(rng: random.Random) -> Exercise:
    """Find a + b c; misread by working from left to right."""
    a, b, c = rng.randint(2, 20), rng.randint(2, 9), rng.randint(2, 9)
    strength = _strength(rng, 0.42, 0.25)
    said = {
        None: f"Evaluate ${a} + ({b} \\cdot {c})$.",
        "mild": f"Evaluate ${a} + {b} \\cdot {c}$.",
        "hard": f"What is ${a}$ plus ${b}$ times ${c}$?",
    }[strength]
    right = Worked((_dot(b, c), _calculation(a, "+", b * c, a + b * c)), str(a + b * c))
    wrong = Worked((_calculation(a, "+", b, a + b), _dot(a + b, c)), str((a + b) * c))
    key = f"{a}+{min(b, c)}*{max(b, c)}"
    return Exercise(said, key, right, wrong, _trap("precedence", strength)) if strength else Exercise(said, key, right)


MAKERS: tuple[Callable[[random.Random], Exercise], ...] = (linear, fraction, remainder, squares, precedence)


def draw(rng: random.Random) -> Problem | None:
    """Draw one problem; None if a number is out of range or the misreading is correct by chance."""
    exercise = rng.choice(MAKERS)(rng)
    tail = _tail(rng) if "/" not in exercise.key else None
    right = _with_tail(exercise.right, tail)
    wrong = _with_tail(exercise.wrong, tail) if exercise.wrong is not None else None
    if right is None or (exercise.wrong is not None and (wrong is None or wrong.result == right.result)):
        return None
    said = exercise.said
    if tail is not None:
        op, n = tail
        said += {"+": f" Then add ${n}$.", "-": f" Then subtract ${n}$.", "\\cdot": f" Then multiply by ${n}$."}[op]
    first_difference = _first_difference(exercise.right, exercise.wrong) if exercise.wrong is not None else None
    return Problem(
        question=said,
        answer=right.result,
        signature=f"math:{exercise.key}" + (f",{tail[0]}{tail[1]}" if tail else ""),
        solution=_solution(right, first_difference),
        trap=exercise.trap,
        misreading=_solution(wrong, first_difference) if wrong is not None else None,
    )


def _tail(rng: random.Random) -> tuple[str, int] | None:
    kind = rng.choice(("+", "-", "\\cdot", "+", "-", None))
    if kind is None:
        return None
    return (kind, rng.randint(2, 4) if kind == "\\cdot" else rng.randint(2, 30))


def _with_tail(worked: Worked, tail: tuple[str, int] | None) -> Worked | None:
    """The reading with the second operation applied; None where a result leaves 0..LARGEST."""
    if "\\frac" in worked.result:
        return worked
    value = int(worked.result)
    sentences = worked.sentences
    if tail is not None:
        op, n = tail
        result = {"+": value + n, "-": value - n, "\\cdot": value * n}[op]
        sentences = (*sentences, _calculation(value, op, n, result))
        value = result
    numbers = [
        int("".join(ch for ch in text if ch.isdigit() or ch == "-") or 0)
        for s in sentences
        for r, text in s
        if r == "result"
    ]
    if not all(0 <= n <= LARGEST for n in numbers):
        return None
    return Worked(sentences, str(value))


def _first_difference(right: Worked, wrong: Worked) -> int:
    """The index of the first sentence in which the two readings differ."""
    pairs = zip(right.sentences, wrong.sentences, strict=False)
    return next(i for i, (a, b) in enumerate(pairs) if a != b)


def _solution(worked: Worked, risky_at: int | None) -> Solution:
    steps = tuple(
        Step(tuple(Segment(role, (text,)) for role, text in sentence), i == risky_at)
        for i, sentence in enumerate(worked.sentences)
    )
    closing = (Segment("wording", ("The answer is $\\boxed{",)), Segment("answer", (f"{worked.result}}}$.",)))
    return Solution(steps, closing)
