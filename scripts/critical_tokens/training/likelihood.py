"""The weighted likelihood of answers: its objective, and its batches, padded or packed.

Pretraining, SFT and both contrastive models are trained on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from critical_tokens.objectives import losses, packing
from critical_tokens.objectives.packing import Batch
from critical_tokens.training.updates import count

Objective = Callable[[torch.nn.Module, Batch], tuple[torch.Tensor, dict[str, float]]]
"""From the model and a batch to the loss and the numbers to record."""


def pad(rows: Sequence[Sequence[float]], fill: float, dtype: torch.dtype) -> torch.Tensor:
    """Rows of unequal length as one tensor (rows, longest), padded with `fill` on the right."""
    out = torch.full((len(rows), max(len(r) for r in rows)), fill, dtype=dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.as_tensor(row, dtype=dtype)
    return out


def collate_weighted(examples: list[Mapping[str, Any]]) -> Batch:
    """A padded batch of examples for the weighted negative log-likelihood.

    input_ids, attention_mask: shape (examples, tokens).
    weights: the weight of predicting each token, shape (examples, tokens).
    tokens: the sum of these weights, see updates.count.
    """
    return {
        "input_ids": pad([e["input_ids"] for e in examples], 0, torch.long),
        "attention_mask": pad([[1] * len(e["input_ids"]) for e in examples], 0, torch.long),
        "weights": pad([e["weights"] for e in examples], 0.0, torch.float32),
        "tokens": _trained_tokens(examples),
    }


def collate_packed(examples: list[Mapping[str, Any]]) -> Batch:
    """The same batch as one row without padding, see packing.pack.

    weights: the weight of each label, shape (M,).
    tokens: as in `collate_weighted`.
    """
    # The first token of an example is not predicted, whatever its weight.
    starts = [next((i for i, w in enumerate(e["weights"]) if i and w), len(e["weights"])) for e in examples]
    groups = [(e["input_ids"][:n], [e["input_ids"][n:]]) for e, n in zip(examples, starts, strict=True)]
    weights = [w for e, n in zip(examples, starts, strict=True) for w in e["weights"][n:]]
    return {
        **packing.pack(groups),
        "weights": torch.tensor(weights, dtype=torch.float32),
        "tokens": _trained_tokens(examples),
    }


def _trained_tokens(examples: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """The summed weight of all tokens except the first of each example, which is not predicted."""
    return count(sum(sum(e["weights"][1:]) for e in examples))


def first_wanted(weights: torch.Tensor) -> int:
    """Index of the first column of weights (rows, tokens) that is not zero in every row."""
    return int((weights != 0).any(0).float().argmax())


def predictions(model: torch.nn.Module, batch: Batch, first: int) -> torch.Tensor:
    """Logits of tokens 1 + first and later only, (rows, tokens - 1 - first, vocabulary)."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    kept = batch["input_ids"].shape[1] - first
    return model(**inputs, logits_to_keep=kept).logits[:, :-1]


def nll_objective(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """This batch's share of the update's weighted mean negative log-likelihood per token."""
    weights = batch["weights"][:, 1:]
    first = first_wanted(weights)
    logps = losses.token_logps(predictions(model, batch, first), batch["input_ids"][:, 1 + first :])
    return losses.weighted_nll(logps, weights[:, first:], batch["tokens"]), {}


class PackedLikelihood:
    """nll_objective of batches from `collate_packed`."""

    def __init__(self) -> None:
        self._forward = packing.PackedForward()

    def __call__(self, model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and numbers of a batch, see nll_objective."""
        logps = self._forward(model, batch).token_logps(batch["labels"])
        return losses.weighted_nll(logps, batch["weights"], batch["tokens"]), {}
