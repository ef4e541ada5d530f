"""Teacher-forced log-probabilities of answers, and contrastive estimation from two of them (paper, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from critical_tokens.lengths import check_length, longest_input
from critical_tokens.prompts import Prompt, prompts_by_problem, with_eos
from critical_tokens.records import Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Answered:
    """A prompt and an answer as token ids; the answer holds EOS where it ended."""

    prompt: Sequence[int]
    answer: Sequence[int]
    problem_id: str | None = None


def answered_side(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Row], problems: Sequence[Row], prompt: Prompt, side: str
) -> list[Answered]:
    """The chosen or the rejected answers of pairs, to be scored by a model."""
    encoded = prompts_by_problem(tokenizer, pairs, problems, prompt)
    eos = tokenizer.eos_token_id
    return [Answered(encoded[p["problem_id"]], with_eos(p[side], p[f"{side}_finished"], eos), p["problem_id"]) for p in pairs]


def contrastive_logps(positive: torch.Tensor, negative: torch.Tensor, beta: float) -> torch.Tensor:
    """log s over the vocabulary: (1 + beta) log P_pos - beta log P_neg, normalised (paper, equation of CE).

    `positive`, `negative`: logits or log-probabilities (…, vocabulary) of the two models; float32 out. beta 0 gives log P_pos.
    """
    positive, negative = positive.float().log_softmax(-1), negative.float().log_softmax(-1)
    return ((1 + beta) * positive - beta * negative).log_softmax(-1)


def answer_logits(
    forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    items: Sequence[Answered],
    device: torch.device,
    max_tokens: int,
) -> Iterator[tuple[int, torch.Tensor]]:
    """(index, logits that predict the answer's tokens, shape (answer, vocabulary)), item by item.

    `forward(input_ids, attention_mask)` returns logits (rows, tokens, vocabulary). Items of like length share a batch of at
    most `max_tokens` tokens, so the order of the results is not the order of the items.
    """
    order = sorted(range(len(items)), key=lambda i: len(items[i].prompt) + len(items[i].answer))
    batch: list[int] = []
    for i in [*order, None]:
        longest = 0 if i is None else len(items[i].prompt) + len(items[i].answer)
        if batch and (i is None or longest * (len(batch) + 1) > max_tokens):
            yield from _batch_logits(forward, batch, items, device)
            batch = []
        if i is not None:
            batch.append(i)


def _batch_logits(forward, batch: list[int], items: Sequence[Answered], device: torch.device):  # noqa: ANN001
    width = max(len(items[i].prompt) + len(items[i].answer) for i in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, i in enumerate(batch):
        tokens = [*items[i].prompt, *items[i].answer]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    logits = forward(ids.to(device), mask.to(device))
    for row, i in enumerate(batch):
        start = len(items[i].prompt) - 1
        yield i, logits[row, start : start + len(items[i].answer)]


def _picked(logps: torch.Tensor, answer: Sequence[int]) -> list[float]:
    labels = torch.tensor(list(answer), device=logps.device)
    return logps.gather(-1, labels.unsqueeze(-1)).squeeze(-1).tolist()


def model_forward(model: PreTrainedModel) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """`forward` of a model for `answer_logits`."""
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits


def _check_lengths(model: PreTrainedModel, items: Sequence[Answered]) -> None:
    longest = longest_input(model)
    for item in items:
        check_length(len(item.prompt) + len(item.answer), longest, item.problem_id)


@torch.inference_mode()
def answer_logps(model: PreTrainedModel, items: Sequence[Answered], max_tokens: int) -> list[list[float]]:
    """log p(y_t | x, y_<t) of every answer token, in the order of the items.

    Raises Failure, naming the problem, where a prompt and its answer are longer than the model can read.
    """
    _check_lengths(model, items)
    out: list[list[float]] = [[] for _ in items]
    for i, logits in answer_logits(model_forward(model), items, model.device, max_tokens):
        out[i] = _picked(logits.float().log_softmax(-1), items[i].answer)
    return out


@dataclass(frozen=True)
class Contrast:
    """Per answer token: log-probability under the positive and the negative model, and the contrastive score s_t in [0, 1]."""

    positive: list[float]
    negative: list[float]
    scores: list[float]


@torch.inference_mode()
def contrast(
    positive: PreTrainedModel, negative: PreTrainedModel, items: Sequence[Answered], beta: float, max_tokens: int
) -> list[Contrast]:
    """Contrastive scores of every answer token, in the order of the items. Low means: likely critical.

    Raises Failure, naming the problem, where a prompt and its answer are longer than the model can read.
    """
    _check_lengths(positive, items)
    out: list[Contrast | None] = [None] * len(items)

    def both(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.cat([model_forward(positive)(ids, mask), model_forward(negative)(ids, mask)], -1)

    for i, logits in answer_logits(both, items, positive.device, max_tokens):
        size = logits.shape[-1] // 2
        first, second = logits[..., :size].float().log_softmax(-1), logits[..., size:].float().log_softmax(-1)
        scores = contrastive_logps(first, second, beta).exp()
        answer = items[i].answer
        out[i] = Contrast(_picked(first, answer), _picked(second, answer), _picked(scores, answer))
    return [c for c in out if c is not None]
