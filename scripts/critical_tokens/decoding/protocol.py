"""What an engine does: it continues prefixes of token ids under a sampling distribution."""

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
    """A prefix to be continued `n` times.

    prefix: token ids, BOS included.
    n: number of samples; a whole number unless completions are weighted.
    seed: sample i draws its random numbers from a stream of its own, keyed by (seed, i). So the
    result of a request does not depend on the other requests, apart from rounding.
    max_new_tokens: longest continuation.
    """

    prefix: tuple[int, ...]
    n: float
    seed: int
    max_new_tokens: int

    def longest(self, context: int) -> int:
        """The largest number of tokens of the prefix and its continuation together."""
        return min(len(self.prefix) + self.max_new_tokens, context)


@dataclass(frozen=True, order=True)
class Completion:
    """A continuation of a prefix.

    token_ids: the generated tokens without EOS.
    finished: whether the model ended it; False if it was cut off at max_new_tokens.
    weight: the number of samples that it stands for.
    """

    token_ids: tuple[int, ...]
    finished: bool
    weight: float = 1.0


class RequestError(Failure):
    """A request that an engine cannot answer."""


@contextmanager
def about(what: str) -> Iterator[None]:
    """Put `what` in front of the message of a RequestError."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{what}: {error}") from error


def check(requests: Sequence[Request], context: int) -> None:
    """Raise RequestError for a prefix that is empty or leaves no room in the context."""
    for request in requests:
        if not request.prefix:
            raise RequestError("a request has an empty prefix")
        if len(request.prefix) >= context:
            raise RequestError(f"a prefix of {len(request.prefix)} tokens fills the model's context of {context}")


def check_path(prompt: Sequence[int], path: Sequence[int], context: int) -> None:
    """Raise RequestError if the tokens that predict the path do not fit into the context."""
    read = len(prompt) + len(path) - 1
    if read > context:
        raise RequestError(f"a prompt and an answer of {read} tokens exceed the model's context of {context}")


OnAnswers = Callable[[int, list[Completion]], None]
"""Called with the index of a request and its completions when all of them are done."""


class Engine(Protocol):
    """An engine answers requests.

    context: the largest number of tokens of a prefix and its continuation together.
    device: the device that it runs on.
    tokens_generated: new tokens decoded so far, EOS included. A token that several samples share
    counts once.
    """

    @property
    def context(self) -> int: ...  # noqa: D102

    @property
    def device(self) -> str: ...  # noqa: D102

    @property
    def tokens_generated(self) -> int: ...  # noqa: D102

    def generate(
        self,
        requests: Sequence[Request],
        distribution: Distribution,
        on_progress: Callable[[int], None] | None = None,
        weighted: bool = False,
        on_answers: OnAnswers | None = None,
    ) -> list[list[Completion]]:
        """The completions of each request, in the order of the requests.

        on_progress: called with the number of completions that are done.
        on_answers: called with the index and the completions of a request when all are done.
        weighted: if False, a request has `n` independent samples. If True, it has any number of
        weighted completions: for every property of a completion, the expected total weight of the
        completions with it is `n` times its probability. Weights above 1 belong to completions that
        occur under every seed. An engine may return ceil(n) samples of equal weight.

        Raises RequestError, see `check`.
        """
        ...

    def path_logits(self, prompt: Sequence[int], path: Sequence[int]) -> Tensor:
        """Raw logits (len(path), vocabulary) of every token of `path` after `prompt`.

        They come from one teacher-forced pass. Raises RequestError, see `check_path`.
        """
        ...
