"""Branches of a trajectory: rollouts from each of its prefixes, and the replacement of one of its tokens.

Everything here is "continue from a prefix of a trajectory, possibly with another token next, n times": requests to an
engine, graded by a function that the trajectory brings along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from critical_tokens.engines.protocol import Engine, Request
from critical_tokens.sampling import Distribution, draw, stream_keys, uniforms

Grader = Callable[[Sequence[int]], bool]
"""Whether a whole answer (token ids without EOS) is correct."""

Told = Callable[[int], None]


@dataclass(frozen=True)
class Trajectory:
    """A sampled answer to be examined: prompt, answer token ids (without EOS), its grader, a seed < 2**31."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    grader: Grader
    seed: int

    def prefix(self, length: int) -> tuple[int, ...]:
        """Prompt and the first `length` answer tokens."""
        return self.prompt + self.answer[:length]


@dataclass(frozen=True)
class Budget:
    """How samples are drawn and how long they may get: `max_new_tokens` is the longest whole answer, prefix included."""

    distribution: Distribution
    max_new_tokens: int
    eos_token_id: int


@dataclass(frozen=True)
class Score:
    """Rollouts from the prefix that ends with answer token `position` (-1: the bare prompt)."""

    position: int
    n: int
    correct: int


@dataclass(frozen=True)
class Branch:
    """One continuation from another or the same token at a position: that token, the whole answer, and its grade."""

    token_id: int
    answer: tuple[int, ...]
    correct: bool


@dataclass(frozen=True)
class _Fork:
    """`n` continuations of trajectory `index`'s first `length` tokens, followed by `token` (None: by whatever is drawn)."""

    index: int
    length: int
    token: int | None
    n: int
    stream: int


def _continue(
    engine: Engine, trajectories: Sequence[Trajectory], forks: Sequence[_Fork], budget: Budget, told: Told | None = None
) -> list[list[tuple[int, ...]]]:
    """Whole answers of each fork's continuations. A fork that is at the length limit, or ends with EOS, stands as it is."""
    results: list[list[tuple[int, ...]]] = []
    requests: list[Request] = []
    asked: list[int] = []
    for fork in forks:
        trajectory = trajectories[fork.index]
        kept = trajectory.answer[: fork.length]
        start = kept if fork.token in (None, budget.eos_token_id) else (*kept, fork.token)
        results.append([start] * fork.n)
        left = budget.max_new_tokens - len(start)
        if fork.token != budget.eos_token_id and left > 0:
            # Neighbouring seeds give unrelated streams (sampling.mix): every place has a number of its own.
            place = (trajectory.seed * 4096 + fork.length) * 4 + fork.stream
            seed = place * 262_144 + (0 if fork.token is None else fork.token)
            requests.append(Request(trajectory.prompt + start, fork.n, seed, left))
            asked.append(len(results) - 1)
    for index, completions in zip(asked, engine.generate(requests, budget.distribution, told), strict=True):
        results[index] = [start + c.token_ids for start, c in zip(results[index], completions, strict=True)]
    return results


# --- scores of all prefixes


def score_independently(
    engine: Engine, trajectories: Sequence[Trajectory], n: int, budget: Budget, told: Told | None = None
) -> list[list[Score]]:
    """`n` fresh rollouts from every prefix of every trajectory, the bare prompt and the whole answer included (paper)."""
    forks = [_Fork(i, length, None, n, 0) for i, t in enumerate(trajectories) for length in range(len(t.answer) + 1)]
    answers = iter(_continue(engine, trajectories, forks, budget, told))
    return [
        [Score(length - 1, n, sum(map(t.grader, next(answers)))) for length in range(len(t.answer) + 1)] for t in trajectories
    ]


@dataclass(frozen=True)
class _Sample:
    """A sample that follows the trajectory from prefix length `born` on and leaves it at `left` (None: never)."""

    born: int
    left: int | None
    token: int | None


def score_coupled(
    engine: Engine, trajectories: Sequence[Trajectory], n: int, budget: Budget, told: Told | None = None
) -> list[list[Score]]:
    """The same estimate from far fewer tokens: samples that agree with the trajectory are shared by its prefixes.

    A rollout from prefix t whose next token happens to be the trajectory's own is, from there on, an exact sample from
    prefix t+1, because p(rest | prefix t) factors into p(next | prefix t) p(rest | prefix t+1). So n samples are kept alive
    at every prefix: each stays with probability q, the trajectory's next token's under the engine's own sampling
    distribution (temperature and nucleus included), the others leave with a token drawn from that distribution without it,
    and as many newcomers join at the next prefix. At every prefix the n samples alive are independent and exact; only
    scores of neighbouring prefixes are correlated. All q come from one teacher-forced pass, no sample on the trajectory
    costs a token, and only the leavers are generated, in one batch.
    """
    samples = [_follow(engine, t, n, budget) for t in trajectories]
    leavers = [Counter((s.left, s.token) for s in own if s.left is not None) for own in samples]
    forks = [
        _Fork(i, left, token, count, 1) for i, counts in enumerate(leavers) for (left, token), count in sorted(counts.items())
    ]
    grades: list[dict[tuple[int, int], list[bool]]] = [{} for _ in trajectories]
    for fork, answers in zip(forks, _continue(engine, trajectories, forks, budget, told), strict=True):
        grades[fork.index][fork.length, fork.token] = [trajectories[fork.index].grader(a) for a in answers]
    return [_tally(t, n, own, graded) for t, own, graded in zip(trajectories, samples, grades, strict=True)]


def _follow(engine: Engine, trajectory: Trajectory, n: int, budget: Budget) -> list[_Sample]:
    """Where each of the samples along a trajectory is born and leaves: n are alive at every prefix."""
    import torch

    path = (*trajectory.answer, budget.eos_token_id)[: budget.max_new_tokens]
    probabilities = budget.distribution.probabilities(engine.path_logits(trajectory.prompt, path)).cpu()
    numbers = torch.arange(n)
    keys = stream_keys(torch.full_like(numbers, trajectory.seed), numbers)
    samples: list[_Sample] = []
    born = [0] * n
    for length, token in enumerate(path):
        draws = uniforms(keys, torch.full_like(keys, 2 * length))
        leaving = (draws >= probabilities[length, token]).nonzero().squeeze(-1)
        if not len(leaving):
            continue
        others = probabilities[length].clone()
        others[token] = 0.0
        tokens = draw(others, uniforms(keys[leaving], torch.full_like(leaving, 2 * length + 1)))
        for slot, drawn in zip(leaving.tolist(), tokens, strict=True):
            samples.append(_Sample(born[slot], length, drawn))
            born[slot] = length + 1
    # Those who never left are the trajectory itself; born behind its end they were not alive at any prefix.
    return samples + [_Sample(b, None, None) for b in born if b <= len(trajectory.answer)]


def _tally(
    trajectory: Trajectory, n: int, samples: Iterable[_Sample], grades: Mapping[tuple[int, int], list[bool]]
) -> list[Score]:
    """Scores of all prefixes from the samples alive there and the grades of those that left."""
    correct = [0] * (len(trajectory.answer) + 1)
    own_grade = trajectory.grader(trajectory.answer)
    taken: Counter[tuple[int, int]] = Counter()
    for sample in samples:
        if sample.left is None:
            last, grade = len(trajectory.answer), own_grade
        else:
            last, grade = sample.left, grades[sample.left, sample.token][taken[sample.left, sample.token]]
            taken[sample.left, sample.token] += 1
        for length in range(sample.born, last + 1):
            correct[length] += grade
    return [Score(length - 1, n, c) for length, c in enumerate(correct)]


# --- one token kept or replaced


def keep_token(
    engine: Engine, trajectories: Sequence[Trajectory], positions: Sequence[int], n: int, budget: Budget
) -> list[list[Branch]]:
    """`n` continuations with the token at each trajectory's position kept."""
    placed = zip(trajectories, positions, strict=True)
    forks = [_Fork(i, position, t.answer[position], n, 2) for i, (t, position) in enumerate(placed)]
    return _collect(engine, trajectories, forks, budget)


def replace_token(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    positions: Sequence[int],
    n: int,
    budget: Budget,
    replacement: Distribution,
) -> list[list[Branch]]:
    """`n` replacements of the token at each position, each drawn from `replacement` without that token, continued once.

    The released code draws from the full softmax at T=1 (rollout_sampling_for_critical_tokens.py:142-157), which is
    `Distribution(1.0, 1.0)`; the sampling distribution is the other natural choice. The token is masked before the nucleus
    is cut, so there is always another one to draw.
    """
    import torch

    forks: list[_Fork] = []
    numbers = torch.arange(n)
    for index, (trajectory, position) in enumerate(zip(trajectories, positions, strict=True)):
        logits = engine.path_logits(trajectory.prompt, trajectory.answer[: position + 1])[-1].cpu().clone()
        logits[trajectory.answer[position]] = -torch.inf
        keys = stream_keys(torch.full_like(numbers, trajectory.seed), numbers)
        draws = uniforms(keys, torch.full_like(numbers, 2**20 + position))
        counted = Counter(draw(replacement.probabilities(logits), draws))
        forks += [_Fork(index, position, token, count, 3) for token, count in sorted(counted.items())]
    return _collect(engine, trajectories, forks, budget)


def _collect(engine: Engine, trajectories: Sequence[Trajectory], forks: Sequence[_Fork], budget: Budget) -> list[list[Branch]]:
    """The graded continuations of forks with a token, by trajectory."""
    results: list[list[Branch]] = [[] for _ in trajectories]
    for fork, answers in zip(forks, _continue(engine, trajectories, forks, budget), strict=True):
        grader = trajectories[fork.index].grader
        results[fork.index] += [Branch(fork.token, answer, grader(answer)) for answer in answers]
    return results
