"""What an engine is: continue prefixes of token ids, n times each, under a sampling distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from critical_tokens.core.records import Failure
from critical_tokens.decoding.distributions import Distribution

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Request:
    """Continue `prefix` (token ids, BOS included) `n` times by at most `max_new_tokens` tokens; `n`
    is whole unless weighted.

    Sample i draws its random numbers from a stream of its own, keyed by (seed, i): what a request
    returns does not depend on the requests around it, beyond the rounding of floating-point sums.
    """

    prefix: tuple[int, ...]
    n: float
    seed: int
    max_new_tokens: int

    def longest(self, context: int) -> int:
        """The most tokens that the prefix and its continuation may have together."""
        return min(len(self.prefix) + self.max_new_tokens, context)


@dataclass(frozen=True, order=True)
class Completion:
    """Generated token ids without EOS, whether EOS came (False: cut off at max_new_tokens), and the
    samples it stands for.
    """

    token_ids: tuple[int, ...]
    finished: bool
    weight: float = 1.0


class RequestError(Failure):
    """A request that no engine can answer."""


@contextmanager
def about(what: str) -> Iterator[None]:
    """Say what a RequestError is about."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{what}: {error}") from error


def check(requests: Sequence[Request], context: int) -> None:
    """Raise RequestError for an empty prefix, or one that leaves no room for a new token in the
    context.
    """
    for request in requests:
        if not request.prefix:
            raise RequestError("a request has an empty prefix")
        if len(request.prefix) >= context:
            raise RequestError(f"a prefix of {len(request.prefix)} tokens fills the model's context of {context}")


def check_path(prompt: Sequence[int], path: Sequence[int], context: int) -> None:
    """Raise RequestError where the tokens that predict the path do not fit into the context."""
    read = len(prompt) + len(path) - 1
    if read > context:
        raise RequestError(f"a prompt and an answer of {read} tokens exceed the model's context of {context}")


class Engine(Protocol):
    """Anything that answers requests.

    context: the most tokens that a prefix and its continuation may have together. device: what it
    runs on. tokens_generated: new tokens decoded so far, EOS included; what an engine shares
    between samples counts once.
    """

    context: int
    device: str
    tokens_generated: int

    def generate(
        self,
        requests: Sequence[Request],
        distribution: Distribution,
        on_progress: Callable[[int], None] | None = None,
        weighted: bool = False,
    ) -> list[list[Completion]]:
        """Completions of each request, in order. `on_progress` is told how many completions are
        done.

        Each request has `n` completions, independent samples. If `weighted`, it has some whose
        weights add up to `n` on average: the weights of the completions with any property are on
        average `n` times its probability. Weights above 1 belong to completions that every seed
        gives; an engine that knows nothing better gives ceil(n) equal samples.

        Raises RequestError for a bad request, see `check`.
        """
        ...

    def path_logits(self, prompt: Sequence[int], path: Sequence[int]) -> Tensor:
        """Raw logits (len(path), vocabulary) that predict each token of `path` after `prompt`, in
        one teacher-forced pass.

        Raises RequestError where they exceed the context.
        """
        ...
