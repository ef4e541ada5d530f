"""A causal language model as the engines use it: its last logits and its context."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from critical_tokens.models.lengths import longest_input

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Host:
    """A model in evaluation mode.

    name: its architecture, for messages.
    context: the largest number of tokens that it can read, sys.maxsize if only memory bounds it.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval()
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.name = f"{type(model).__name__} ({model.config.model_type})"
        self.context: int = longest_input(model)
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def logits(self, keep: int, **inputs: object) -> torch.Tensor:
        """Logits (rows, keep, vocabulary) at the last `keep` tokens; few models compute more."""
        if self._keeps:
            inputs["logits_to_keep"] = keep
        return self.model(**inputs).logits[:, -keep:]
