"""The objectives that a method may have: one registry that says how each is computed and what it
needs.

A new objective is a function of a `Compared` and an entry of REGISTRY. Nothing else lists
objectives: the programs, the rules and the training read the registry, so an objective without its
function cannot exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from critical_tokens.core.records import Failure
from critical_tokens.objectives import losses

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Method:
    """An objective and its constants: gamma (DPO's beta), RPO's alpha, TDPO's variant and alpha.

    Raises Failure where no objective has that name.
    """

    objective: str
    gamma: float = 1.0
    rpo_alpha: float = 1.0
    tdpo_variant: int = 2
    tdpo_alpha: float = 0.5

    def __post_init__(self) -> None:
        entry_of(self.objective)


@dataclass(frozen=True)
class Compared:
    """A batch of pairs under the policy and under its reference model: all that a preference
    objective may look at.

    The first half of the rows are the chosen answers, the second half their rejected partners.
    logps, reference (both log-probabilities), mask and weights have the shape (2 pairs, tokens).
    `logits` and `reference_logits` have the shape (2 pairs, tokens, vocabulary); the latter is None
    unless the objective runs the reference model. `all_pairs`, `all_tokens` (of chosen answers) and
    `all_columns` (of the longest row) count the whole update that the batch is a part of, per
    process.
    """

    method: Method
    logps: Tensor
    reference: Tensor
    mask: Tensor
    weights: Tensor
    logits: Tensor
    reference_logits: Tensor | None
    all_pairs: Tensor
    all_tokens: Tensor
    all_columns: Tensor

    @property
    def pairs(self) -> int:
        """Pairs of this batch."""
        return len(self.logps) // 2

    @property
    def real(self) -> Tensor:
        """1 for pairs, 0 for what only fills up the share of a process; shape (pairs,)."""
        return self.mask[: self.pairs].amax(-1)

    def ratios(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The log-ratios of the chosen and of the rejected answers, shape (pairs,) each."""
        both = losses.log_ratio(self.logps, self.reference, self.mask, weights)
        return both[: self.pairs], both[self.pairs :]

    def mean(self, of_pairs: Tensor) -> Tensor:
        """This batch's share of the mean over the pairs of the update; `of_pairs` has the shape
        (pairs,).
        """
        return (of_pairs * self.real).sum() / self.all_pairs


def _dpo(batch: Compared) -> Tensor:
    return losses.dpo(*batch.ratios(), batch.method.gamma)


def _rpo(batch: Compared) -> Tensor:
    chosen = slice(batch.pairs)
    nll = losses.weighted_nll(batch.logps[chosen], batch.mask[chosen], batch.all_tokens)
    # The likelihood is a mean over tokens, not over pairs: `mean` must not make it smaller where
    # the update has other batches.
    each = nll * (batch.all_pairs / batch.real.sum().clamp_min(1.0))
    return losses.rpo(*batch.ratios(), each, batch.method.gamma, batch.method.rpo_alpha)


def _tdpo(batch: Compared) -> Tensor:
    divergence = losses.sequential_kl(batch.reference_logits, batch.logits, batch.mask)
    loss = losses.TDPO(batch.method.tdpo_variant, batch.method.tdpo_alpha)
    return loss(*batch.ratios(), divergence[: batch.pairs], divergence[batch.pairs :], batch.method.gamma)


def _cdpo(batch: Compared) -> Tensor:
    return losses.dpo(*batch.ratios(batch.weights), batch.method.gamma)


def _cdpo_released(batch: Compared) -> Tensor:
    """The mean over all columns, as if all pairs of the update were padded to its longest row.

    The released code takes the mean over each micro-batch's own columns, so its gradient depends on
    which pairs happen to share a micro-batch. Here an update is one batch, however it is cut.
    """
    by_token = losses.cdpo_released(
        batch.logps, batch.reference, batch.mask, batch.weights, batch.pairs, batch.method.gamma
    )
    # Columns that were not computed (the prompts' common part, padding of longer rows) are in the
    # mean, too: log 2 each.
    columns = batch.all_columns - 1
    return (by_token.sum(-1) + (columns - by_token.shape[-1]) * math.log(2)) / columns


@dataclass(frozen=True)
class Likelihood:
    """An objective on single answers: the negative log-likelihood of their tokens."""

    constants: tuple[str, ...] = ()
    data: ClassVar[str] = "answers"
    weighted: ClassVar[bool] = False
    reference: ClassVar[str] = "none"


@dataclass(frozen=True)
class Preference:
    """An objective on pairs.

    losses: from a batch to one loss per pair, shape (pairs,). constants: the fields of Method that
    it reads. weighted: whether the rejected answer's tokens have weights. reference: "stored"
    log-probabilities, or the "model" itself where its whole distributions are needed.
    """

    losses: Callable[[Compared], Tensor]
    constants: tuple[str, ...] = ("gamma",)
    weighted: bool = False
    reference: str = "stored"
    data: ClassVar[str] = "pairs"


REGISTRY: dict[str, Likelihood | Preference] = {
    "nll": Likelihood(),
    "dpo": Preference(_dpo),
    "rpo": Preference(_rpo, constants=("gamma", "rpo_alpha")),
    "tdpo": Preference(_tdpo, constants=("gamma", "tdpo_variant", "tdpo_alpha"), reference="model"),
    "cdpo": Preference(_cdpo, weighted=True),
    "cdpo_released": Preference(_cdpo_released, weighted=True),
}
OBJECTIVES = tuple(REGISTRY)


def entry_of(objective: str) -> Likelihood | Preference:
    """What the registry says of an objective. Raises Failure where it knows none of that name."""
    if objective not in REGISTRY:
        raise Failure(f"objective is {objective!r}, must be one of {', '.join(REGISTRY)}")
    return REGISTRY[objective]
