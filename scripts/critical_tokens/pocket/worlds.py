"""The pocket worlds by dataset name, and the corpus for pretraining their language models."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from critical_tokens.pocket import gsm_world, language, math_world
from critical_tokens.pocket.problems import Problem, draw_problems

# The share of misread solutions in which the misread step opens with a hasty lead-in.
TELL_RATE = 0.6


@dataclass(frozen=True)
class World:
    """A generated dataset.

    name: the name of the dataset.
    draw: draws a problem, or returns None where the drawn numbers are unsuitable.
    style: the style of its prompts (see `data.prompts`).
    """

    name: str
    draw: Callable[[random.Random], Problem | None]
    style: str


WORLDS = {
    "pocket-gsm": World("pocket-gsm", gsm_world.draw, "gsm8k"),
    "pocket-math": World("pocket-math", math_world.draw, "math"),
}


@lru_cache
def sentence_shapes(world: str) -> frozenset[str]:
    """The shapes of the sentences in a world's solutions, correct and misread ones.

    `language.check` compares the sentences of an answer with them.
    """
    shapes: set[str] = set()
    for problem in islice(draw_problems(WORLDS[world].draw, "pretrain", seed=0), 2000):
        for solution in filter(None, (problem.solution, problem.misreading)):
            shapes |= language.sentence_shapes(write(solution, random.Random(0), misread=False))
            shapes |= language.sentence_shapes("".join(s.wordings[-1] for s in solution.segments()))
    return frozenset(shapes)


def write(solution: language.Solution, rng: random.Random, misread: bool) -> str:
    """Draw one wording of a solution.

    misread: whether the writer misread the problem at the risky step, and so may use a hasty
        lead-in there.
    """
    parts: list[str] = []
    leads: tuple[str, ...]
    for step in solution.steps:
        if not step.risky:
            leads = language.LEADS
        elif misread and rng.random() < TELL_RATE:
            leads = language.HASTY_LEADS
        else:
            leads = language.CAREFUL_LEADS
        parts.append(rng.choice(leads))
        parts.extend(rng.choice(segment.wordings) for segment in step.body)
        parts.append(" ")
    parts.extend(rng.choice(segment.wordings) for segment in solution.closing)
    return "".join(parts)


def documents(world: str, seed: int) -> Iterator[tuple[str, str]]:
    """Yield (question, solution) without end; each trap is misread by its share of the writers."""
    rng = random.Random(f"{seed}/{world}/writers")
    for problem in draw_problems(WORLDS[world].draw, "pretrain", seed):
        misread = problem.trap is not None and rng.random() < problem.trap.rate
        solution = (problem.misreading if misread else None) or problem.solution
        yield (problem.question, write(solution, rng, misread))
