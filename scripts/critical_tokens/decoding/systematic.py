"""Systematic sampling of items with given expected counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def systematic_sample(expected: Tensor, offsets: Tensor) -> Tensor:
    """Weight of each item of a row, whose mean over random offsets is its expected count.

    An item with an expected count of at least 1 gets that count as its weight. The other items are
    sampled systematically and get weight 1 or 0: their expected counts are lined up as intervals,
    and an item is selected if one of evenly spaced points falls into its interval. The points have
    distance 1 and are shifted by the offset of the row. The number of selected items is therefore
    the sum of these expected counts, rounded up or down.

    expected: (…, items), float64.
    offsets: (…,), uniform in [0, 1).
    """
    import torch

    certain = expected >= 1
    ends = expected.masked_fill(certain, 0.0).cumsum(-1) + offsets.double().unsqueeze(-1)
    points = ends.floor()  # the number of points up to the end of each interval
    selected = points.diff(dim=-1, prepend=torch.zeros_like(points[..., :1]))
    return torch.where(certain, expected, selected)
