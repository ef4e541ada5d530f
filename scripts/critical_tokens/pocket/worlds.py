"""The pocket worlds by dataset name, and the corpus that their language models are pretrained on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from critical_tokens.pocket import gsm_world, language, math_world
from critical_tokens.pocket.problems import Problem, draw_problems

# Share of misread solutions that open the misread step with a hasty lead.
TELL_RATE = 0.6


@dataclass(frozen=True)
class World:
    """A generated dataset: how to draw its problems, and the style of prompt it is asked in (see
    `prompts`).
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
    """Shapes of the sentences that solutions of a world are made of, right and wrong ones (see
    `language.check`).
    """
    shapes: set[str] = set()
    for problem in islice(draw_problems(WORLDS[world].draw, "pretrain", seed=0), 2000):
        for solution in filter(None, (problem.solution, problem.misreading)):
            shapes |= language.sentence_shapes(write(solution, random.Random(0), misread=False))
            shapes |= language.sentence_shapes("".join(s.wordings[-1] for s in solution.segments()))
    return frozenset(shapes)


def write(solution: language.Solution, rng: random.Random, misread: bool) -> str:
    """One wording of a solution. `misread`: it is the work of someone who misread the problem at
    the risky step.
    """
    parts: list[str] = []
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
    """An endless corpus of (question, solution): each trap is misread by its share of the writers."""
    rng = random.Random(f"{seed}/{world}/writers")
    for problem in draw_problems(WORLDS[world].draw, "pretrain", seed):
        misread = problem.trap is not None and rng.random() < problem.trap.rate
        yield (problem.question, write(problem.misreading if misread else problem.solution, rng, misread))
