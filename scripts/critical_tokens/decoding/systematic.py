"""Systematic sampling of items with given expected counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def systematic_sample(expected: Tensor, offsets: Tensor) -> Tensor:
    """How often each item of a row is taken: as often as expected where that is at least once, else
    once or not at all, by lot.

    expected: (…, items), float64. The lots of a row are drawn systematically: its items below 1,
    side by side, are hit by a comb of teeth at distance 1 that starts at the row's offset (…,) in
    [0, 1). So every item is taken as often as expected on average, and the number of lots is their
    sum, rounded up or down.
    """
    import torch

    certain = expected >= 1
    ends = expected.masked_fill(certain, 0.0).cumsum(-1) + offsets.double().unsqueeze(-1)
    teeth = ends.floor()
    hit = teeth.diff(dim=-1, prepend=torch.zeros_like(teeth[..., :1]))
    return torch.where(certain, expected, hit)
