"""Teacher-forced log-probabilities of the tokens of answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from critical_tokens.core.records import Row
from critical_tokens.data.prompts import Prompt, prompts_by_problem, with_eos
from critical_tokens.models.lengths import check_length, longest_input

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class PromptCompletion:
    """A prompt and an answer as token ids; the answer holds EOS where it ended."""

    prompt: Sequence[int]
    answer: Sequence[int]
    problem_id: str | None = None


def answered_side(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Row], problems: Sequence[Row], prompt: Prompt, side: str
) -> list[PromptCompletion]:
    """The chosen or the rejected answers of pairs, to be scored by a model."""
    encoded = prompts_by_problem(tokenizer, pairs, problems, prompt)
    eos = tokenizer.eos_token_id
    return [
        PromptCompletion(encoded[p["problem_id"]], with_eos(p[side], p[f"{side}_finished"], eos), p["problem_id"])
        for p in pairs
    ]


def answer_logits(
    forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    items: Sequence[PromptCompletion],
    device: torch.device,
    max_tokens: int,
) -> Iterator[tuple[int, torch.Tensor]]:
    """(index, logits that predict the answer's tokens, shape (answer, vocabulary)), item by item.

    `forward(input_ids, attention_mask)` returns logits (rows, tokens, vocabulary). Items of like
    length share a batch of at most `max_tokens` tokens, so the order of the results is not the
    order of the items.
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


def _batch_logits(forward, batch: list[int], items: Sequence[PromptCompletion], device: torch.device):  # noqa: ANN001
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


def picked(logps: torch.Tensor, answer: Sequence[int]) -> list[float]:
    """The entries of (answer, vocabulary) that belong to the answer's tokens."""
    labels = torch.tensor(list(answer), device=logps.device)
    return logps.gather(-1, labels.unsqueeze(-1)).squeeze(-1).tolist()


def model_forward(model: PreTrainedModel) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """`forward` of a model for `answer_logits`."""
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits


def check_lengths(model: PreTrainedModel, items: Sequence[PromptCompletion]) -> None:
    """Raise Failure, naming the problem, where a prompt and its answer are longer than the model
    can read.
    """
    longest = longest_input(model)
    for item in items:
        check_length(len(item.prompt) + len(item.answer), longest, item.problem_id)


@torch.inference_mode()
def answer_logps(model: PreTrainedModel, items: Sequence[PromptCompletion], max_tokens: int) -> list[list[float]]:
    """log p(y_t | x, y_<t) of every answer token, in the order of the items.

    Raises Failure, naming the problem, where a prompt and its answer are longer than the model can
    read.
    """
    check_lengths(model, items)
    out: list[list[float]] = [[] for _ in items]
    for i, logits in answer_logits(model_forward(model), items, model.device, max_tokens):
        out[i] = picked(logits.float().log_softmax(-1), items[i].answer)
    return out
