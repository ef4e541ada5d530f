"""Branches: continuations of a prefix of a trajectory, possibly with another next token.

Rollouts (`scores`), the replacement test of Figure 2 and the counterfactuals of CFT are lists of
forks for `branch`. An engine generates the continuations, so nothing here depends on batches or
caches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from critical_tokens.core.records import Failure
from critical_tokens.decoding.distributions import GREEDY, Distribution, draw
from critical_tokens.decoding.protocol import Engine, Request, about
from critical_tokens.decoding.random_streams import stream_keys, uniforms

if TYPE_CHECKING:
    from torch import Tensor

Grader = Callable[[Sequence[int]], bool]
"""Whether a whole answer (token ids without EOS) is correct."""

OnProgress = Callable[[int], None]
"""Called with the number of continuations that are done."""


class BranchingError(Failure):
    """A trajectory that cannot be branched, or an engine that did not do what was requested."""

    def __init__(self, trajectory: Trajectory, position: int | None, what: str) -> None:
        place = "" if position is None else f", position {position}"
        super().__init__(f"trajectory {trajectory.name}{place}: {what}")


@dataclass(frozen=True)
class Trajectory:
    """A sampled answer to be examined.

    name: how messages name it.
    prompt: token ids.
    answer: token ids without EOS.
    grader: says whether an answer to the same problem is correct.
    seed: below 2**31.
    """

    name: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    grader: Grader
    seed: int


def require_tokens(trajectory: Trajectory) -> None:
    """Raise BranchingError for an answer without tokens, which has no position to branch at."""
    if not trajectory.answer:
        raise BranchingError(trajectory, None, "the answer has no tokens")


@dataclass(frozen=True)
class GenerationSettings:
    """How continuations are drawn and where they end.

    max_new_tokens: longest whole answer, the kept prefix included.
    eos_token_id: the token whose probability is that of ending an answer.
    ends: all tokens at which the engine ends an answer; by default eos_token_id only.
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
    """A request for `n` continuations of a prefix of a trajectory.

    index: the index of the trajectory.
    length: the number of its answer tokens that are kept.
    token: the token that follows them; None if it is drawn, too.
    n: a whole number unless continuations are weighted.
    stream: 0 to 3; different streams give one place different random numbers.
    """

    index: int
    length: int
    token: int | None
    n: float
    stream: int


class Continuation(NamedTuple):
    """The whole answer of a continuation, and the number of samples that it stands for."""

    answer: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Branch:
    """A graded continuation: the token at the examined position, the whole answer, its grade."""

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
    """The continuations of each fork.

    A fork that has reached the length limit or ends with EOS is its own continuation. If
    `weighted`, the weights add up to the `n` of the fork on average, see
    decoding.protocol.Engine.generate.

    Raises BranchingError for an answer without tokens, for a prefix that fills the model's context,
    and for an engine that returns another number of continuations than requested.
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
        # Every place has a seed of its own. Neighbouring seeds give unrelated random streams
        # (random_streams.mix).
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


def next_tokens(engine: Engine, trajectory: Trajectory, generation: GenerationSettings) -> tuple[list[int], Tensor]:
    """The path of a trajectory, and the probabilities (len(path), vocabulary) of every next token.

    The path is the answer, with EOS if the length limit leaves room for it. The probabilities are
    those of the distribution that the engine samples from, by one teacher-forced pass. Raises
    BranchingError if the answer cannot have been drawn from that distribution.
    """
    path = [*trajectory.answer, generation.eos_token_id][: generation.max_new_tokens]
    if len(trajectory.prompt) + len(path) > engine.context:
        length = len(trajectory.prompt) + len(path)
        what = f"prompt and answer of {length} tokens exceed the model's context of {engine.context}"
        raise BranchingError(trajectory, engine.context - len(trajectory.prompt), what)
    logits = engine.path_logits(trajectory.prompt, path).cpu()
    possible = generation.distribution.allows(logits[: len(trajectory.answer)], trajectory.answer)
    if not all(possible):
        position = possible.index(False)
        token = trajectory.answer[position]
        what = f"token {token} is outside the sampling distribution; was it sampled with other settings?"
        raise BranchingError(trajectory, position, what)
    return path, generation.distribution.probabilities(logits)


def _graded(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    forks: Sequence[Fork],
    generation: GenerationSettings,
    on_progress: OnProgress | None = None,
) -> list[list[Branch]]:
    """The graded continuations of forks that name a token."""
    results = []
    continued = branch(engine, trajectories, forks, generation, on_progress)
    for fork, continuations in zip(forks, continued, strict=True):
        assert fork.token is not None  # noqa: S101 - see the callers below
        grader = trajectories[fork.index].grader
        results.append([Branch(fork.token, c.answer, grader(c.answer)) for c in continuations])
    return results


# --- one token kept or replaced (Figure 2)


def keep_token(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    positions: Sequence[int],
    n: int,
    generation: GenerationSettings,
    on_progress: OnProgress | None = None,
) -> list[list[Branch]]:
    """`n` continuations of each trajectory after the token at its position, which is kept."""
    placed = zip(trajectories, positions, strict=True)
    forks = [Fork(i, position, t.answer[position], n, 2) for i, (t, position) in enumerate(placed)]
    return _graded(engine, trajectories, forks, generation, on_progress)


def replace_token(
    engine: Engine,
    trajectories: Sequence[Trajectory],
    positions: Sequence[int],
    n: int,
    generation: GenerationSettings,
    replacement: Distribution,
    on_progress: OnProgress | None = None,
) -> list[list[Branch]]:
    """`n` branches of each trajectory, each with another token at its position.

    The other tokens are drawn from `replacement`, and each is continued once. The original token is
    masked before the distribution is cut, so there is always another one to draw. The released code
    draws from the full softmax at temperature 1 (rollout_sampling_for_critical_tokens.py:142-157),
    which is "softmax" in distributions.DISTRIBUTIONS.
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
    for fork, branches in zip(forks, _graded(engine, trajectories, forks, generation, on_progress), strict=True):
        results[fork.index] += branches
    return results


# --- ranked tokens, continued greedily


def counterfactuals(
    engine: Engine, trajectories: Sequence[Trajectory], generation: GenerationSettings, ranks: Sequence[int] = (2, 3)
) -> list[list[list[Branch]]]:
    """Greedy continuations with other tokens at every position (CFT, 2510.10974).

    ranks: which other tokens. The token of the trajectory has rank 1; the others have ranks from 2
    on, in the order of the model's logits.

    results[i][t] has a branch per rank at position t of trajectory i. CFT calls position t of a
    correct answer critical if all its branches are wrong.
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
class GreedyPath:
    """A greedy answer after a given first token.

    token_ids, finished: as in decoding.protocol.Completion.
    top_two: the two largest probabilities at each token.
    """

    token_ids: tuple[int, ...]
    finished: bool
    top_two: tuple[tuple[float, float], ...]

    def confidence(self, span: slice = slice(None)) -> float:
        """Mean gap of the two largest probabilities over a span of tokens.

        This is the delta of CoT-decoding (2402.10200).
        """
        gaps = [first - second for first, second in self.top_two[span]]
        return sum(gaps) / len(gaps) if gaps else 0.0


def first_tokens(
    engine: Engine, prompts: Sequence[Sequence[int]], k: int, generation: GenerationSettings
) -> list[list[GreedyPath]]:
    """Greedy answers after the `k` most probable first tokens of each prompt.

    The most probable token comes first (CoT-decoding, 2402.10200).
    """
    starts = [engine.path_logits(p, (generation.eos_token_id,))[0].topk(k).indices.tolist() for p in prompts]
    requests = [
        Request((*prompt, token), 1, 0, generation.max_new_tokens - 1)
        for prompt, tokens in zip(prompts, starts, strict=True)
        for token in tokens
        if not generation.is_end(token)
    ]
    answers = iter(engine.generate(requests, GREEDY))
    results: list[list[GreedyPath]] = []
    for prompt, tokens in zip(prompts, starts, strict=True):
        results.append([])
        for token in tokens:
            ids: tuple[int, ...] = ()
            finished = True
            if not generation.is_end(token):
                completion = next(answers)[0]
                ids, finished = (token, *completion.token_ids), completion.finished
            top = engine.path_logits(prompt, ids).softmax(-1).topk(2, -1).values.tolist() if ids else []
            results[-1].append(GreedyPath(ids, finished, tuple((first, second) for first, second in top)))
    return results
