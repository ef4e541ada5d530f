"""The likelihood of packed answers: all answers of a batch in one row, without padding.

Packing is allowed for models in which no packed answer attends to another. Other models are
refused.
"""

from __future__ import annotations

import weakref

import torch

from critical_tokens.core.records import Failure
from critical_tokens.objectives import losses
from critical_tokens.training.trainer import Batch, nll_objective, pad, predictions, unwrapped

# The largest allowed mean difference between log-probabilities of packed and of padded tokens. It
# is the larger of two bounds: a multiple of the rounding error that padding alone causes, and a
# number of nats. For tiny random models of 45 architectures the difference is 1e-6 in float32 and
# 0.03 in bfloat16 if they keep answers apart, and 0.014 to 0.8 in both if they do not.
_TIMES_ROUNDING = 10
_FULL_PRECISION, _HALF_PRECISION = 1e-3, 5e-3


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
        """Loss and numbers of a batch, see trainer.nll_objective.

        Raises Failure for a model whose packed answers attend to one another.
        """
        if model not in self._checked:
            _check(model, batch)
            self._checked.add(model)
        return nll_objective(model, batch)


@torch.no_grad()
def _check(model: torch.nn.Module, batch: Batch) -> None:
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
