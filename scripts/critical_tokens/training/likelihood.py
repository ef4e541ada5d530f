"""The weighted likelihood of answers: its objective, and its batches, padded or packed.

Pretraining, SFT and both contrastive models are trained on it. Packing is allowed for models in
which no packed answer attends to another. Other models are refused.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from critical_tokens.core.records import Failure
from critical_tokens.objectives import losses
from critical_tokens.training.updates import count

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Batch = dict[str, torch.Tensor]
Objective = Callable[[torch.nn.Module, Batch], tuple[torch.Tensor, dict[str, float]]]
"""From the model and a batch to the loss and the numbers to record."""

# The largest allowed mean difference between log-probabilities of packed and of padded tokens. It
# is the larger of two bounds: a multiple of the rounding error that padding alone causes, and a
# number of nats. For tiny random models of 45 architectures the difference is 1e-6 in float32 and
# 0.03 in bfloat16 if they keep answers apart, and 0.014 to 0.8 in both if they do not.
_TIMES_ROUNDING = 10
_FULL_PRECISION, _HALF_PRECISION = 1e-3, 5e-3


def unwrapped(model: Any) -> PreTrainedModel:
    """The model itself, without the classes that wrap it for adapters and for several processes."""
    inner = getattr(model, "module", model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


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
    """The same batch as one row without padding.

    `position_ids` restart with every example, so that examples do not attend to one another.
    """
    # The first token of an example must not be predicted from the example in front of it.
    weights = [w for e in examples for w in (0.0, *e["weights"][1:])]
    positions = [p for e in examples for p in range(len(e["input_ids"]))]
    return {
        "input_ids": torch.tensor([[i for e in examples for i in e["input_ids"]]]),
        "position_ids": torch.tensor([positions]),
        "weights": torch.tensor([weights], dtype=torch.float32),
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
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch}
    kept = batch["input_ids"].shape[1] - first
    return model(**inputs, logits_to_keep=kept).logits[:, :-1]


def nll_objective(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """This batch's share of the update's weighted mean negative log-likelihood per token."""
    weights = batch["weights"][:, 1:]
    first = first_wanted(weights)
    logps = losses.token_logps(predictions(model, batch, first), batch["input_ids"][:, 1 + first :])
    return losses.weighted_nll(logps, weights[:, first:], batch["tokens"]), {}


# --- packed answers


class PackedLikelihood:
    """nll_objective of packed batches, with a check of each model on its first batch.

    Answers are kept apart only if the model takes its positions from `position_ids` and builds its
    attention mask from where they restart. Models that compute positions themselves (OPT), models
    with ALiBi (Bloom, MPT, Falcon) or with recurrent or linear layers, and some others (gpt-oss,
    Llama 4) do not. They are refused with a Failure that names the config key.
    """

    def __init__(self) -> None:
        self._checked: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()

    def __call__(self, model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and numbers of a batch, see nll_objective.

        Raises Failure for a model whose packed answers attend to one another.
        """
        if model not in self._checked:
            _check_packing(model, batch)
            self._checked.add(model)
        return nll_objective(model, batch)


@torch.no_grad()
def _check_packing(model: torch.nn.Module, batch: Batch) -> None:
    """Raise Failure unless packed answers have the log-probabilities of answers in separate rows.

    Every batch takes the same number of forward passes, because processes that share a model must
    run them together.
    """
    training = model.training
    model.eval()
    starts = (batch["position_ids"][0] == 0).nonzero().squeeze(-1).tolist()
    packed = torch.tensor_split(_logps(model, batch)[0], starts[1:])
    rows = torch.tensor_split(batch["input_ids"][0], starts[1:])
    ids = pad([row.tolist() for row in rows], 0, torch.long).to(batch["input_ids"].device)
    mask = pad([[1] * len(row) for row in rows], 0, torch.long).to(ids.device)
    padded = _logps(model, {"input_ids": ids, "attention_mask": mask})
    alone = _logps(model, {"input_ids": ids[:1, : len(rows[0])]})[0]
    model.train(training)
    differences = [packed[i][: len(row) - 1] - padded[i, : len(row) - 1] for i, row in enumerate(rows)]
    apart = float(torch.cat(differences).abs().mean())
    rounding = float((alone - padded[0, : len(alone)]).abs().mean())
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    if not apart <= max(_TIMES_ROUNDING * rounding, _HALF_PRECISION if half else _FULL_PRECISION):
        name = type(unwrapped(model)).__name__
        raise Failure(
            f"packing: true, but answers in one row see one another in {name}: their tokens' log-probabilities "
            f"are off by {apart:.2g} on average; set packing: false (contrast.packing, alignment.packing)"
        )


def _logps(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Log-probabilities of all tokens except the first of each row, shape (rows, tokens - 1)."""
    return losses.token_logps(predictions(model, batch, 0), batch["input_ids"][:, 1:])
