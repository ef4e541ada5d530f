"""A causal language model as the engines ask it: its last logits, and how long what it reads may be."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

from critical_tokens.checkpoints import context_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Host:
    """A model in evaluation mode.

    name: its architecture, for messages. context: the most tokens that it reads, sys.maxsize where only memory bounds them.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval()
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.name = f"{type(model).__name__} ({model.config.model_type})"
        self.context: int = min(context_of(model.config) or sys.maxsize, _positions(model))
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def logits(self, keep: int, **inputs: object) -> torch.Tensor:
        """Logits (rows, keep, vocabulary) behind the last `keep` tokens, the only ones that most models compute then."""
        if self._keeps:
            inputs["logits_to_keep"] = keep
        return self.model(**inputs).logits[:, -keep:]


def _positions(model: PreTrainedModel) -> int:
    """The positions of a table of position embeddings that begins behind its padding row (RoBERTa's)."""
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    padded = [table for table in tables if getattr(table, "padding_idx", None) is not None]
    return min((table.num_embeddings - table.padding_idx - 1 for table in padded), default=sys.maxsize)
