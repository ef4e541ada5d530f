"""pocket-gsm: word problems of two to four events, in the manner of GSM8K.

    Mia has 12 pens. Mia buys 5 more. Then Mia has 3 times as many. How many pens does Mia have now?
    First, 12 + 5 = 17 pens. Then, 17 * 3 = 51 pens. The answer is 51.

Each event changes the running value in at most two calculation steps. Some events have a phrasing
that many documents of the corpus misread (a trap). A problem has at most one trap, and misreading
it leads to another answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from critical_tokens.pocket.language import Segment, Solution, Step
from critical_tokens.pocket.problems import Problem, Trap

NAMES = ("Mia", "Tom", "Ana", "Ben", "Eva", "Sam", "Zoe", "Leo", "Ida", "Max")
UNITS = ("pens", "apples", "books", "coins", "cards", "stones", "shells", "stamps")
LARGEST = 99

# How many of the corpus's writers misread a trap, by its strength. Above one half, greedy decoding
# misreads it, too.
RATES = {"hard": 0.70, "mild": 0.34}
# The shares of problems with a hard trap and with a mild trap.
TRAP_SHARES = (0.45, 0.28)

Equation = tuple[int, str, int, int]  # left, operator, right, result
# Maps the running value to the calculation steps; the last result is the new running value.
Reading = Callable[[int], list[Equation]]


@dataclass(frozen=True)
class Event:
    """One sentence of a question, its correct reading and its misreading."""

    sentence: str
    key: str  # its part of the problem's signature
    reading: Reading
    misreading: Reading | None = None
    trap: Trap | None = None
    asks: bool = False  # the sentence also asks the question of the problem


def _equation(a: int, op: str, b: int) -> Equation:
    """`a op b` with its result; -1 stands for a division that leaves a remainder."""
    result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b and a % b == 0 else -1}[op]
    return (a, op, b, result)


def _one(op: str, n: int) -> Reading:
    return lambda a: [_equation(a, op, n)]


def _product(k: int, n: int) -> Reading:
    return lambda a: [_equation(k, "*", n), _equation(a, "+", k * n)]


def _half(a: int) -> list[Equation]:
    return [_equation(a, "/", 2)]


def _half_again(a: int) -> list[Equation]:
    return [_equation(a, "/", 2), _equation(a, "+", a // 2)]


def _trap(name: str, strength: str | None) -> Trap | None:
    return Trap(f"{name}/{strength}", RATES[strength]) if strength else None


# Functions that draw an event. `strength` is the strength of its trap, None for a plain phrasing.


def gain(rng: random.Random, name: str, unit: str, strength: str | None) -> Event:
    """The running value grows by n."""
    n = rng.randint(2, 30)
    said = rng.choice((f"{name} buys {n} more.", f"{name} finds {n} {unit}.", f"{name} wins {n} more."))
    return Event(said, f"+{n}", _one("+", n))


def lose(rng: random.Random, name: str, unit: str, strength: str | None) -> Event:
    """The running value shrinks by n."""
    n = rng.randint(2, 30)
    said = rng.choice((f"{name} loses {n} {unit}.", f"{name} sells {n}.", f"{name} gives {n} to a friend."))
    return Event(said, f"-{n}", _one("-", n))


def share(rng: random.Random, name: str, unit: str, strength: str | None) -> Event:
    """The running value is divided by k."""
    k = rng.randint(2, 5)
    return Event(f"{name} splits the {unit} into {k} equal bags and keeps one.", f"/{k}", _one("/", k))


def times(rng: random.Random, name: str, unit: str, strength: str | None) -> Event:
    """The running value is multiplied by k, misread as an addition of k."""
    k = rng.randint(2, 5)
    said = {
        None: f"{name} trades each of them for {k} {unit}.",
        "mild": f"Then {name} has {k} times as many.",
        "hard": f"Then {name} has {k} times more.",
    }[strength]
    return Event(said, f"*{k}", _one("*", k), _one("+", k), _trap("times", strength))


def friends(rng: random.Random, name: str, unit: str, strength: str | None) -> Event:
    """The running value grows by k times n, misread as an addition of n."""
    k, n = rng.randint(2, 5), rng.randint(2, 9)
    said = {
        None: f"{name} buys {k} boxes of {n} {unit}.",
        "mild": f"{k} friends give {name} {n} {unit} each.",
        "hard": f"Each of {k} friends gives {name} {n} more.",
    }[strength]
    return Event(said, f"+{k}*{n}", _product(k, n), _one("+", n), _trap("friends", strength))


def half_again(rng: random.Random, name: str, unit: str, strength: str | None) -> Event:
    """The running value grows by its half, misread as a division by 2."""
    said = {
        None: f"{name} counts half of the {unit} and buys that many more.",
        "mild": f"{name} gets half as many more.",
        "hard": f"{name} gets half as many again.",
    }[strength]
    return Event(said, "+half", _half_again, _half, _trap("half_again", strength))


def compare(rng: random.Random, name: str, unit: str, strength: str | None) -> Event:
    """The question asks for another person's number, so this event comes last.

    With a trap, the sentence compares in the other direction, and its operation must be inverted.
    """
    other = rng.choice([n for n in NAMES if n != name])
    n, word = rng.randint(2, 20), rng.choice(("more", "fewer"))
    stated, inverse = ("+", "-") if word == "more" else ("-", "+")
    ask = f" How many {unit} does {other} have?"
    if strength is None:
        return Event(f"{other} has {n} {word} than {name}.{ask}", f"{stated}{n}", _one(stated, n), asks=True)
    said = f"That is {n} {word} than {other} has." if strength == "mild" else f"{name} has {n} {word} than {other}."
    return Event(said + ask, f"{inverse}{n}", _one(inverse, n), _one(stated, n), _trap("compare", strength), True)


def distractor(rng: random.Random, name: str, unit: str, strength: str | None) -> Event:
    """A number that has nothing to do with the question, misread as an addition."""
    n = rng.randint(2, 12)
    said = f"{name} is {n} years old." if strength == "mild" else f"{name} also counts {n} birds."
    return Event(said, "", lambda a: [], _one("+", n), _trap("distractor", strength))


PLAIN = (gain, gain, gain, lose, lose, lose, share, times, times, friends, half_again)
TRAPPED = (times, friends, half_again, compare, distractor)


def draw(rng: random.Random) -> Problem | None:
    """Draw one problem; None if a number is out of range or the misreading is correct by chance."""
    name, unit, start = rng.choice(NAMES), rng.choice(UNITS), rng.randint(3, 40)
    n_events = rng.choices((2, 3, 4), (0.55, 0.35, 0.10))[0]
    strength = rng.choices(("hard", "mild", None), (*TRAP_SHARES, 1 - sum(TRAP_SHARES)))[0]
    events = [rng.choice(PLAIN)(rng, name, unit, None) for _ in range(n_events)]
    trapped_at = None
    if strength is not None:
        maker = rng.choice(TRAPPED)
        trapped_at = n_events - 1 if maker is compare else rng.randrange(n_events)
        events[trapped_at] = maker(rng, name, unit, strength)
    elif rng.random() < 0.15:
        events[-1] = compare(rng, name, unit, None)

    right = _read(events, start, misread_at=None)
    wrong = _read(events, start, misread_at=trapped_at) if trapped_at is not None else None
    if not _suitable(right) or (wrong is not None and (not _suitable(wrong) or _answer(wrong) == _answer(right))):
        return None
    question = f"{name} has {start} {unit}. " + " ".join(e.sentence for e in events)
    if not events[-1].asks:
        question += f" How many {unit} does {name} have now?"
    return Problem(
        question=question,
        answer=str(_answer(right)),
        signature="|".join([f"gsm:{start}", *(e.key for e in events if e.key)]),
        solution=_solution(right, unit),
        trap=events[trapped_at].trap if trapped_at is not None else None,
        misreading=_solution(wrong, unit) if wrong is not None else None,
    )


def _read(events: list[Event], value: int, misread_at: int | None) -> list[tuple[Equation, bool]]:
    """The steps of a reading, each with a flag: whether it is the first step of a trapped event."""
    out: list[tuple[Equation, bool]] = []
    for i, event in enumerate(events):
        misreading = event.misreading if i == misread_at else None
        steps = (misreading or event.reading)(value)
        out.extend((step, event.trap is not None and j == 0) for j, step in enumerate(steps))
        value = steps[-1][3] if steps else value
    return out


def _answer(steps: list[tuple[Equation, bool]]) -> int:
    return steps[-1][0][3]


def _suitable(steps: list[tuple[Equation, bool]]) -> bool:
    return bool(steps) and all(0 < number <= LARGEST for (a, _, b, c), _ in steps for number in (a, b, c))


def _solution(steps: list[tuple[Equation, bool]], unit: str) -> Solution:
    def sentence(equation: Equation, risky: bool) -> Step:
        a, op, b, c = equation
        body = (
            Segment("running", (str(a),)),
            Segment("operation", (f" {op} ",)),
            Segment("operand", (str(b),)),
            Segment("wording", (" = ",)),
            Segment("result", (str(c),)),
            Segment("wording", (f" {unit}.", "."), tuple(f" {other}." for other in UNITS if other != unit)),
        )
        return Step(body, risky)

    closing = (Segment("wording", ("The answer is ",)), Segment("answer", (f"{_answer(steps)}.",)))
    return Solution(tuple(sentence(*s) for s in steps), closing)
