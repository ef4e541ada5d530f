"""Teacher-forced log-probabilities of the tokens of answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from critical_tokens.core.records import Row
from critical_tokens.data.prompts import Prompt, prompts_by_problem, with_eos
from critical_tokens.models.inference import check_length, longest_input
from critical_tokens.objectives import packing
from critical_tokens.objectives.packing import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# The largest packed row. Longer ones are not faster, and their activations fill the memory.
_MOST_TOKENS = 2**15
# Bytes of the float32 logits of a padded batch, which all exist at once.
_MOST_LOGITS = 2**29

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits (rows, tokens, vocabulary) from input_ids and attention_mask, both (rows, tokens)."""


@dataclass(frozen=True)
class PromptCompletion:
    """A prompt and an answer as token ids; a finished answer ends with EOS.

    problem_id: how messages name the problem.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    problem_id: str | None = None


def answered(
    tokenizer: PreTrainedTokenizerBase, answers: Sequence[Row], problems: Sequence[Row], prompt: Prompt
) -> list[PromptCompletion]:
    """Answers with the prompts of their problems, to be scored by a model.

    answers: rows with problem_id, token_ids and finished. Raises ArtifactError for an answer to a
    problem that is not among the problems.
    """
    encoded = prompts_by_problem(tokenizer, answers, problems, prompt)
    eos = tokenizer.eos_token_id
    return [
        PromptCompletion(encoded[r["problem_id"]], with_eos(r["token_ids"], r["finished"], eos), r["problem_id"])
        for r in answers
    ]


def answered_side(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Row], problems: Sequence[Row], prompt: Prompt, side: str
) -> list[PromptCompletion]:
    """The answers of one side of pairs, "chosen" or "rejected", see `answered`."""
    answers = [{"problem_id": p["problem_id"], "token_ids": p[side], "finished": p[f"{side}_finished"]} for p in pairs]
    return answered(tokenizer, answers, problems, prompt)


def answer_logits(
    forward: Forward,
    items: Sequence[PromptCompletion],
    device: torch.device,
    max_tokens: int,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Per item its index and the logits that predict its answer, shape (answer, vocabulary).

    Items of similar length share a batch of at most `max_tokens` tokens, padding included, so the
    results are not in the order of the items.
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


def _batch_logits(
    forward: Forward, batch: Sequence[int], items: Sequence[PromptCompletion], device: torch.device
) -> Iterator[tuple[int, torch.Tensor]]:
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
    """The entries of logps (answer, vocabulary) that belong to the answer's tokens."""
    labels = torch.tensor(list(answer), device=logps.device)
    return logps.gather(-1, labels.unsqueeze(-1)).squeeze(-1).tolist()


def model_forward(model: PreTrainedModel) -> Forward:
    """A model as the function that `answer_logits` calls."""
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits


def check_lengths(model: PreTrainedModel, items: Sequence[PromptCompletion]) -> None:
    """Raise Failure, naming the problem, if a prompt with its answer exceeds the context."""
    longest = longest_input(model)
    for item in items:
        check_length(len(item.prompt) + len(item.answer), longest, item.problem_id)


def batch_tokens(model: PreTrainedModel, allowed: int, packed: bool) -> int:
    """How many tokens of a batch are scored at once: at most `allowed`, fewer to save memory."""
    most = _MOST_TOKENS if packed else _MOST_LOGITS // (4 * model.config.get_text_config().vocab_size)
    return max(1, min(allowed, most))


def packed_rows(items: Sequence[PromptCompletion], max_tokens: int) -> Iterator[tuple[list[int], Batch]]:
    """Rows of at most `max_tokens` tokens, see packing.pack, each with the indices of its items.

    Items with the same prompt share it where they are in the same row. An item that is longer than
    `max_tokens` has a row of its own.
    """
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for i, item in enumerate(items):
        by_prompt.setdefault(tuple(item.prompt), []).append(i)
    row: dict[tuple[int, ...], list[int]] = {}
    size = 0
    for prompt, own in by_prompt.items():
        for i in own:
            added = len(items[i].answer)
            if row and size + added + (0 if prompt in row else len(prompt)) > max_tokens:
                yield _packed(row, items)
                row, size = {}, 0
            size += added + (0 if prompt in row else len(prompt))
            row.setdefault(prompt, []).append(i)
    if row:
        yield _packed(row, items)


def _packed(row: Mapping[tuple[int, ...], Sequence[int]], items: Sequence[PromptCompletion]) -> tuple[list[int], Batch]:
    batch = packing.pack([(prompt, [items[i].answer for i in own]) for prompt, own in row.items()])
    return [i for own in row.values() for i in own], batch


@torch.inference_mode()
def answer_logps(
    model: PreTrainedModel, items: Sequence[PromptCompletion], max_tokens: int, packed: bool = False
) -> list[list[float]]:
    """log p(y_t | x, y_<t) of every answer token, in the order of the items.

    A batch has at most `max_tokens` tokens, see `batch_tokens`. If `packed`, it is a row without
    padding, see `packed_rows`. Raises Failure, see `check_lengths`.
    """
    check_lengths(model, items)
    max_tokens = batch_tokens(model, max_tokens, packed)
    out: list[list[float]] = [[] for _ in items]
    if packed:
        forward = packing.PackedForward()
        for own, batch in packed_rows(items, max_tokens):
            there = {name: value.to(model.device) for name, value in batch.items()}
            logps = forward(model, there).token_logps(there["labels"])
            for i, values in zip(own, logps.split([len(items[i].answer) for i in own]), strict=True):
                out[i] = values.tolist()
        return out
    for i, logits in answer_logits(model_forward(model), items, model.device, max_tokens):
        out[i] = picked(logits.float().log_softmax(-1), items[i].answer)
    return out
