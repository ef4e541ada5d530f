"""Rollout scores: the success rate of continuations from every prefix of a trajectory, by three
procedures.

`independent` is the paper's, `coupled` has the same estimate from samples that prefixes share,
`stratified` a better one from the exact probabilities of staying on the trajectory. Each is a plan:
which forks it needs, and what the scores are once they are graded. `score` puts plans to an engine,
all forks at once, or from the end backwards until nothing earlier matters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from critical_tokens.decoding.distributions import draw
from critical_tokens.decoding.protocol import Engine
from critical_tokens.decoding.random_streams import stream_keys, uniforms
from critical_tokens.decoding.systematic import systematic_sample
from critical_tokens.rollouts.branching import (
    BranchingError,
    Fork,
    GenerationSettings,
    Trajectory,
    branch,
    require_tokens,
)

if TYPE_CHECKING:
    from torch import Tensor

Settled = Callable[[Sequence[float]], bool]
"""Whether the scores of a trajectory's last positions decide what is asked of it, whatever the
earlier ones are.
"""


class Outcome(NamedTuple):
    """Whether a continuation is correct, and for how many samples it stands."""

    correct: bool
    weight: float


Outcomes = Mapping[tuple[int, int | None], Sequence[Outcome]]
"""Outcomes of a trajectory's forks, by prefix length and token."""

# Positions that `score` takes at a time from the end backwards: enough for a full batch, few enough
# to stop early.
_ROUND = 4


@dataclass(frozen=True)
class Score:
    """The prefix that ends with answer token `position` (-1: the bare prompt): its success rate,
    and how it was found.

    `n` and `correct` count the continuations behind it: all of them from this prefix (independent,
    coupled), or those that leave the trajectory here (stratified). `standard_error` is that of
    `score`.
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
    """What scoring one trajectory takes: forks, whose continuations may be weighted."""

    forks: Sequence[Fork]
    weighted: bool

    def scores(self, outcomes: Outcomes, first: int) -> list[Score]:
        """Scores of all prefixes of at least `first` tokens, from the outcomes of the forks of at
        least that length.
        """
        ...


Planner = Callable[[Engine, int, Trajectory, GenerationSettings], Plan]
"""Makes the plan of the trajectory with that index; its plans are all weighted or none."""


def score(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    planner: Planner,
    generation: GenerationSettings,
    on_progress: Callable[[int, int], None] | None = None,
    settled: Settled | None = None,
) -> list[list[Score]]:
    """Scores of every prefix of every trajectory, the bare prompt and the whole answer included, in
    order.

    `on_progress` is called with the number of continuations that are done, and with their total.
    With `settled`, a trajectory is scored from its end backwards, and only as far as that needs:
    its list is then the scores of its last positions, the same numbers as without it. Raises
    BranchingError, see `branching.branch`.
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
        report = on_progress and (lambda finished: on_progress(done + finished, total))
        continued = branch(engine, trajectories, forks, generation, report, weighted)
        for fork, continuations in zip(forks, continued, strict=True):
            grader = trajectories[fork.index].grader
            outcomes[fork.index][fork.length, fork.token] = [Outcome(grader(c.answer), c.weight) for c in continuations]
        done += sum(math.ceil(fork.n) for fork in forks)

    if settled is None:
        grade([fork for plan in plans for fork in plan.forks])
        return [plan.scores(graded, 0) for plan, graded in zip(plans, outcomes, strict=True)]
    results: list[list[Score]] = [[] for _ in plans]
    ends = {
        i: len(t.answer) + 1 for i, t in enumerate(trajectories)
    }  # of those not settled: the prefixes left, by length
    while ends:
        starts = {i: max(0, end - _ROUND) for i, end in ends.items()}
        grade([fork for i in ends for fork in plans[i].forks if starts[i] <= fork.length < ends[i]])
        for i, start in starts.items():
            results[i] = plans[i].scores(outcomes[i], start)
        ends = {i: start for i, start in starts.items() if start > 0 and not settled([s.score for s in results[i]])}
    return results


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


# --- staying on a trajectory and leaving it


def _chances(engine: Engine, trajectory: Trajectory, generation: GenerationSettings) -> tuple[list[int], Tensor]:
    """The path that a trajectory takes, EOS included where there is room for it, and the
    probabilities of every next token.

    One teacher-forced pass; (len(path), vocabulary), under the distribution that the engine samples
    from. Raises BranchingError where that distribution could not have given the answer.
    """
    path = [*trajectory.answer, generation.eos_token_id][: generation.max_new_tokens]
    if len(trajectory.prompt) + len(path) > engine.context:
        what = f"prompt and answer of {len(trajectory.prompt) + len(path)} tokens exceed the model's context of {engine.context}"
        raise BranchingError(trajectory, engine.context - len(trajectory.prompt), what)
    logits = engine.path_logits(trajectory.prompt, path).cpu()
    possible = generation.distribution.allows(logits[: len(trajectory.answer)], trajectory.answer)
    if not all(possible):
        position = possible.index(False)
        what = f"token {trajectory.answer[position]} is outside the sampling distribution; was it sampled with other settings?"
        raise BranchingError(trajectory, position, what)
    return path, generation.distribution.probabilities(logits)


# --- coupled


@dataclass(frozen=True)
class _Sample:
    """A sample that follows the trajectory from prefix length `born` on and leaves it at `left`
    (None: never).
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
        """Each sample counts at every prefix from its birth to its leaving."""
        correct = [0] * (len(self.trajectory.answer) + 1)
        own_grade = self.trajectory.grader(self.trajectory.answer)
        taken: Counter[tuple[int, int | None]] = Counter()
        for sample in self.samples:
            last, grade = len(self.trajectory.answer), own_grade
            if sample.left is not None:
                if sample.left < first:
                    continue
                last, grade = (
                    sample.left,
                    outcomes[sample.left, sample.token][taken[sample.left, sample.token]].correct,
                )
                taken[sample.left, sample.token] += 1
            for length in range(sample.born, last + 1):
                correct[length] += grade
        return [_counted(length, self.n, c) for length, c in enumerate(correct) if length >= first]


def coupled(n: int) -> Planner:
    """The estimate of `n` independent rollouts per prefix, from samples that prefixes share.

    A rollout from prefix t whose next token happens to be the trajectory's own is, from there on,
    an exact sample from prefix t+1, because p(rest | prefix t) factors into p(next | prefix t)
    p(rest | prefix t+1). So n samples are kept alive at every prefix: each stays with probability
    q, the trajectory's next token's under the engine's own sampling distribution (temperature and
    nucleus included), the others leave with a token drawn from that distribution without it, and as
    many newcomers join at the next prefix. At every prefix the n samples alive are independent and
    exact; only scores of neighbouring prefixes are correlated. All q come from one teacher-forced
    pass, no sample on the trajectory costs a token, and only the leavers are generated.
    """
    import torch

    numbers = torch.arange(n)

    def plan(engine: Engine, index: int, trajectory: Trajectory, generation: GenerationSettings) -> Plan:
        path, chances = _chances(engine, trajectory, generation)
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
        # Those who never left are the trajectory itself; born behind its end they were not alive at
        # any prefix.
        samples += [_Sample(b, None, None) for b in born if b <= len(trajectory.answer)]
        leavers = Counter((s.left, s.token) for s in samples if s.left is not None)
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
        """Backwards, from the known grade of the whole trajectory."""
        score, variance = float(self.trajectory.grader(self.trajectory.answer)), 0.0
        out = []
        if len(self.staying) == len(
            self.trajectory.answer
        ):  # at the length limit there is nothing behind the last token
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
    """Better scores from fewer tokens: whatever is probable enough is summed up, only the rest is
    drawn.

    By the law of total expectation the score of prefix t is s_t = q s_{t+1} + sum_a p_a s_{t,a}, q
    the probability of the trajectory's next token, p_a those of the others. All of them come from
    one teacher-forced pass, and the last score is the trajectory's own grade. `branches` samples
    are due at every prefix: a token that is due at least once is a branch of that weight, the
    others are by lot, with weight 1 (`systematic_sample`); and the engine goes on in that way at
    every token that follows. What was not looked at counts as the guess g = s_{t+1}, cut to [0, 1],
    which every branch corrects:

        s_t = q s_{t+1} + (1 - q) g + sum over branches of weight / `branches` * (grade - g)

    Every score is unbiased, because weights are on average what they are due, and the guess stems
    from later positions only, whose lots are independent of those here. So a score may lie outside
    [0, 1].

    Only lots are uncertain: the standard errors add up their squared corrections. That is the
    variance of lots drawn one by one; drawn systematically they vary less as a rule.
    """
    import torch

    def plan(engine: Engine, index: int, trajectory: Trajectory, generation: GenerationSettings) -> Plan:
        path, chances = _chances(engine, trajectory, generation)
        lengths = torch.arange(len(path))
        keys = stream_keys(torch.full_like(lengths, trajectory.seed), torch.full_like(lengths, 2**30))
        staying, forks = [], []
        for length, (token, row, offset) in enumerate(
            zip(path, chances.double(), uniforms(keys, lengths), strict=True)
        ):
            row[token] = 0.0
            staying.append(1 - float(row.sum()))
            taken = systematic_sample(branches * row, offset)
            forks += [
                Fork(index, length, other, float(taken[other]), 1) for other in taken.nonzero().squeeze(-1).tolist()
            ]
        return _Stratified(forks, trajectory, branches, staying)

    return plan
