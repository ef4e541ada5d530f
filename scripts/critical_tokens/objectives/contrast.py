"""Contrastive estimation: s_t from the positive and the negative model (paper, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from critical_tokens.objectives import losses
from critical_tokens.objectives.log_probabilities import (
    PromptCompletion,
    answer_logits,
    batch_tokens,
    check_lengths,
    model_forward,
    packed_rows,
    picked,
)
from critical_tokens.objectives.packing import PackedForward

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def contrastive_logps(positive: torch.Tensor, negative: torch.Tensor, beta: float) -> torch.Tensor:
    """log s over the vocabulary (paper, equation of CE), float32, in the shape of the arguments.

    log s is (1 + beta) log P_pos - beta log P_neg, normalised; with beta 0 it is log P_pos.
    `positive` and `negative` are logits or log-probabilities (…, vocabulary) of the two models.
    """
    positive, negative = positive.float().log_softmax(-1), negative.float().log_softmax(-1)
    return ((1 + beta) * positive - beta * negative).log_softmax(-1)


@dataclass(frozen=True)
class Contrast:
    """Numbers of an answer, one per token.

    positive, negative: log-probabilities under the positive and the negative model.
    scores: contrastive scores s_t in [0, 1].
    """

    positive: list[float]
    negative: list[float]
    scores: list[float]

    def lowest(self, length: int) -> int:
        """Index of the lowest score among the first `length` tokens, the first of equal ones."""
        return min(range(length), key=self.scores.__getitem__)


@torch.inference_mode()
def contrastive_scores(
    positive: PreTrainedModel,
    negative: PreTrainedModel,
    items: Sequence[PromptCompletion],
    beta: float,
    max_tokens: int,
    packed: bool = False,
) -> list[Contrast]:
    """Contrastive scores of every answer token, in the order of the items.

    A token with a low score is likely critical. A batch has at most `max_tokens` tokens, see
    log_probabilities.batch_tokens. If `packed`, it is a row without padding, see
    log_probabilities.packed_rows. Raises Failure, naming the problem, if a prompt with its answer
    exceeds the model's context.
    """
    check_lengths(positive, items)
    max_tokens = batch_tokens(positive, max_tokens, packed)
    if packed:
        return _packed_scores(positive, negative, items, beta, max_tokens)
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


def _packed_scores(
    positive: PreTrainedModel,
    negative: PreTrainedModel,
    items: Sequence[PromptCompletion],
    beta: float,
    max_tokens: int,
) -> list[Contrast]:
    out: list[Contrast | None] = [None] * len(items)
    forward = PackedForward()
    for own, batch in packed_rows(items, max_tokens):
        there = {name: value.to(positive.device) for name, value in batch.items()}
        both = [forward(model, there).parts() for model in (positive, negative)]
        found: tuple[list[float], ...] = ([], [], [])
        for (places, first), (_, second) in zip(*both, strict=True):
            own_labels = there["labels"][places].unsqueeze(-1)
            # log s is (1 + beta) log P_pos - beta log P_neg, normalised over the vocabulary. The
            # normalisers of the two models cancel, so log s comes from the logits alone.
            sides = [logits.float() for logits in (first, second)]
            mixed = torch.lerp(sides[1], sides[0], 1 + beta)
            for numbers, logits in zip(found, (*sides, mixed), strict=True):
                numbers += losses.token_logps(logits, own_labels.squeeze(-1)).tolist()
        ends = 0
        for i in own:
            start, ends = ends, ends + len(items[i].answer)
            logps, others, logs = (numbers[start:ends] for numbers in found)
            out[i] = Contrast(logps, others, [math.exp(log) for log in logs])
    return [found for found in out if found is not None]
