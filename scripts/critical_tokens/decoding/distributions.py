"""Sampling distributions, and the random numbers that samples are drawn with.

The distribution is part of an estimate's definition: rollouts at temperature 0.5 and top-p 0.95
estimate another success rate than rollouts at temperature 1. So it is a value that travels with the
requests, and the probabilities that a stage computes from logits are those that the engine samples
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Candidates looked at before a nucleus is searched in the whole vocabulary. Sorting 128k logits per
# token is what makes top-p slow; with this many the search is almost always over, and it is exact
# either way.
_NUCLEUS_CANDIDATES = 64

# How far outside a distribution a token may seem to lie by rounding: in probability mass, or in
# logits for greedy decoding.
_EDGE = 1e-3


@dataclass(frozen=True)
class Distribution:
    """Softmax of logits / temperature, cut to the smallest set of tokens with mass top_p,
    renormalised.

    temperature 0 is greedy decoding. Raises ValueError for a temperature below 0 or a top_p outside
    (0, 1].
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}, must be at least 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, must be above 0 and at most 1")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities (…, vocabulary) of the next token, float32, zero outside the nucleus."""
        import torch

        if self.temperature == 0:
            return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).float()
        probabilities = torch.softmax(logits.float() / self.temperature, -1)
        if self.top_p < 1:
            ordered, order = _ordered(probabilities)
            ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= self.top_p, 0.0)
            probabilities = torch.zeros_like(probabilities).scatter_(-1, order, ordered)
            probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        return probabilities

    def allows(self, logits: Tensor, tokens: Sequence[int]) -> list[bool]:
        """Whether each token could have been drawn from its row of logits (tokens, vocabulary).

        A token at the very edge counts as possible, and so does one as probable as the last of the
        nucleus: rounding differs between a batch and a single pass, and with it which of them comes
        first.
        """
        import torch

        if self.temperature == 0:
            scaled = logits.float()
            own = scaled.gather(-1, torch.tensor(tokens, device=logits.device).unsqueeze(-1))
            return (own >= scaled.amax(-1, keepdim=True) - _EDGE).squeeze(-1).tolist()
        probabilities = torch.softmax(logits.float() / self.temperature, -1)
        own = probabilities.gather(-1, torch.tensor(tokens, device=logits.device).unsqueeze(-1))
        above = probabilities.masked_fill(probabilities <= own, 0.0).sum(-1, keepdim=True)
        return ((own > 0) & (above < self.top_p + _EDGE)).squeeze(-1).tolist()

    def sample(self, logits: Tensor, uniforms: Tensor, rows: Tensor) -> Tensor:
        """A token id for each of `uniforms` (samples,) in [0, 1), drawn from its row (samples,) of
        logits (rows, vocabulary).

        The same inputs give the same ids.
        """
        import torch

        if self.temperature == 0:
            return logits.argmax(-1)[rows]
        probabilities = torch.softmax(logits.float() / self.temperature, -1)
        if self.top_p == 1:
            cumulative = probabilities.cumsum(-1)[rows]
            target = uniforms.unsqueeze(-1) * cumulative[:, -1:]
            return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)
        candidates = min(_NUCLEUS_CANDIDATES, logits.shape[-1])
        ordered, order = probabilities.topk(candidates, -1)
        cumulative = ordered.cumsum(-1)
        within = cumulative - ordered < self.top_p
        if bool((within & (ordered == ordered[:, -1:])).any()):
            # It goes on behind the candidates, or other tokens are as probable as the last of them.
            ordered, order = _ordered(probabilities)
            cumulative = ordered.cumsum(-1)
        elif bool((within[:, :-1] & (ordered[:, :-1] == ordered[:, 1:])).any()):
            # topk takes equally probable tokens as they come.
            order = order.sort(-1).values
            ordered, places = _ordered(probabilities.gather(-1, order))
            order = order.gather(-1, places)
        # The nucleus ends with the first token whose cumulative mass reaches top_p; its mass is the
        # range to draw from.
        mass = cumulative.masked_fill(cumulative - ordered >= self.top_p, 0.0).amax(-1)[rows]
        last = ((cumulative - ordered < self.top_p).sum(-1) - 1)[rows]
        rank = torch.searchsorted(cumulative[rows], (uniforms * mass).unsqueeze(-1), right=True).squeeze(-1)
        return order[rows, torch.minimum(rank, last)]


def _ordered(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities in falling order and their tokens; of equally probable tokens the smaller id
    comes first.
    """
    return probabilities.sort(dim=-1, descending=True, stable=True)


def draw(probabilities: Tensor, uniforms: Tensor) -> list[int]:
    """A token id for each of `uniforms`, by inversion of the unnormalised `probabilities`
    (vocabulary,).

    Raises ValueError where no token has any mass.
    """
    import torch

    cumulative = probabilities.double().cumsum(-1)
    if not cumulative[-1] > 0:
        raise ValueError("no token is left to draw")
    targets = uniforms.double() * cumulative[-1]
    return torch.searchsorted(cumulative, targets, right=True).clamp_max(len(probabilities) - 1).tolist()


GREEDY = Distribution(temperature=0.0)
