"""Distributions of the next token, and the registry of those that have a name.

The distribution is part of an estimate's definition: rollouts at temperature 0.5 and top-p 0.95
estimate another success rate than rollouts at temperature 1. It is therefore a value that travels
with the requests, and probabilities that are computed from logits are those that the engine samples
from.

A new way to cut the softmax, such as min-p, is a subclass of `Distribution`. A distribution that a
configuration chooses by name is an entry of DISTRIBUTIONS.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from critical_tokens.core.records import Failure

if TYPE_CHECKING:
    from torch import Tensor

# Numbers of most probable tokens among which the end of a nucleus is searched, one after the other.
# If it is not among them, all tokens are sorted, so the result is exact. Sorting the 150,000 logits
# of a real model for every token would make top-p slow, and almost every nucleus has few tokens.
_NUCLEUS_CANDIDATES = (64, 1024)
# A vocabulary is worth searching for that many candidates if it is larger by this factor.
_MUCH_LARGER = 64
# Tokens of a piece of the vocabulary. The most probable tokens of long rows are searched in the
# pieces with the largest maxima, because a maximum is found faster than a sorted part.
_PIECE = 128
# Logits that a processor works on at a time, so that it finds them in its cache in every step.
_AT_A_TIME = 1_200_000

# How far outside a distribution a token may lie and still count as possible, because of rounding:
# in probability mass or, for greedy decoding, in logits.
_EDGE = 1e-3


class Distribution(ABC):
    """A distribution of the next token, as a function of the model's logits."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities (…, vocabulary) of the next token, float32, from logits of that shape."""

    def support(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """All tokens that can be drawn from each row of logits (rows, vocabulary).

        Returns their probabilities, float32, and their ids, in order of ids, both of shape (rows,
        tokens). Other tokens may be among them, with probability 0.
        """
        import torch

        probabilities = self.probabilities(logits)
        return probabilities, torch.arange(logits.shape[-1], device=logits.device).expand_as(probabilities)

    @abstractmethod
    def allows(self, logits: Tensor, tokens: Sequence[int]) -> list[bool]:
        """Whether each token could have been drawn from its row of logits (tokens, vocabulary).

        It tolerates rounding, which differs between a batch and a single forward pass.
        """

    @abstractmethod
    def parameters(self) -> Mapping[str, float]:
        """The distribution as arguments of vLLM's SamplingParams; temperature 0 is greedy decoding.

        Raises Failure for a distribution that vLLM cannot sample from.
        """

    def sample(self, logits: Tensor, uniforms: Tensor, rows: Tensor) -> Tensor:
        """A token id for each of `uniforms`, drawn by inversion; the same inputs give the same ids.

        logits: (rows, vocabulary).
        uniforms: numbers in [0, 1), shape (samples,).
        rows: the row of logits that each sample is drawn from, shape (samples,).
        """
        import torch

        cumulative = self.probabilities(logits).cumsum(-1)[rows]
        target = uniforms.unsqueeze(-1) * cumulative[:, -1:]
        return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)


@dataclass(frozen=True)
class Nucleus(Distribution):
    """Softmax of logits / temperature, cut to the smallest set of tokens with mass top_p.

    The probabilities of that set are renormalised. Temperature 0 is greedy decoding. Raises
    ValueError for a temperature below 0 or a top_p outside (0, 1].
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}, must be at least 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, must be above 0 and at most 1")

    def parameters(self) -> Mapping[str, float]:
        """See Distribution."""
        return {"temperature": self.temperature, "top_p": 1.0 if self.temperature == 0 else self.top_p}

    def probabilities(self, logits: Tensor) -> Tensor:
        """See Distribution. Tokens outside the nucleus have probability 0."""
        import torch

        if self.temperature == 0:
            return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).float()
        few = self._few(logits.reshape(-1, logits.shape[-1]))
        if few is not None:
            probabilities, ids = (t.view(*logits.shape[:-1], -1) for t in few)
            return torch.zeros(logits.shape, device=logits.device).scatter_(-1, ids, probabilities)
        probabilities = torch.softmax(logits.float() / self.temperature, -1)
        if self.top_p < 1:
            ordered, order = _ordered(probabilities)
            ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= self.top_p, 0.0)
            probabilities = torch.zeros_like(probabilities).scatter_(-1, order, ordered)
            probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        return probabilities

    def support(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """See Distribution."""
        return self._few(logits) or super().support(logits)

    def _few(self, logits: Tensor) -> tuple[Tensor, Tensor] | None:
        """The result of `support` if nuclei have few tokens of a large vocabulary, or None."""
        if self.temperature == 0 or self.top_p == 1:
            return None
        for candidates in _NUCLEUS_CANDIDATES:
            if logits.shape[-1] < _MUCH_LARGER * candidates:
                return None
            ordered, order = self._most_probable(logits, candidates)
            cumulative = ordered.cumsum(-1)
            if not bool(self._open(ordered, cumulative).any()):
                kept = ordered.masked_fill(cumulative - ordered >= self.top_p, 0.0)
                order, places = order.sort(-1)
                kept = kept.gather(-1, places)
                return kept / kept.sum(-1, keepdim=True), order
        return None

    def allows(self, logits: Tensor, tokens: Sequence[int]) -> list[bool]:
        """See Distribution.

        A token at the edge of the nucleus counts as possible, and so does a token as probable as
        the last of the nucleus, because rounding decides which of equally probable tokens come
        first.
        """
        import torch

        ids = torch.tensor(tokens, device=logits.device).unsqueeze(-1)
        if self.temperature == 0:
            scaled = logits.float()
            possible = scaled.gather(-1, ids) >= scaled.amax(-1, keepdim=True) - _EDGE
        else:
            probabilities = torch.softmax(logits.float() / self.temperature, -1)
            own = probabilities.gather(-1, ids)
            above = probabilities.masked_fill(probabilities <= own, 0.0).sum(-1, keepdim=True)
            possible = (own > 0) & (above < self.top_p + _EDGE)
        return possible.squeeze(-1).tolist()

    def sample(self, logits: Tensor, uniforms: Tensor, rows: Tensor) -> Tensor:
        """See Distribution. A nucleus is drawn from in falling order of probability."""
        import torch

        if self.temperature == 0:
            return logits.argmax(-1)[rows]
        if self.top_p == 1:
            return super().sample(logits, uniforms, rows)
        tokens = torch.empty_like(rows)
        waiting = torch.arange(len(rows), device=rows.device)  # the samples that are not drawn yet
        which, row = torch.arange(len(logits), device=rows.device), rows
        for candidates in (*_NUCLEUS_CANDIDATES, logits.shape[-1]):
            few = candidates < logits.shape[-1]
            some = logits if len(which) == len(logits) else logits[which]
            ordered, order = self._most_probable(some, candidates if few else None)
            cumulative = ordered.cumsum(-1)
            drawn = ~(self._open(ordered, cumulative) & few)[row]
            tokens[waiting[drawn]] = self._drawn(ordered, order, cumulative, uniforms[waiting[drawn]], row[drawn])
            waiting = waiting[~drawn]
            if not len(waiting):
                break
            which, row = rows[waiting].unique(return_inverse=True)
        return tokens

    def _open(self, ordered: Tensor, cumulative: Tensor) -> Tensor:
        """The rows whose nuclei may have tokens that are not among the candidates.

        The nucleus may go on behind the candidates, or other tokens may be as probable as the last
        candidate.
        """
        return ((cumulative - ordered < self.top_p) & (ordered == ordered[:, -1:])).any(-1)

    def _most_probable(self, logits: Tensor, number: int | None) -> tuple[Tensor, Tensor]:
        """The `number` most probable tokens of each row, or all, as `_ordered` returns them."""
        import torch

        at_once = len(logits) if logits.is_cuda else max(1, _AT_A_TIME // logits.shape[-1])
        found = []
        for part in logits.split(at_once):
            probabilities = torch.softmax(part.float() / self.temperature, -1)
            found.append(_ordered(probabilities) if number is None else _most_probable(probabilities, number))
        ordered, order = zip(*found, strict=True)
        return torch.cat(ordered), torch.cat(order)

    def _drawn(self, ordered: Tensor, order: Tensor, cumulative: Tensor, uniforms: Tensor, rows: Tensor) -> Tensor:
        """Tokens drawn from nuclei of the most probable tokens, of which `order` has the ids.

        The nucleus ends with the first token whose cumulative mass reaches top_p. Its cumulative
        mass is the range to draw from.
        """
        import torch

        within = cumulative - ordered < self.top_p
        mass = cumulative.masked_fill(~within, 0.0).amax(-1)[rows]
        last = (within.sum(-1) - 1)[rows]
        rank = torch.searchsorted(cumulative[rows], (uniforms * mass).unsqueeze(-1), right=True).squeeze(-1)
        return order[rows, torch.minimum(rank, last)]


def _most_probable(probabilities: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The `number` largest probabilities with their tokens, in the order of `_ordered`."""
    ordered, order = _largest(probabilities, number)
    if bool((ordered[:, :-1] == ordered[:, 1:]).any()):
        # Equally probable tokens were found in any order, so they are put in order of ids.
        order = order.sort(-1).values
        ordered, places = _ordered(probabilities.gather(-1, order))
        order = order.gather(-1, places)
    return ordered, order


def _largest(probabilities: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """What `topk` returns, which may differ in the places of equal numbers."""
    from torch.nn import functional

    rows, vocabulary = probabilities.shape
    if vocabulary < 4 * number * _PIECE:
        return probabilities.topk(number, -1)
    pieces = functional.pad(probabilities, (0, -vocabulary % _PIECE), value=-1.0).view(rows, -1, _PIECE)
    best = pieces.amax(-1).topk(number, -1).indices
    found, place = pieces.gather(1, best.unsqueeze(-1).expand(-1, -1, _PIECE)).flatten(1).topk(number, -1)
    return found, best.gather(1, place // _PIECE) * _PIECE + place % _PIECE


def _ordered(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities in falling order with their tokens; equal ones are in order of token ids."""
    return probabilities.sort(dim=-1, descending=True, stable=True)


def draw(probabilities: Tensor, uniforms: Tensor) -> list[int]:
    """A token id for each of `uniforms`, by inversion of unnormalised probabilities (vocabulary,).

    Raises ValueError where no token has any mass.
    """
    import torch

    cumulative = probabilities.double().cumsum(-1)
    if not cumulative[-1] > 0:
        raise ValueError("no token is left to draw")
    targets = uniforms.double() * cumulative[-1]
    return torch.searchsorted(cumulative, targets, right=True).clamp_max(len(probabilities) - 1).tolist()


GREEDY = Nucleus(temperature=0.0)


@dataclass(frozen=True)
class NamedDistribution:
    """A distribution that a configuration chooses by name.

    description: a phrase for help texts, schemas and docs.
    given: the function from the model's sampling distribution to the one of this name.
    """

    description: str
    given: Callable[[Distribution], Distribution]


DISTRIBUTIONS: dict[str, NamedDistribution] = {
    "softmax": NamedDistribution("the full softmax at temperature 1 (released code)", lambda sampling: Nucleus()),
    "sampling": NamedDistribution("the sampling distribution", lambda sampling: sampling),
}


def named(name: str, sampling: Distribution) -> Distribution:
    """The distribution of that name for a model whose answers are drawn from `sampling`.

    Raises Failure, listing the names, for an unknown name.
    """
    if name not in DISTRIBUTIONS:
        raise Failure(f"the distribution is {name!r}, must be one of {', '.join(DISTRIBUTIONS)}")
    return DISTRIBUTIONS[name].given(sampling)
