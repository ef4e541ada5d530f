"""Contrastive estimation: a score s_t for every answer token, from the positive and the negative
model (paper, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from critical_tokens.objectives.log_probabilities import (
    PromptCompletion,
    answer_logits,
    check_lengths,
    model_forward,
    picked,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def contrastive_logps(positive: torch.Tensor, negative: torch.Tensor, beta: float) -> torch.Tensor:
    """log s over the vocabulary: (1 + beta) log P_pos - beta log P_neg, normalised (paper, equation
    of CE).

    `positive` and `negative` are logits or log-probabilities (…, vocabulary) of the two models. The
    result is float32 and has the same shape. With beta 0 it is log P_pos.
    """
    positive, negative = positive.float().log_softmax(-1), negative.float().log_softmax(-1)
    return ((1 + beta) * positive - beta * negative).log_softmax(-1)


@dataclass(frozen=True)
class Contrast:
    """Per answer token: log-probability under the positive and the negative model, and the
    contrastive score s_t in [0, 1].
    """

    positive: list[float]
    negative: list[float]
    scores: list[float]


@torch.inference_mode()
def contrastive_scores(
    positive: PreTrainedModel,
    negative: PreTrainedModel,
    items: Sequence[PromptCompletion],
    beta: float,
    max_tokens: int,
) -> list[Contrast]:
    """Contrastive scores of every answer token, in the order of the items. A low score marks a
    token that is likely critical.

    A batch has at most `max_tokens` tokens. Raises Failure, naming the problem, where a prompt and
    its answer are longer than the model can read.
    """
    check_lengths(positive, items)
    out: list[Contrast | None] = [None] * len(items)

    def both(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.cat([model_forward(positive)(ids, mask), model_forward(negative)(ids, mask)], -1)

    for i, logits in answer_logits(both, items, positive.device, max_tokens):
        size = logits.shape[-1] // 2
        first, second = (logits[..., :size].float().log_softmax(-1), logits[..., size:].float().log_softmax(-1))
        scores = contrastive_logps(first, second, beta).exp()
        answer = items[i].answer
        out[i] = Contrast(picked(first, answer), picked(second, answer), picked(scores, answer))
    return [found for found in out if found is not None]
