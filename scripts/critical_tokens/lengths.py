"""How long an input a model can read, and the refusal of longer ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from critical_tokens.records import Failure

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def longest_input(config: PreTrainedConfig) -> int | None:
    """The positions of a model, in tokens; None of models that have no limit (ALiBi, recurrent ones).

    Most configs call them max_position_embeddings, or map an older name to it.
    """
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def check_length(tokens: int, longest: int | None, problem_id: str | None) -> None:
    """Raise Failure, naming the problem, where a prompt and its answer are longer than the model can read."""
    if longest is not None and tokens > longest:
        raise Failure(
            f"problem {problem_id or 'without a name'}: its prompt and answer have {tokens} tokens, "
            f"but the model reads {longest} at most; leave the problem out, or take a model with a longer context"
        )
