"""Random numbers that depend on a seed and a counter alone, so that every device draws the same
samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


# splitmix64 (Steele, Lea, Flood 2014): its increment and the two multipliers of its finaliser, as
# signed 64-bit numbers.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)


_M1 = 0xBF58476D1CE4E5B9 - (1 << 64)


_M2 = 0x94D049BB133111EB - (1 << 64)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift of int64 (torch's own is arithmetic)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """The splitmix64 finaliser: a bijection of int64 that scatters neighbouring values."""
    x = (x ^ _shift_right(x, 30)) * _M1
    x = (x ^ _shift_right(x, 27)) * _M2
    return x ^ _shift_right(x, 31)


def stream_keys(seeds: Tensor, samples: Tensor) -> Tensor:
    """A key for the random stream of each (request seed, sample number). All int64, equal shapes."""
    return mix(mix(seeds * _GAMMA + 1) + samples * _GAMMA)


def uniforms(keys: Tensor, steps: Tensor) -> Tensor:
    """The `steps`-th number in [0, 1) of each stream, float32 with 24 random bits: the same on
    every device.
    """
    bits = mix(keys + (steps + 1) * _GAMMA)
    return _shift_right(bits, 40).float() * (1.0 / (1 << 24))
