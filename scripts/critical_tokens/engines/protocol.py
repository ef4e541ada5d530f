"""What an engine is: continue prefixes of token ids, n times each, under a sampling distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from critical_tokens.sampling import Distribution

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Request:
    """Continue `prefix` (token ids, BOS included) `n` times by at most `max_new_tokens` tokens; `n` is whole unless weighted.

    Sample i draws its random numbers from a stream of its own, keyed by (seed, i): what a request returns does not depend
    on the requests around it, beyond the rounding of floating-point sums.
    """

    prefix: tuple[int, ...]
    n: float
    seed: int
    max_new_tokens: int


@dataclass(frozen=True, order=True)
class Completion:
    """Generated token ids without EOS, whether EOS came (False: cut off at max_new_tokens), and the samples it stands for."""

    token_ids: tuple[int, ...]
    finished: bool
    weight: float = 1.0


def check(requests: Sequence[Request], context: int) -> None:
    """Raise ValueError for an empty prefix, or one that leaves no room for a new token in the context."""
    for request in requests:
        if not request.prefix:
            raise ValueError("a request has an empty prefix")
        if len(request.prefix) >= context:
            raise ValueError(f"a prefix of {len(request.prefix)} tokens fills the context of {context}")


class Engine(Protocol):
    """Anything that answers requests.

    context: the most tokens that a prefix and its continuation may have together. device: what it runs on.
    tokens_generated: new tokens decoded so far, EOS included; what an engine shares between samples counts once.
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
        """Completions of each request, in order. `on_progress` is told how many completions are done.

        Each request has `n` completions, independent samples. If `weighted`, it has some whose weights add up to `n` on
        average: the weights of the completions with any property are on average `n` times its probability. Weights above 1
        belong to completions that every seed gives; an engine that knows nothing better gives ceil(n) equal samples.

        Raises ValueError for a bad request, see `check`.
        """
        ...

    def path_logits(self, prompt: Sequence[int], path: Sequence[int]) -> Tensor:
        """Raw logits (len(path), vocabulary) that predict each token of `path` after `prompt`, in one teacher-forced pass."""
        ...
