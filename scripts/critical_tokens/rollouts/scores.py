"""Rollout scores: the success rate of continuations from every prefix of a trajectory.

Of the three procedures, `independent` is the paper's, `coupled` gives the same estimate from
samples that prefixes share, and `stratified` gives a better one from the exact probabilities of
staying on the trajectory. A procedure makes plans, which say what forks they need and compute
scores from graded continuations. `score` carries out plans with an engine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from critical_tokens.decoding.distributions import draw
from critical_tokens.decoding.protocol import Engine
from critical_tokens.decoding.random_streams import stream_keys, uniforms
from critical_tokens.decoding.systematic import systematic_sample
from critical_tokens.rollouts.branching import (
    Fork,
    GenerationSettings,
    Trajectory,
    branch,
    next_tokens,
    require_tokens,
)

Settled = Callable[[Sequence[float]], bool]
"""Whether the scores of the last positions of a trajectory suffice, whatever the others are."""


class Outcome(NamedTuple):
    """Whether a continuation is correct, and the number of samples that it stands for."""

    correct: bool
    weight: float


Outcomes = Mapping[tuple[int, int | None], Sequence[Outcome]]
"""Outcomes of a trajectory's forks, by prefix length and token."""

# The fewest positions and continuations that `score` takes at a time when it goes backwards: enough
# for a full batch, few enough to stop early.
_ROUND, _CONTINUATIONS = 4, 512


@dataclass(frozen=True)
class Score:
    """The success rate of the prefix that ends with an answer token, and how it was found.

    position: the index of that token; -1 for the bare prompt.
    n, correct: the number of continuations and of correct ones: all that start from this prefix
    (independent, coupled), or those that leave the trajectory here (stratified).
    standard_error: that of `score`.
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
    """How one trajectory is scored: its forks, and whether their continuations are weighted."""

    @property
    def forks(self) -> Sequence[Fork]: ...  # noqa: D102

    @property
    def weighted(self) -> bool: ...  # noqa: D102

    def scores(self, outcomes: Outcomes, first: int) -> list[Score]:
        """Scores of all prefixes of at least `first` tokens, from forks of at least that length."""


Planner = Callable[[Engine, int, Trajectory, GenerationSettings], Plan]
"""Makes the plan of a trajectory from its index; all plans of a planner are weighted, or none."""


def score(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    planner: Planner,
    generation: GenerationSettings,
    on_progress: Callable[[int, int], None] | None = None,
    settled: Settled | None = None,
) -> list[list[Score]]:
    """Scores of every prefix of every trajectory, from the bare prompt to the whole answer.

    on_progress: called with the number of continuations that are done, and with their total.
    settled: if given, trajectories are scored from the end backwards until it is true of their
    scores. The result then has the last positions only, with the same scores.

    Raises BranchingError, see `branching.branch`.
    """
    plans = []
    for index, trajectory in enumerate(trajectories):
        require_tokens(trajectory)
        plans.append(planner(engine, index, trajectory, generation))
    weighted = any(plan.weighted for plan in plans)
    total = sum(math.ceil(fork.n) for plan in plans for fork in plan.forks)
    outcomes: list[dict[tuple[int, int | None], list[Outcome]]] = [{} for _ in plans]
    done = 0

    def grade(forks: Sequence[Fork]) -> None:
        nonlocal done

        def report(finished: int) -> None:
            if on_progress is not None:
                on_progress(done + finished, total)

        continued = branch(engine, trajectories, forks, generation, report, weighted)
        for fork, continuations in zip(forks, continued, strict=True):
            grader = trajectories[fork.index].grader
            outcomes[fork.index][fork.length, fork.token] = [Outcome(grader(c.answer), c.weight) for c in continuations]
        done += sum(math.ceil(fork.n) for fork in forks)

    if settled is None:
        grade([fork for plan in plans for fork in plan.forks])
        return [plan.scores(graded, 0) for plan, graded in zip(plans, outcomes, strict=True)]
    results: list[list[Score]] = [[] for _ in plans]
    # For each trajectory that is not settled, the length of the shortest prefix that is scored.
    ends = {i: len(t.answer) + 1 for i, t in enumerate(trajectories)}
    while ends:
        starts, forks = _round(plans, ends)
        grade(forks)
        for i, start in starts.items():
            results[i] = plans[i].scores(outcomes[i], start)
        ends = {i: start for i, start in starts.items() if start > 0 and not settled([s.score for s in results[i]])}
    return results


def _round(plans: Sequence[Plan], ends: Mapping[int, int]) -> tuple[dict[int, int], list[Fork]]:
    """The next positions of trajectories that are scored backwards, and the forks at them.

    ends: for each trajectory, the position in front of which it goes on. Returns the first
    positions of the round in the same form.
    """
    positions = _ROUND
    while True:
        starts = {i: max(0, end - positions) for i, end in ends.items()}
        forks = [fork for i, end in ends.items() for fork in plans[i].forks if starts[i] <= fork.length < end]
        if sum(math.ceil(fork.n) for fork in forks) >= _CONTINUATIONS or not any(starts.values()):
            return starts, forks
        positions *= 2


# --- independent


@dataclass(frozen=True)
class _Independent:
    forks: Sequence[Fork]
    n: int
    length: int
    weighted = False

    def scores(self, outcomes: Outcomes, first: int) -> list[Score]:
        counts = ((t, sum(o.correct for o in outcomes[t, None])) for t in range(first, self.length + 1))
        return [_counted(length, self.n, correct) for length, correct in counts]


def independent(n: int) -> Planner:
    """`n` fresh rollouts from every prefix (paper, section 2)."""

    def plan(engine: Engine, index: int, trajectory: Trajectory, generation: GenerationSettings) -> Plan:
        length = len(trajectory.answer)
        return _Independent([Fork(index, t, None, n, 0) for t in range(length + 1)], n, length)

    return plan


# --- coupled


@dataclass(frozen=True)
class _Sample:
    """A sample that follows the trajectory from one prefix length to another.

    born: the length of its first prefix.
    left, token: the length at which it leaves the trajectory, and with which token; None if never.
    """

    born: int
    left: int | None
    token: int | None


@dataclass(frozen=True)
class _Coupled:
    forks: Sequence[Fork]
    n: int
    trajectory: Trajectory
    samples: Sequence[_Sample]
    weighted = False

    def scores(self, outcomes: Outcomes, first: int) -> list[Score]:
        """Each sample counts at every prefix from `born` to `left`."""
        correct = [0] * (len(self.trajectory.answer) + 1)
        own_grade = self.trajectory.grader(self.trajectory.answer)
        taken: Counter[tuple[int, int | None]] = Counter()
        for sample in self.samples:
            last, grade = len(self.trajectory.answer), own_grade
            if sample.left is not None:
                if sample.left < first:
                    continue
                place = (sample.left, sample.token)
                last, grade = sample.left, outcomes[place][taken[place]].correct
                taken[place] += 1
            for length in range(sample.born, last + 1):
                correct[length] += grade
        return [_counted(length, self.n, c) for length, c in enumerate(correct) if length >= first]


def coupled(n: int) -> Planner:
    """The estimate of `n` independent rollouts per prefix, from samples that prefixes share.

    A rollout from prefix t whose next token is the trajectory's own is from then on an exact sample
    from prefix t+1, because p(rest | prefix t) = p(next | prefix t) p(rest | prefix t+1). So n
    samples are alive at every prefix. Each stays on the trajectory with probability q, which is
    that of the trajectory's next token under the engine's sampling distribution (temperature and
    nucleus included). The others leave with a token drawn from that distribution without this
    token, and as many new samples join at the next prefix.

    At every prefix the n samples are independent and exact; only the scores of different prefixes
    are correlated. All q come from one forward pass, and only samples that leave are generated.
    """
    import torch

    numbers = torch.arange(n)

    def plan(engine: Engine, index: int, trajectory: Trajectory, generation: GenerationSettings) -> Plan:
        path, chances = next_tokens(engine, trajectory, generation)
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
        # Samples that never leave are the trajectory itself. One born after its end never lived.
        samples += [_Sample(b, None, None) for b in born if b <= len(trajectory.answer)]
        leavers = Counter((s.left, s.token) for s in samples if s.left is not None and s.token is not None)
        forks = [Fork(index, left, token, count, 1) for (left, token), count in sorted(leavers.items())]
        return _Coupled(forks, n, trajectory, samples)

    return plan


# --- stratified


@dataclass(frozen=True)
class _Stratified:
    forks: Sequence[Fork]
    trajectory: Trajectory
    branches: float
    staying: Sequence[float]
    weighted = True

    def scores(self, outcomes: Outcomes, first: int) -> list[Score]:
        """Computed backwards from the known grade of the whole trajectory."""
        score, variance = float(self.trajectory.grader(self.trajectory.answer)), 0.0
        out = []
        if len(self.staying) == len(self.trajectory.answer):
            # The answer has reached the length limit, so nothing follows its last token.
            out.append(Score(len(self.staying) - 1, 0, 0, score, 0.0))
        at: list[list[Outcome]] = [[] for _ in self.staying]
        for (length, _), found in outcomes.items():
            at[length] += found
        for length in range(len(self.staying) - 1, first - 1, -1):
            stays = self.staying[length]
            guess = min(max(score, 0.0), 1.0)
            steps = [(o.weight, o.weight * (o.correct - guess) / self.branches) for o in at[length]]
            score = stays * score + (1 - stays) * guess + sum(step for _, step in steps)
            variance = stays**2 * variance + sum(step**2 for weight, step in steps if weight <= 1)
            out.append(Score(length - 1, len(steps), sum(o.correct for o in at[length]), score, variance**0.5))
        return out[::-1]


def stratified(branches: float) -> Planner:
    """Better scores from fewer tokens: probable tokens are summed over, only the rest is sampled.

    By the law of total expectation, the score of prefix t is s_t = q s_{t+1} + sum_a p_a s_{t,a}.
    Here q is the probability of the trajectory's next token, and p_a are those of the other tokens,
    all from one teacher-forced pass. The last score is the grade of the trajectory itself.

    `branches` is the expected number of samples at every prefix, so token a has the expected count
    `branches` * p_a. If that is at least 1, it is a branch with this weight. The other tokens are
    branches of weight 1 with that probability (`systematic_sample`). The engine continues in the
    same way at every later token. A guess g, which is s_{t+1} cut to [0, 1], stands for everything
    that is not sampled, and every branch corrects it:

        s_t = q s_{t+1} + (1 - q) g + sum over branches of weight / `branches` * (grade - g)

    Every score is unbiased, because mean weights equal expected counts, and because the guess
    depends on later positions only, whose sampling is independent. A score may lie outside [0, 1].

    Only the branches of weight 1 are random. The squared standard error sums their squared
    corrections, as for independent sampling. Systematic sampling usually varies less.
    """
    import torch

    def plan(engine: Engine, index: int, trajectory: Trajectory, generation: GenerationSettings) -> Plan:
        path, chances = next_tokens(engine, trajectory, generation)
        lengths = torch.arange(len(path))
        keys = stream_keys(torch.full_like(lengths, trajectory.seed), torch.full_like(lengths, 2**30))
        staying, forks = [], []
        for length, (token, row, offset) in enumerate(
            zip(path, chances.double(), uniforms(keys, lengths), strict=True)
        ):
            row[token] = 0.0
            staying.append(1 - float(row.sum()))
            others = row.nonzero().squeeze(-1)
            taken = systematic_sample(branches * row[others], offset).tolist()
            forks += [
                Fork(index, length, other, weight, 1)
                for other, weight in zip(others.tolist(), taken, strict=True)
                if weight
            ]
        return _Stratified(forks, trajectory, branches, staying)

    return plan
