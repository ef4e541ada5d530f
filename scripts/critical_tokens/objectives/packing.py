"""Answers in one row without padding, each prompt once for all answers to it.

The answers of a row do not see one another. Whether a model keeps them apart is tried once. Models
that do not are given the same answers in padded rows, one answer in each, with the same result.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from critical_tokens.objectives import segment_attention
from critical_tokens.objectives.output_layer import Predictions, is_separate, output_layer, unwrapped, values_of

Batch = dict[str, torch.Tensor]

# The largest allowed mean difference between log-probabilities of packed and of padded tokens. It
# is the larger of two bounds: a multiple of the rounding error that padding alone causes, and a
# number of nats. For tiny random models of 45 architectures the difference is 1e-6 in float32 and
# 0.03 in bfloat16 if they keep answers apart, and 0.014 to 0.8 in both if they do not.
_TIMES_ROUNDING = 10
_FULL_PRECISION, _HALF_PRECISION = 1e-3, 5e-3
# Tokens of the prompt and of the two answers in each group that is tried.
_TRIED = ((9, 14, 11), (5, 8, 16))


def pack(groups: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]) -> Batch:
    """A row of groups, each a prompt and the answers to it; no prompt is empty.

    input_ids, position_ids: shape (1, tokens).
    segments: see segment_attention.Segment, shape (segments, 4).
    labels: the tokens of all answers, one answer after the other, shape (M,).
    places: the index of the token after which each label is predicted, shape (M,).
    answers, steps: which answer a label belongs to, and its index there, shape (M,).
    """
    ids: list[int] = []
    found: dict[str, list[int]] = {name: [] for name in ("position_ids", "labels", "places", "answers", "steps")}
    segments: list[tuple[int, int, int, int]] = []
    answers = 0
    for prompt, own in groups:
        first, last = len(ids), len(ids) + len(prompt)
        ids += prompt
        found["position_ids"] += range(len(prompt))
        for number, answer in enumerate(own):
            start, end = len(ids), len(ids) + len(answer)
            ids += answer
            # The first answer and the prompt are one segment.
            segments.append((first, last, start, end) if number else (first, first, first, end))
            found["position_ids"] += range(len(prompt), len(prompt) + len(answer))
            found["labels"] += answer
            found["places"] += [last - 1, *range(start, end - 1)][: len(answer)]
            found["answers"] += [answers] * len(answer)
            found["steps"] += range(len(answer))
            answers += 1
    rows = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([found.pop("position_ids")])}
    lists = {name: torch.tensor(values, dtype=torch.long) for name, values in found.items()}
    return {**rows, "segments": torch.tensor(segments), **lists}


def by_answer(values: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Values of labels, shape (M, …), as a tensor (answers, longest answer, …); 0 elsewhere."""
    answers, steps = batch["answers"], batch["steps"]
    shape = (len(batch["segments"]), int(steps.max()) + 1, *values.shape[1:])
    return values.new_zeros(shape).index_put((answers, steps), values)


class PackedForward:
    """The forward pass of packed rows, in a way that was tried on the model before."""

    def __init__(self) -> None:
        self._ways: weakref.WeakKeyDictionary[torch.nn.Module, tuple[bool, bool]] = weakref.WeakKeyDictionary()

    def __call__(self, model: torch.nn.Module, batch: Batch) -> Predictions:
        """The predictions of all labels of a packed row, in their order."""
        if model not in self._ways:
            self._ways[model] = _try_out(model, batch)
        by_segments, separate = self._ways[model]
        return _in_one_row(model, batch, separate) if by_segments else _in_rows(model, batch, separate)


def _in_one_row(model: Any, batch: Batch, separate: bool) -> Predictions:
    inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
    segments = [tuple(segment) for segment in batch["segments"].tolist()]
    values = values_of(model, {**inputs, "segments": segments}, batch["places"], separate)
    return Predictions(values[0], output_layer(model) if separate else None)


def _in_rows(model: Any, batch: Batch, separate: bool) -> Predictions:
    """The same predictions from padded rows, each with one answer and its prompt."""
    tokens = batch["input_ids"][0]
    rows = [torch.cat([tokens[a:b], tokens[c:d]]) for a, b, c, d in batch["segments"].tolist()]
    ids = pad_sequence(rows, batch_first=True)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    columns = batch["position_ids"][0, batch["places"]]
    first = int(columns.min()) if len(columns) else 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    values = values_of(model, inputs, ids.shape[1] - first, separate)
    return Predictions(values[batch["answers"], columns - first], output_layer(model) if separate else None)


@torch.no_grad()
def _try_out(model: torch.nn.Module, batch: Batch) -> tuple[bool, bool]:
    """Whether the model keeps segments apart, and whether its output layer may be computed apart.

    A few tokens of the batch are tried. All processes that share a model make the same number of
    forward passes, because they must run them together.
    """
    inner, training = unwrapped(model), model.training
    tokens = itertools.cycle(batch["input_ids"][0].tolist())
    groups = [
        (list(itertools.islice(tokens, prompt)), [list(itertools.islice(tokens, n)) for n in answers])
        for prompt, *answers in _TRIED
    ]
    made = [pack(groups), pack([(groups[0][0], groups[0][1][:1])])]
    tried, one = ({name: value.to(batch["input_ids"].device) for name, value in few.items()} for few in made)
    model.eval()
    try:
        in_rows, alone = (_in_rows(model, few, False).token_logps(few["labels"]) for few in (tried, one))
        separate = is_separate(model, {"input_ids": one["input_ids"]})
        try:
            with segment_attention.enabled(inner):
                packed = _in_one_row(model, tried, False).token_logps(tried["labels"])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # any error means that this model cannot compute packed rows
            trouble = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        else:
            apart = float((packed - in_rows).abs().mean())
            rounding = float((alone - in_rows[: len(alone)]).abs().mean())
            half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
            if apart <= max(_TIMES_ROUNDING * rounding, _HALF_PRECISION if half else _FULL_PRECISION):
                segment_attention.enable(inner)
                return True, separate
            trouble = f"their tokens' log-probabilities are off by {apart:.2g} on average"
    finally:
        model.train(training)
    print(
        f"packing: {type(inner).__name__} does not keep answers in one row apart ({trouble}); padded rows are used",
        file=sys.stderr,
        flush=True,
    )
    return False, separate
