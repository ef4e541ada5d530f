"""The registry of objectives: what each one is, how it is computed, and what it needs.

A new objective is a function from a `Compared` batch to losses, and an entry of REGISTRY. Nothing
else lists the objectives or their constants: the training, the programs and the configuration read
the registry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from critical_tokens.core.records import Failure
from critical_tokens.objectives import losses

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Constant:
    """A number that an objective reads, such as gamma. Its name is its key in the registry entry.

    default: the value where a method gives none. If it is an int, only whole numbers are allowed.
    description: a phrase for help texts, schemas and docs.
    minimum, exclusive_minimum, maximum: bounds as in a JSON schema; None means no bound.
    """

    default: float
    description: str
    minimum: float | None = None
    exclusive_minimum: float | None = None
    maximum: float | None = None

    @property
    def number_type(self) -> type[int] | type[float]:
        """int where only whole numbers are allowed, else float."""
        return int if isinstance(self.default, int) else float

    def mistake(self, value: object) -> str | None:
        """What is wrong with a value, as the end of a sentence; None for an allowed value."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"is {value!r}, must be a number"
        if self.number_type is int and not isinstance(value, int):
            return f"is {value}, must be a whole number"
        if self.minimum is not None and not value >= self.minimum:
            return f"is {value}, must be at least {self.minimum}"
        if self.exclusive_minimum is not None and not value > self.exclusive_minimum:
            return f"is {value}, must be above {self.exclusive_minimum}"
        if self.maximum is not None and not value <= self.maximum:
            return f"is {value}, must be at most {self.maximum}"
        return None


@dataclass(frozen=True)
class Method:
    """An objective of the registry with the values of its constants.

    Constants that are not given have their defaults. Raises Failure for an unknown objective, for a
    constant that the objective does not read, and for a value out of bounds.
    """

    objective: str
    constants: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        declared = entry_of(self.objective).constants
        for name, value in self.constants.items():
            if name not in declared:
                reads = ", ".join(declared) or "none"
                raise Failure(f"objective {self.objective} has no constant {name}; its constants: {reads}")
            if mistake := declared[name].mistake(value):
                raise Failure(f"objective {self.objective}: {name} {mistake}")
        defaults = {name: constant.default for name, constant in declared.items()}
        object.__setattr__(self, "constants", defaults | dict(self.constants))


@dataclass(frozen=True)
class Compared:
    """What a preference objective may read: a batch of pairs under the policy and the reference.

    The first half of the rows are the chosen answers, the second half their rejected partners.

    constants: the method's constants by name.
    logps, reference: log-probabilities of the answers' tokens, shape (2 pairs, tokens).
    mask: 1 on answer tokens, else 0, shape (2 pairs, tokens).
    weights: of the answers' tokens, 1 on those of chosen answers, shape (2 pairs, tokens).
    policy, own_reference: functions that compute `logits` and `reference_logits`; the second one is
        None unless the objective runs the reference model.
    all_pairs: number of pairs in the whole update, divided by the number of processes.
    all_tokens: number of tokens of the update's chosen answers, divided in the same way.
    all_columns: number of tokens of the longest row in the whole update.
    """

    constants: Mapping[str, float]
    logps: Tensor
    reference: Tensor
    mask: Tensor
    weights: Tensor
    policy: Callable[[], Tensor]
    own_reference: Callable[[], Tensor] | None
    all_pairs: Tensor
    all_tokens: Tensor
    all_columns: Tensor

    @cached_property
    def logits(self) -> Tensor:
        """Logits of the policy, shape (2 pairs, tokens, vocabulary), computed when first read."""
        return self.policy()

    @cached_property
    def reference_logits(self) -> Tensor:
        """Logits of the reference, the same shape. Only for objectives that run the model."""
        assert self.own_reference is not None  # noqa: S101 - the entry asks for the reference model
        return self.own_reference()

    @property
    def pairs(self) -> int:
        """Pairs of this batch."""
        return len(self.logps) // 2

    @property
    def real(self) -> Tensor:
        """1 for pairs, 0 for blanks that fill up the batch of a process; shape (pairs,)."""
        return self.mask[: self.pairs].amax(-1)

    def ratios(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The log-ratios of the chosen and of the rejected answers, shape (pairs,) each."""
        both = losses.log_ratio(self.logps, self.reference, self.mask, weights)
        return both[: self.pairs], both[self.pairs :]

    def mean(self, of_pairs: Tensor) -> Tensor:
        """This batch's share of the update's mean over pairs, from values of shape (pairs,)."""
        return (of_pairs * self.real).sum() / self.all_pairs


def _dpo(batch: Compared) -> Tensor:
    return losses.dpo(*batch.ratios(), batch.constants["gamma"])


def _rpo(batch: Compared) -> Tensor:
    chosen = slice(batch.pairs)
    nll = losses.weighted_nll(batch.logps[chosen], batch.mask[chosen], batch.all_tokens)
    # The likelihood is a mean over the tokens of the update already. `Compared.mean` divides by the
    # pairs of the update, so this batch's share is scaled up beforehand.
    each = nll * (batch.all_pairs / batch.real.sum().clamp_min(1.0))
    return losses.rpo(*batch.ratios(), each, batch.constants["gamma"], batch.constants["rpo_alpha"])


def _tdpo(batch: Compared) -> Tensor:
    divergence = losses.sequential_kl(batch.reference_logits, batch.logits, batch.mask)
    loss = losses.TDPO(int(batch.constants["tdpo_variant"]), batch.constants["tdpo_alpha"])
    return loss(*batch.ratios(), divergence[: batch.pairs], divergence[batch.pairs :], batch.constants["gamma"])


def _cdpo(batch: Compared) -> Tensor:
    return losses.dpo(*batch.ratios(batch.weights), batch.constants["gamma"])


def _cdpo_released(batch: Compared) -> Tensor:
    """Mean over all columns, as if every pair were padded to the longest row of the update.

    The released code takes the mean over the columns of each micro-batch, so its gradient depends
    on which pairs happen to share a micro-batch. Here an update is one batch, however it is cut.
    """
    by_token = losses.cdpo_released(
        batch.logps, batch.reference, batch.mask, batch.weights, batch.pairs, batch.constants["gamma"]
    )
    # The mean also counts the columns that were not computed, with log 2 each: the common part of
    # the prompts, and the padding up to the longest row.
    columns = batch.all_columns - 1
    return (by_token.sum(-1) + (columns - by_token.shape[-1]) * math.log(2)) / columns


_GAMMA = {
    "gamma": Constant(1.0, "scale of the log-ratios (DPO's beta)", exclusive_minimum=0, maximum=1000),
}


@dataclass(frozen=True)
class Likelihood:
    """An objective on single answers: the negative log-likelihood of their tokens.

    description: a phrase for help texts and docs.
    """

    description: str
    constants: ClassVar[Mapping[str, Constant]] = {}
    weighted: ClassVar[bool] = False
    reference: ClassVar[str] = "none"
    data: ClassVar[str] = "answers"


@dataclass(frozen=True)
class Preference:
    """An objective on pairs of a chosen and a rejected answer.

    description: a phrase for help texts and docs.
    losses: the function from a batch to one loss per pair, shape (pairs,).
    constants: the constants that the function reads, by name.
    weighted: whether the tokens of the rejected answer have weights.
    reference: "stored" for stored log-probabilities of the reference model, "model" where its whole
    distributions are needed.
    """

    description: str
    losses: Callable[[Compared], Tensor]
    constants: Mapping[str, Constant] = field(default_factory=lambda: _GAMMA)
    weighted: bool = False
    reference: str = "stored"
    data: ClassVar[str] = "pairs"


Entry = Likelihood | Preference

REGISTRY: dict[str, Entry] = {
    "nll": Likelihood("negative log-likelihood of the answers (SFT)"),
    "dpo": Preference("DPO (Rafailov et al. 2023)", _dpo),
    "rpo": Preference(
        "DPO plus the likelihood of the chosen answers (Pang et al. 2024)",
        _rpo,
        {**_GAMMA, "rpo_alpha": Constant(1.0, "weight of RPO's likelihood term", minimum=0, maximum=1000)},
    ),
    "tdpo": Preference(
        "token-level DPO with a term of sequential divergences (Zeng et al. 2024)",
        _tdpo,
        {
            **_GAMMA,
            "tdpo_variant": Constant(2, "1 for TDPO1, 2 for TDPO2", minimum=1, maximum=2),
            "tdpo_alpha": Constant(0.5, "weight of TDPO2's divergence term", minimum=0, maximum=1000),
        },
        reference="model",
    ),
    "cdpo": Preference("cDPO, one sigmoid per pair (Lin et al. 2025)", _cdpo, weighted=True),
    "cdpo_released": Preference(
        "cDPO as the released code computes it, one sigmoid per token position", _cdpo_released, weighted=True
    ),
}


def entry_of(objective: str) -> Entry:
    """The registry's entry of an objective. Raises Failure, listing the objectives, for another."""
    if objective not in REGISTRY:
        raise Failure(f"objective is {objective!r}, must be one of {', '.join(REGISTRY)}")
    return REGISTRY[objective]


def all_constants() -> dict[str, Constant]:
    """The constants of all objectives by name, in the order of the registry.

    Objectives share a constant by sharing its name. Raises Failure where two entries declare a
    constant of one name differently.
    """
    found: dict[str, Constant] = {}
    for objective, entry in REGISTRY.items():
        for name, constant in entry.constants.items():
            if found.setdefault(name, constant) != constant:
                raise Failure(f"objective {objective} declares the constant {name} differently from another objective")
    return found
