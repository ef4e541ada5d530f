"""Branches of a trajectory: rollouts from each of its prefixes, and the replacement of one of its tokens.

Everything here is "continue from a prefix of a trajectory, possibly with another token next, n times": requests to an
engine, graded by a function that the caller gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from critical_tokens.engines.protocol import Engine, Request
from critical_tokens.sampling import Distribution

Grader = Callable[[Sequence[int]], bool]
"""Whether a whole answer (token ids without EOS) is correct."""


@dataclass(frozen=True)
class Trajectory:
    """A sampled answer to be examined: prompt, answer token ids (without EOS), whether it ended, and its grader."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    finished: bool
    grader: Grader
    seed: int

    def prefix(self, length: int) -> tuple[int, ...]:
        """Prompt and the first `length` answer tokens."""
        return self.prompt + self.answer[:length]


@dataclass(frozen=True)
class Score:
    """Rollouts from the prefix that ends with answer token `position` (-1: the bare prompt)."""

    position: int
    n: int
    correct: int


def score_positions(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    n: int,
    distribution: Distribution,
    max_new_tokens: int,
    on_progress: Callable[[int], None] | None = None,
) -> list[list[Score]]:
    """`n` rollouts from every prefix of every trajectory, the bare prompt and the whole answer included.

    `max_new_tokens` is the longest whole answer: a rollout from a longer prefix may add fewer tokens. A prefix that has
    used them all up counts as it stands.
    """
    requests: list[Request] = []
    where: list[tuple[int, int]] = []
    for index, trajectory in enumerate(trajectories):
        for length in range(len(trajectory.answer) + 1):
            if length < max_new_tokens:
                seed = _branch_seed(trajectory.seed, length, 0)
                requests.append(Request(trajectory.prefix(length), n, seed, max_new_tokens - length))
                where.append((index, length))
    scores = [[Score(length - 1, n, 0) for length in range(len(t.answer) + 1)] for t in trajectories]
    for (index, length), completions in zip(where, engine.generate(requests, distribution, on_progress), strict=True):
        trajectory = trajectories[index]
        correct = sum(trajectory.grader(trajectory.answer[:length] + c.token_ids) for c in completions)
        scores[index][length] = Score(length - 1, n, correct)
    return scores


@dataclass(frozen=True)
class Branch:
    """One continuation in the replacement test: the token at the examined position, the whole answer, its grade."""

    token_id: int
    answer: tuple[int, ...]
    correct: bool


def keep_token(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    positions: Sequence[int],
    n: int,
    distribution: Distribution,
    max_new_tokens: int,
) -> list[list[Branch]]:
    """`n` continuations with the token at each trajectory's position kept."""
    chosen = [[(t.answer[p], n)] for t, p in zip(trajectories, positions, strict=True)]
    return _with_tokens(engine, trajectories, positions, chosen, distribution, max_new_tokens, stream=1)


def replace_token(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    positions: Sequence[int],
    n: int,
    distribution: Distribution,
    replacement: Distribution,
    max_new_tokens: int,
    eos_token_id: int,
) -> list[list[Branch]]:
    """`n` replacements of the token at each position, each drawn from `replacement` without that token, continued once.

    The released code draws from the full softmax at T=1 (rollout_sampling_for_critical_tokens.py:142-157), which is
    `Distribution(1.0, 1.0)`; the sampling distribution is the other natural choice.
    """
    prefixes = [t.prefix(p) for t, p in zip(trajectories, positions, strict=True)]
    banned = [t.answer[p] for t, p in zip(trajectories, positions, strict=True)]
    seeds = [_branch_seed(t.seed, p, 2) for t, p in zip(trajectories, positions, strict=True)]
    drawn = engine.draw_tokens(prefixes, banned, n, seeds, replacement)
    counted = [sorted(Counter(tokens).items()) for tokens in drawn]
    return _with_tokens(engine, trajectories, positions, counted, distribution, max_new_tokens, 3, eos_token_id)


def _with_tokens(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    positions: Sequence[int],
    tokens: Sequence[Sequence[tuple[int, int]]],
    distribution: Distribution,
    max_new_tokens: int,
    stream: int,
    eos_token_id: int | None = None,
) -> list[list[Branch]]:
    """Continue trajectory i from its position with each (token, count) of tokens[i] in place of its own token."""
    results: list[list[Branch]] = [[] for _ in trajectories]
    requests: list[Request] = []
    where: list[tuple[int, int]] = []
    for index, (trajectory, position) in enumerate(zip(trajectories, positions, strict=True)):
        left = max_new_tokens - position - 1
        for token, count in tokens[index]:
            if token == eos_token_id or left <= 0:
                ended = trajectory.answer[:position] + (() if token == eos_token_id else (token,))
                results[index] += [Branch(token, ended, trajectory.grader(ended))] * count
                continue
            seed = _branch_seed(trajectory.seed, position, stream, token)
            requests.append(Request((*trajectory.prefix(position), token), count, seed, left))
            where.append((index, token))
    for (index, token), completions in zip(where, engine.generate(requests, distribution), strict=True):
        trajectory, position = trajectories[index], positions[index]
        start = (*trajectory.answer[:position], token)
        for completion in completions:
            answer = (*start, *completion.token_ids)
            results[index].append(Branch(token, answer, trajectory.grader(answer)))
    return results


def _branch_seed(seed: int, position: int, stream: int, token: int = 0) -> int:
    """A seed for each place a trajectory is continued from; neighbouring numbers give unrelated streams (sampling.mix)."""
    return ((seed * 4096 + position) * 4 + stream) * 262_144 + token
