"""Counts and examples that the batches of one update share, over its steps and processes.

The sums of an objective are divided by the counts of the whole update (tokens, pairs, columns), so
an update is the same however its examples are split into batches. If several processes share a
batch that the examples do not fill, it is filled with blanks, which have no weight. Without blanks
the Trainer would fill it with examples that it has used already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

SUMS = ("tokens", "pairs")
"""Counts that add up over the batches of an update. The third count, `columns`, is the width of a
batch; an update has the largest of its batches.
"""

_BLANK = "blank"


def count(number: float) -> torch.Tensor:
    """A count in the form that batches hold it, a float32 scalar."""
    return torch.tensor(float(number))


def counts_of_update(batches: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The counts of an update, from its batches in this process and from all other processes.

    Sums are divided by the number of processes, because gradients are averaged over processes. With
    one batch and one process these are the batch's own counts.
    """
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    found = {}
    for name in (*SUMS, "columns"):
        own = [batch[name] for batch in batches if name in batch]
        if not own:
            continue
        value = torch.stack(own).sum() if name in SUMS else torch.stack(own).max()
        if processes > 1:
            operation = torch.distributed.ReduceOp.SUM if name in SUMS else torch.distributed.ReduceOp.MAX
            torch.distributed.all_reduce(value, operation)
        found[name] = value / processes if name in SUMS else value
    return found


def filled(examples: Sequence[Mapping[str, Any]], batch_size: int) -> list[dict[str, Any]]:
    """The examples, followed by as many blanks as fill the last batch."""
    missing = -len(examples) % batch_size
    return [*({**e, _BLANK: False} for e in examples), *[{**examples[0], _BLANK: True}] * missing]


def without_blanks(
    collate: Callable[[list[Any]], dict[str, torch.Tensor]],
) -> Callable[[list[Any]], dict[str, torch.Tensor]]:
    """A collator that leaves blanks out.

    A batch of blanks alone becomes a batch of one example whose weights and counts are all 0.
    """

    def collated(examples: list[Any]) -> dict[str, torch.Tensor]:
        real = [e for e in examples if not e[_BLANK]]
        if real:
            return collate(real)
        batch = collate(examples[:1])
        return {name: torch.zeros_like(value) if value.is_floating_point() else value for name, value in batch.items()}

    return collated


class FilledOrder(torch.utils.data.Sampler[int]):
    """The examples of an epoch in random order, with the blanks at the end.

    The order depends on the seed and the epoch alone, so all processes have the same.
    """

    def __init__(self, examples: int, batch_size: int, seed: int) -> None:
        self._examples, self._seed, self._epoch = examples, seed, 0
        self._total = math.ceil(examples / batch_size) * batch_size

    def __len__(self) -> int:
        return self._total

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        yield from torch.randperm(self._examples, generator=generator).tolist()
        yield from range(self._examples, self._total)
