"""Samples of requests before and while they are drawn: which draw together, and what they weigh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from critical_tokens.decoding.protocol import Request
from critical_tokens.decoding.random_streams import stream_keys


class Samples(NamedTuple):
    """Samples: their numbers in their requests, keys of their random streams, and weights."""

    number: torch.Tensor
    key: torch.Tensor
    weight: torch.Tensor

    def take(self, which: torch.Tensor) -> Samples:
        """Some of these samples."""
        return Samples(*(tensor[which] for tensor in self))

    def join(self, others: Sequence[Samples]) -> Samples:
        """These samples followed by others, on the device of these."""
        return Samples(
            *(torch.cat([t.to(self.number.device) for t in tensors]) for tensors in zip(self, *others, strict=True))
        )


class Part(NamedTuple):
    """Samples of a request that have drawn the same tokens and wait for a row."""

    request: int
    samples: Samples
    generated: tuple[int, ...]

    def most_rows(self) -> int:
        """The largest number of rows that these samples may need later."""
        return math.ceil(float(self.samples.weight.sum()))


def whole(index: int, request: Request, weighted: bool) -> Part:
    """All samples of a request, before anything is generated."""
    if weighted:
        number, weight = (torch.zeros(1, dtype=torch.long), torch.tensor([request.n], dtype=torch.float64))
    else:
        number = torch.arange(int(request.n))
        weight = torch.ones(len(number), dtype=torch.float64)
    key = stream_keys(torch.full_like(number, request.seed), number)
    return Part(index, Samples(number, key, weight), ())
