"""Branches: continue from a prefix of a trajectory, possibly with another token next, n times,
under a distribution.

Rollouts (`rollouts`), the replacement test of Figure 2, the counterfactuals of CFT and the first
tokens of CoT-decoding are all lists of forks put to `branch`. An engine answers them; nothing here
knows of batches or caches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from critical_tokens.core.records import Failure
from critical_tokens.decoding.distributions import GREEDY, Distribution, draw
from critical_tokens.decoding.protocol import Engine, Request, about
from critical_tokens.decoding.random_streams import stream_keys, uniforms

Grader = Callable[[Sequence[int]], bool]
"""Whether a whole answer (token ids without EOS) is correct."""

OnProgress = Callable[[int], None]


class BranchingError(Failure):
    """A trajectory that cannot be branched, or an engine that did not do what it was asked for."""

    def __init__(self, trajectory: Trajectory, position: int | None, what: str) -> None:
        place = "" if position is None else f", position {position}"
        super().__init__(f"trajectory {trajectory.name}{place}: {what}")


@dataclass(frozen=True)
class Trajectory:
    """A sampled answer to be examined: its name, prompt, answer ids (without EOS), grader, and a
    seed < 2**31.
    """

    name: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    grader: Grader
    seed: int


def require_tokens(trajectory: Trajectory) -> None:
    """Raise BranchingError for an answer that ended before it began: it has no position to branch
    at.
    """
    if not trajectory.answer:
        raise BranchingError(trajectory, None, "the answer has no tokens")


@dataclass(frozen=True)
class GenerationSettings:
    """How samples are drawn and how long they may get: `max_new_tokens` is the longest whole
    answer, prefix included.

    Finished answers are scored with `eos_token_id`; the engine ends them at any of `ends`, by
    default at that one only.
    """

    distribution: Distribution
    max_new_tokens: int
    eos_token_id: int
    ends: frozenset[int] = frozenset()

    def is_end(self, token: int | None) -> bool:
        """Whether a token ends an answer."""
        return token == self.eos_token_id or token in self.ends


@dataclass(frozen=True)
class Fork:
    """`n` continuations of the first `length` answer tokens of trajectory `index`, then `token`
    (None: whatever is drawn).

    `n` is whole unless they are weighted. `stream` (0 to 3) keeps the random numbers of different
    uses of one place apart.
    """

    index: int
    length: int
    token: int | None
    n: float
    stream: int


class Continuation(NamedTuple):
    """The whole answer of one continuation, and for how many samples it stands (1 unless weighted)."""

    answer: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Branch:
    """One continuation from another or the same token at a position: that token, the whole answer,
    and its grade.
    """

    token_id: int
    answer: tuple[int, ...]
    correct: bool


def branch(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    forks: Sequence[Fork],
    generation: GenerationSettings,
    on_progress: OnProgress | None = None,
    weighted: bool = False,
) -> list[list[Continuation]]:
    """Each fork's continuations. A fork that is at the length limit, or ends with EOS, stands as it
    is.

    If `weighted`, their weights add up to the fork's `n` on average, see
    engines.protocol.Engine.generate.

    Raises BranchingError for an answer without tokens, a prefix that fills the model's context, or
    an engine that returns another number of continuations than asked for.
    """
    results: list[list[Continuation]] = []
    requests: list[Request] = []
    asked: list[int] = []
    for fork in forks:
        trajectory = trajectories[fork.index]
        require_tokens(trajectory)
        kept = trajectory.answer[: fork.length]
        start = kept if fork.token is None or generation.is_end(fork.token) else (*kept, fork.token)
        results.append([Continuation(start, fork.n)] if weighted else [Continuation(start, 1.0)] * int(fork.n))
        left = generation.max_new_tokens - len(start)
        if generation.is_end(fork.token) or left <= 0:
            continue
        prefix = trajectory.prompt + start
        if len(prefix) >= engine.context:
            what = f"a prefix of {len(prefix)} tokens fills the model's context of {engine.context}"
            raise BranchingError(trajectory, len(start) - 1, what)
        # Neighbouring seeds give unrelated streams (sampling.mix): every place has a number of its
        # own.
        place = (trajectory.seed * 4096 + fork.length) * 4 + fork.stream
        seed = place * 262_144 + (0 if fork.token is None else fork.token)
        requests.append(Request(prefix, fork.n, seed, left))
        asked.append(len(results) - 1)
    generated = engine.generate(requests, generation.distribution, on_progress, weighted)
    for index, completions in zip(asked, generated, strict=True):
        fork = forks[index]
        if not weighted and len(completions) != fork.n:
            what = f"the engine returned {len(completions)} of {fork.n} continuations"
            raise BranchingError(trajectories[fork.index], fork.length - 1, what)
        start = results[index][0].answer
        results[index] = [Continuation(start + c.token_ids, c.weight) for c in completions]
    return results


def _graded(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    forks: Sequence[Fork],
    generation: GenerationSettings,
    on_progress: OnProgress | None = None,
) -> list[list[Branch]]:
    """The graded continuations of each fork; forks name a token."""
    return [
        [Branch(fork.token, c.answer, trajectories[fork.index].grader(c.answer)) for c in continuations]
        for fork, continuations in zip(forks, branch(engine, trajectories, forks, generation, on_progress), strict=True)
    ]


# --- one token kept or replaced (Figure 2)


def keep_token(
    engine: Engine, trajectories: Sequence[Trajectory], positions: Sequence[int], n: int, generation: GenerationSettings
) -> list[list[Branch]]:
    """`n` continuations with the token at each trajectory's position kept."""
    placed = zip(trajectories, positions, strict=True)
    forks = [Fork(i, position, t.answer[position], n, 2) for i, (t, position) in enumerate(placed)]
    return _graded(engine, trajectories, forks, generation)


def replace_token(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    positions: Sequence[int],
    n: int,
    generation: GenerationSettings,
    replacement: Distribution,
) -> list[list[Branch]]:
    """`n` replacements of the token at each position, each drawn from `replacement` without that
    token, continued once.

    The released code draws from the full softmax at T=1
    (rollout_sampling_for_critical_tokens.py:142-157), which is `Nucleus(1.0, 1.0)`; the sampling
    distribution is the other natural choice. The token is masked before the nucleus is
    cut, so there is always another one to draw.
    """
    import torch

    forks: list[Fork] = []
    numbers = torch.arange(n)
    for index, (trajectory, position) in enumerate(zip(trajectories, positions, strict=True)):
        with about(f"trajectory {trajectory.name}"):
            logits = engine.path_logits(trajectory.prompt, trajectory.answer[: position + 1])[-1].cpu().clone()
        logits[trajectory.answer[position]] = -torch.inf
        keys = stream_keys(torch.full_like(numbers, trajectory.seed), numbers)
        draws = uniforms(keys, torch.full_like(numbers, 2**20 + position))
        counted = Counter(draw(replacement.probabilities(logits), draws))
        forks += [Fork(index, position, token, count, 3) for token, count in sorted(counted.items())]
    results: list[list[Branch]] = [[] for _ in trajectories]
    for fork, branches in zip(forks, _graded(engine, trajectories, forks, generation), strict=True):
        results[fork.index] += branches
    return results


# --- ranked tokens, continued greedily


def counterfactuals(
    engine: Engine, trajectories: Sequence[Trajectory], generation: GenerationSettings, ranks: Sequence[int] = (2, 3)
) -> list[list[list[Branch]]]:
    """At every position the tokens of those ranks in place of the trajectory's own, continued
    greedily (CFT, 2510.10974).

    A trajectory's own token counts as rank 1, the others follow in the order of the model's logits,
    from rank 2 on. results[i][t] holds a branch per rank at position t of trajectory i. CFT calls t
    critical in a correct answer when all of them are wrong.
    """
    forks = []
    for index, trajectory in enumerate(trajectories):
        require_tokens(trajectory)
        logits = engine.path_logits(trajectory.prompt, trajectory.answer)
        top = logits.topk(max(ranks) + 1, -1).indices.tolist()
        for position, (own, order) in enumerate(zip(trajectory.answer, top, strict=True)):
            others = [token for token in order if token != own]
            forks += [Fork(index, position, others[rank - 2], 1, 0) for rank in ranks]
    greedy = replace(generation, distribution=GREEDY)
    branches = iter(_graded(engine, trajectories, forks, greedy))
    return [[[next(branches)[0] for _ in ranks] for _ in t.answer] for t in trajectories]


@dataclass(frozen=True)
class Path:
    """A greedy answer from one of the most probable first tokens, and the two largest probabilities
    at each of its tokens.
    """

    token_ids: tuple[int, ...]
    finished: bool
    top_two: tuple[tuple[float, float], ...]

    def confidence(self, span: slice = slice(None)) -> float:
        """Mean gap of the two largest probabilities over a span of the answer's tokens
        (CoT-decoding's delta, 2402.10200).
        """
        gaps = [first - second for first, second in self.top_two[span]]
        return sum(gaps) / len(gaps) if gaps else 0.0


def first_tokens(
    engine: Engine, prompts: Sequence[Sequence[int]], k: int, generation: GenerationSettings
) -> list[list[Path]]:
    """Greedy answers of each prompt from its `k` most probable first tokens, most probable first
    (CoT-decoding, 2402.10200).
    """
    starts = [engine.path_logits(p, (generation.eos_token_id,))[0].topk(k).indices.tolist() for p in prompts]
    requests = [
        Request((*prompt, token), 1, 0, generation.max_new_tokens - 1)
        for prompt, tokens in zip(prompts, starts, strict=True)
        for token in tokens
        if not generation.is_end(token)
    ]
    answers = iter(engine.generate(requests, GREEDY))
    results = []
    for prompt, tokens in zip(prompts, starts, strict=True):
        results.append([])
        for token in tokens:
            ids, finished = (), True
            if not generation.is_end(token):
                completion = next(answers)[0]
                ids, finished = (token, *completion.token_ids), completion.finished
            top = engine.path_logits(prompt, ids).softmax(-1).topk(2, -1).values.tolist() if ids else []
            results[-1].append(Path(ids, finished, tuple(map(tuple, top))))
    return results
