"""What the batches of one update share, over steps and over processes, so that an update is the
same however it is cut.

The sums of an objective are divided by counts of the whole update: tokens, pairs, columns. Where
processes share a batch that the examples do not fill, blanks fill it, which count nothing;
otherwise examples would be trained on twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

SUMS = ("tokens", "pairs")
"""Counts of a batch that add up over an update. Of `columns`, the width of a batch, an update has
the largest.
"""

_BLANK = "blank"


def count(number: float) -> torch.Tensor:
    """A count as batches hold it: a scalar, float32."""
    return torch.tensor(float(number))


def counts_of_update(batches: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The counts of all batches of an update, over all processes.

    Sums are divided by the number of processes: gradients are averaged over them. With one batch
    and one process these are the batch's own counts.
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
    """The examples, and blanks behind them until whole batches are full."""
    missing = -len(examples) % batch_size
    return [*({**e, _BLANK: False} for e in examples), *[{**examples[0], _BLANK: True}] * missing]


def without_blanks(
    collate: Callable[[list[Any]], dict[str, torch.Tensor]],
) -> Callable[[list[Any]], dict[str, torch.Tensor]]:
    """A collator that leaves blanks out. A batch of nothing else is a batch of one, in which
    everything counts 0.
    """

    def collated(examples: list[Any]) -> dict[str, torch.Tensor]:
        real = [e for e in examples if not e[_BLANK]]
        if real:
            return collate(real)
        batch = collate(examples[:1])
        return {name: torch.zeros_like(value) if value.is_floating_point() else value for name, value in batch.items()}

    return collated


class FilledOrder(torch.utils.data.Sampler[int]):
    """The examples of an epoch in random order, blanks last: the same order in every process, and
    in a single one.
    """

    def __init__(self, examples: int, batch_size: int, seed: int) -> None:
        self._examples, self._seed, self._epoch = examples, seed, 0
        self._total = math.ceil(examples / batch_size) * batch_size

    def __len__(self) -> int:
        return self._total

    def set_epoch(self, epoch: int) -> None:
        """Every epoch has an order of its own."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        yield from torch.randperm(self._examples, generator=generator).tolist()
        yield from range(self._examples, self._total)
