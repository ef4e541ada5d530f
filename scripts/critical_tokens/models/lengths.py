"""The longest input that a model can read, and the refusal of longer inputs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from critical_tokens.core.records import Failure
from critical_tokens.models.checkpoints import context_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
