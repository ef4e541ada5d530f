"""A model in use: the logits that engines ask for, and how long its input may be."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from critical_tokens.core.records import Failure
from critical_tokens.models.checkpoints import context_of

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


@contextmanager
def attending(model: PreTrainedModel, name: str) -> Iterator[None]:
    """The model's layers use the attention that is registered under `name` within the block.

    A model that has attention of its own does not change. transformers warns of it, which would
    mislead here: the callers try the model and find out.
    """
    from transformers.utils import logging

    before, said = model.config._attn_implementation, logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model.set_attn_implementation(name)
        yield
    finally:
        model.set_attn_implementation(before)
        logging.set_verbosity(said)


def longest_input(model: PreTrainedModel) -> int:
    """The largest number of tokens that a model can read; sys.maxsize where there is no limit."""
    return min(context_of(model.config) or sys.maxsize, _positions(model))


def _positions(model: PreTrainedModel) -> int:
    """The number of positions in a table of position embeddings with a padding row (RoBERTa's).

    Positions begin after the padding row. Without such a table, the number is sys.maxsize.
    """
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    padded = [table for table in tables if getattr(table, "padding_idx", None) is not None]
    return min((table.num_embeddings - table.padding_idx - 1 for table in padded), default=sys.maxsize)


def check_length(tokens: int, longest: int, problem_id: str | None) -> None:
    """Raise Failure, naming the problem, if a prompt with its answer is too long for the model."""
    if tokens > longest:
        raise Failure(
            f"problem {problem_id or 'without a name'}: its prompt and answer have {tokens} tokens, "
            f"but the model reads {longest} at most; leave the problem out, or take a model with a longer context"
        )
