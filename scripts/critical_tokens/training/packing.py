"""The likelihood of answers packed into one row, for models that keep them apart; other models are
refused.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from critical_tokens.core.records import Failure
from critical_tokens.objectives import losses
from critical_tokens.training.trainer import Batch, nll_objective, pad, predictions

# How far the log-probabilities of packed and of padded tokens may be apart on average: by so many
# times what rounding does to an answer that is padded, or by so many nats where it does less. Tiny
# random models of 45 architectures are apart by 1e-6 in float32 and by 0.03 in bfloat16 if they
# keep answers apart, and by 0.014 to 0.8 in both if they do not.
_TIMES_ROUNDING = 10
_FULL_PRECISION, _HALF_PRECISION = 1e-3, 5e-3


class PackedLikelihood:
    """nll_objective of packed batches. The first batch that a model is given shows whether it keeps
    packed answers apart.

    An answer sees nothing of the others only if the model takes its positions from `position_ids`
    and makes a mask of where they begin anew. Models with positions of their own (OPT), with ALiBi
    (Bloom, MPT, Falcon), with recurrent or linear layers, and some others (gpt-oss, Llama 4) do
    not; they are refused with a Failure that names the config key.
    """

    def __init__(self) -> None:
        self._checked: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()

    def __call__(self, model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and numbers of a batch (see training.nll_objective). Raises Failure of a model that
        mixes packed answers.
        """
        if model not in self._checked:
            _check(model, batch)
            self._checked.add(model)
        return nll_objective(model, batch)


@torch.no_grad()
def _check(model: torch.nn.Module, batch: Batch) -> None:
    """Raise Failure unless the packed answers have the log-probabilities that they have in rows of
    their own.

    The same number of passes for every batch: processes that share a model make them together.
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
        raise Failure(
            f"packing: true, but answers in one row see one another in {_name(model)}: their tokens' log-probabilities are off "
            f"by {apart:.2g} on average; set packing: false (contrast.packing, alignment.packing)"
        )


def _logps(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Log-probabilities of all tokens but each row's first, shape (rows, tokens - 1)."""
    return losses.token_logps(predictions(model, batch, 0), batch["input_ids"][:, 1:])


def _name(model: Any) -> str:
    """The class of the model itself, not of what is wrapped around it."""
    inner = getattr(model, "module", model)
    return type(inner.get_base_model() if hasattr(inner, "get_base_model") else inner).__name__
