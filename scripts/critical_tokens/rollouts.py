"""Rollout scores: the success rate of continuations from every prefix of a trajectory, by three procedures.

`independent` is the paper's, `coupled` has the same estimate from samples that prefixes share, `stratified` a better one
from the exact probabilities of staying on the trajectory. Each is a plan: which forks it needs, and what the scores are once
they are graded. `score` puts plans to an engine, all forks at once, or from the end backwards until nothing earlier matters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from critical_tokens.branching import BranchingError, Budget, Fork, Trajectory, branch, require_tokens
from critical_tokens.engines.protocol import Engine
from critical_tokens.sampling import draw, stream_keys, uniforms

if TYPE_CHECKING:
    from torch import Tensor

Settled = Callable[[Sequence[float]], bool]
"""Whether the scores of a trajectory's last positions decide what is asked of it, whatever the earlier ones are."""

Grades = Mapping[tuple[int, int | None], Sequence[bool]]
"""Grades of a trajectory's forks, by prefix length and token."""

# Positions that `score` takes at a time from the end backwards: enough for a full batch, few enough to stop early.
_ROUND = 4


@dataclass(frozen=True)
class Score:
    """The prefix that ends with answer token `position` (-1: the bare prompt): its success rate, and how it was found.

    `n` and `correct` count the continuations behind it: all of them from this prefix (independent, coupled), or those that
    leave the trajectory here (stratified). `standard_error` is that of `score`.
    """

    position: int
    n: int
    correct: int
    score: float
    standard_error: float


def _counted(length: int, n: int, correct: int) -> Score:
    rate = correct / n
    return Score(length - 1, n, correct, rate, (rate * (1 - rate) / n) ** 0.5)


class Plan(Protocol):
    """What scoring one trajectory takes."""

    forks: Sequence[Fork]

    def scores(self, grades: Grades, first: int) -> list[Score]:
        """Scores of all prefixes of at least `first` tokens, from the grades of the forks of at least that length."""
        ...


Planner = Callable[[Engine, int, Trajectory, Budget], Plan]
"""Makes the plan of the trajectory with that index."""


def score(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    planner: Planner,
    budget: Budget,
    told: Callable[[int, int], None] | None = None,
    settled: Settled | None = None,
) -> list[list[Score]]:
    """Scores of every prefix of every trajectory, the bare prompt and the whole answer included, in order.

    `told` hears how many continuations are done, and of how many. With `settled`, a trajectory is scored from its end
    backwards, and only as far as that needs: its list is then the scores of its last positions, the same numbers as without
    it. Raises BranchingError, see `branching.branch`.
    """
    plans = []
    for index, trajectory in enumerate(trajectories):
        require_tokens(trajectory)
        plans.append(planner(engine, index, trajectory, budget))
    total = sum(fork.n for plan in plans for fork in plan.forks)
    grades: list[dict[tuple[int, int | None], list[bool]]] = [{} for _ in plans]
    done = 0

    def grade(forks: Sequence[Fork]) -> None:
        nonlocal done
        tell = told and (lambda finished: told(done + finished, total))
        for fork, answers in zip(forks, branch(engine, trajectories, forks, budget, tell), strict=True):
            grades[fork.index][fork.length, fork.token] = [trajectories[fork.index].grader(a) for a in answers]
        done += sum(fork.n for fork in forks)

    if settled is None:
        grade([fork for plan in plans for fork in plan.forks])
        return [plan.scores(graded, 0) for plan, graded in zip(plans, grades, strict=True)]
    results: list[list[Score]] = [[] for _ in plans]
    ends = {i: len(t.answer) + 1 for i, t in enumerate(trajectories)}  # of those not settled: the prefixes left, by length
    while ends:
        starts = {i: max(0, end - _ROUND) for i, end in ends.items()}
        grade([fork for i in ends for fork in plans[i].forks if starts[i] <= fork.length < ends[i]])
        for i, start in starts.items():
            results[i] = plans[i].scores(grades[i], start)
        ends = {i: start for i, start in starts.items() if start > 0 and not settled([s.score for s in results[i]])}
    return results


# --- independent


@dataclass(frozen=True)
class _Independent:
    forks: Sequence[Fork]
    n: int
    length: int

    def scores(self, grades: Grades, first: int) -> list[Score]:
        return [_counted(length, self.n, sum(grades[length, None])) for length in range(first, self.length + 1)]


def independent(n: int) -> Planner:
    """`n` fresh rollouts from every prefix (paper, section 2)."""

    def plan(engine: Engine, index: int, trajectory: Trajectory, budget: Budget) -> Plan:
        length = len(trajectory.answer)
        return _Independent([Fork(index, t, None, n, 0) for t in range(length + 1)], n, length)

    return plan


# --- staying on a trajectory and leaving it


def _chances(engine: Engine, trajectory: Trajectory, budget: Budget) -> tuple[list[int], Tensor]:
    """The path that a trajectory takes, EOS included where there is room for it, and the probabilities of every next token.

    One teacher-forced pass; (len(path), vocabulary), under the distribution that the engine samples from. Raises
    BranchingError where that distribution could not have given the answer.
    """
    path = [*trajectory.answer, budget.eos_token_id][: budget.max_new_tokens]
    if len(trajectory.prompt) + len(path) > engine.context:
        what = (
            f"prompt and answer of {len(trajectory.prompt) + len(path)} tokens exceed the model's context of {engine.context}"
        )
        raise BranchingError(trajectory, engine.context - len(trajectory.prompt), what)
    logits = engine.path_logits(trajectory.prompt, path).cpu()
    possible = budget.distribution.allows(logits[: len(trajectory.answer)], trajectory.answer)
    if not all(possible):
        position = possible.index(False)
        what = f"token {trajectory.answer[position]} is outside the sampling distribution; was it sampled with other settings?"
        raise BranchingError(trajectory, position, what)
    return path, budget.distribution.probabilities(logits)


# --- coupled


@dataclass(frozen=True)
class _Sample:
    """A sample that follows the trajectory from prefix length `born` on and leaves it at `left` (None: never)."""

    born: int
    left: int | None
    token: int | None


@dataclass(frozen=True)
class _Coupled:
    forks: Sequence[Fork]
    n: int
    trajectory: Trajectory
    samples: Sequence[_Sample]

    def scores(self, grades: Grades, first: int) -> list[Score]:
        """Each sample counts at every prefix from its birth to its leaving."""
        correct = [0] * (len(self.trajectory.answer) + 1)
        own_grade = self.trajectory.grader(self.trajectory.answer)
        taken: Counter[tuple[int, int | None]] = Counter()
        for sample in self.samples:
            last, grade = len(self.trajectory.answer), own_grade
            if sample.left is not None:
                if sample.left < first:
                    continue
                last, grade = sample.left, grades[sample.left, sample.token][taken[sample.left, sample.token]]
                taken[sample.left, sample.token] += 1
            for length in range(sample.born, last + 1):
                correct[length] += grade
        return [_counted(length, self.n, c) for length, c in enumerate(correct) if length >= first]


def coupled(n: int) -> Planner:
    """The estimate of `n` independent rollouts per prefix, from samples that prefixes share.

    A rollout from prefix t whose next token happens to be the trajectory's own is, from there on, an exact sample from
    prefix t+1, because p(rest | prefix t) factors into p(next | prefix t) p(rest | prefix t+1). So n samples are kept alive
    at every prefix: each stays with probability q, the trajectory's next token's under the engine's own sampling
    distribution (temperature and nucleus included), the others leave with a token drawn from that distribution without it,
    and as many newcomers join at the next prefix. At every prefix the n samples alive are independent and exact; only
    scores of neighbouring prefixes are correlated. All q come from one teacher-forced pass, no sample on the trajectory
    costs a token, and only the leavers are generated.
    """
    import torch

    numbers = torch.arange(n)

    def plan(engine: Engine, index: int, trajectory: Trajectory, budget: Budget) -> Plan:
        path, chances = _chances(engine, trajectory, budget)
        keys = stream_keys(torch.full_like(numbers, trajectory.seed), numbers)
        samples: list[_Sample] = []
        born = [0] * n
        for length, token in enumerate(path):
            draws = uniforms(keys, torch.full_like(keys, 2 * length))
            leaving = (draws >= chances[length, token]).nonzero().squeeze(-1)
            if not len(leaving):
                continue
            others = chances[length].clone()
            others[token] = 0.0
            tokens = draw(others, uniforms(keys[leaving], torch.full_like(leaving, 2 * length + 1)))
            for slot, drawn in zip(leaving.tolist(), tokens, strict=True):
                samples.append(_Sample(born[slot], length, drawn))
                born[slot] = length + 1
        # Those who never left are the trajectory itself; born behind its end they were not alive at any prefix.
        samples += [_Sample(b, None, None) for b in born if b <= len(trajectory.answer)]
        leavers = Counter((s.left, s.token) for s in samples if s.left is not None)
        forks = [Fork(index, left, token, count, 1) for (left, token), count in sorted(leavers.items())]
        return _Coupled(forks, n, trajectory, samples)

    return plan


# --- stratified


@dataclass(frozen=True)
class _Leaving:
    """Leaving the trajectory at a prefix: how probable it is (`mass`), and that it is looked at at all (`looked_at`)."""

    mass: float
    looked_at: float
    tokens: Mapping[int, int]


@dataclass(frozen=True)
class _Stratified:
    forks: Sequence[Fork]
    trajectory: Trajectory
    leaving: Sequence[_Leaving]

    def scores(self, grades: Grades, first: int) -> list[Score]:
        """Backwards: s_t = q s_{t+1} + (1 - q) l_t, from the known grade of the whole trajectory."""
        score, variance = float(self.trajectory.grader(self.trajectory.answer)), 0.0
        out = []
        if len(self.leaving) == len(self.trajectory.answer):  # at the length limit there is nothing behind the last token
            out.append(Score(len(self.leaving) - 1, 0, 0, score, 0.0))
        for length in range(len(self.leaving) - 1, first - 1, -1):
            here = self.leaving[length]
            graded = [grade for token in here.tokens for grade in grades[length, token]]
            n, correct = len(graded), sum(graded)
            guess = min(max(score, 0.0), 1.0)
            left, spread = guess, 0.0
            if here.looked_at < 1:
                if graded:
                    correction = (correct / n - guess) / here.looked_at
                    left, spread = guess + correction, correction**2
            elif graded:
                left = correct / n
                smoothed = (correct + 1) / (n + 2)
                spread = smoothed * (1 - smoothed) / n
            score = (1 - here.mass) * score + here.mass * left
            variance = (1 - here.mass) ** 2 * variance + here.mass**2 * spread
            out.append(Score(length - 1, n, correct, score, variance**0.5))
        return out[::-1]


def stratified(branches: float) -> Planner:
    """Better scores from fewer tokens: exact probabilities of staying, and few continuations that leave.

    By the law of total expectation the score of prefix t is s_t = q s_{t+1} + (1 - q) l_t, q the probability of the
    trajectory's next token and l_t the success rate of continuations that leave there. The q come from one teacher-forced
    pass, the last score is the trajectory's own grade, so only the l_t are estimated: from `branches` (1 - q) continuations
    on average, at least one wherever that is as much as one; their first tokens are drawn systematically in proportion to
    their probabilities. Where leaving is so improbable that less than one continuation is due, one is made by lot with that
    probability P, and corrects the guess l_t = s_{t+1}, cut to [0, 1], by (grade - guess) / P. Every score is unbiased: the
    guess stems from later positions only, whose random numbers are independent of the lot. So a score may lie outside [0, 1].

    The standard errors add up the positions' own: binomial with the rate smoothed as (correct + 1) / (n + 2), which ignores
    that tokens are drawn systematically, and for lots the squared correction; both err on the large side.
    """
    import torch

    def plan(engine: Engine, index: int, trajectory: Trajectory, budget: Budget) -> Plan:
        path, chances = _chances(engine, trajectory, budget)
        lengths = torch.arange(len(path))
        keys = stream_keys(torch.full_like(lengths, trajectory.seed), torch.full_like(lengths, 2**30))
        lots, offsets = (uniforms(keys, 2 * lengths + k).tolist() for k in (0, 1))
        others = chances.double()
        others[lengths, torch.tensor(path)] = 0.0
        leaving, forks = [], []
        for length, row in enumerate(others):
            mass = float(row.sum())
            due = branches * mass
            n = math.floor(due) + (lots[length] < due % 1)
            tokens = Counter(_systematic(row, n, offsets[length])) if n else Counter()
            leaving.append(_Leaving(mass, min(due, 1.0), dict(sorted(tokens.items()))))
            forks += [Fork(index, length, token, count, 1) for token, count in sorted(tokens.items())]
        return _Stratified(forks, trajectory, leaving)

    return plan


def _systematic(weights: Tensor, n: int, offset: float) -> list[int]:
    """`n` indices, each w_i n times on average, evenly spaced in the cumulative weights from `offset` (in [0, 1)) on."""
    import torch

    return draw(weights, (torch.arange(n) + offset) / n)
