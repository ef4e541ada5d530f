"""Attention within a packed row: several answers in one row, some of them after the same prompt.

transformers calls the attention of a model by its registered name. The function here is registered
under a name of its own. It computes the attention of each segment of a row by itself, so neither a
mask over the whole row nor products between tokens that do not see one another are needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from critical_tokens.models.inference import attending

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "critical_tokens_segments"

Segment = tuple[int, int, int, int]
"""Indices (prefix start, prefix end, start, end) of tokens in a row.

The tokens from start to end see the prefix and, of their own segment, the tokens up to themselves.
The segments of a row lie one after the other and cover it. A prefix may be empty.
"""


class WindowError(ValueError):
    """A layer masks more than the tokens behind each token, such as those outside a window."""


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    segments: Sequence[Segment] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a row with segments, or of usual rows without, as transformers calls it.

    Shapes: query (1, heads, tokens, size), key and value (1, key heads, tokens, size), result (1,
    tokens, heads, size). Raises WindowError for a row with segments and a mask.
    """
    if segments is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    if attention_mask is not None:
        raise WindowError("a layer has a mask of its own")
    # The row is cut once, and the segments are joined from the pieces: then the backward pass joins
    # the gradients of the pieces once, too.
    cuts = sorted({0, *(index for segment in segments for index in segment)})
    sizes = [end - start for start, end in itertools.pairwise(cuts)]
    cut = [t.split(sizes, 2) for t in (query, key, value)]
    at = {index: number for number, index in enumerate(cuts)}
    found = []
    for first, last, start, end in segments:
        # The queries of the prefix are computed once more, and then left out. This costs less than
        # a mask, because without a mask the kernel skips the products above the diagonal.
        q, k, v = (torch.cat(pieces[at[first] : at[last]] + pieces[at[start] : at[end]], 2) for pieces in cut)
        whole, _ = sdpa_attention_forward(module, q, k, v, None, **kwargs)
        found.append(whole[:, last - first :])
    return torch.cat(found, 1), None


def _mask(**asked: Any) -> torch.Tensor | None:
    """None for rows without padding in layers without windows, otherwise the usual mask."""
    if asked.get("attention_mask") is None and asked.get("local_size") is None:
        return None
    return sdpa_mask(**asked)


AttentionInterface.register(_NAME, attend)
AttentionMaskInterface.register(_NAME, _mask)


def enable(model: PreTrainedModel) -> None:
    """Let a model attend by segments, which its forward pass takes as the argument `segments`.

    Models with an attention of their own do not change. They ignore the argument or refuse it.
    """
    model.set_attn_implementation(_NAME)


def enabled(model: PreTrainedModel) -> AbstractContextManager[None]:
    """The model attends by segments within the block, see `enable`."""
    return attending(model, _NAME)
