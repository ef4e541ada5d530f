"""Random numbers that depend on a seed and a counter alone, and are the same on every device."""

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
    """Logical right shift of int64; torch's own shift is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """The splitmix64 finaliser, a bijection of int64 that scatters neighbouring values."""
    x = (x ^ _shift_right(x, 30)) * _M1
    x = (x ^ _shift_right(x, 27)) * _M2
    return x ^ _shift_right(x, 31)


def stream_keys(seeds: Tensor, samples: Tensor) -> Tensor:
    """The key of the random stream of each (request seed, sample number); all int64, one shape."""
    return mix(mix(seeds * _GAMMA + 1) + samples * _GAMMA)


def uniforms(keys: Tensor, steps: Tensor) -> Tensor:
    """Number `steps` of each stream, in [0, 1): float32 with 24 random bits."""
    bits = mix(keys + (steps + 1) * _GAMMA)
    return _shift_right(bits, 40).float() * (1.0 / (1 << 24))
