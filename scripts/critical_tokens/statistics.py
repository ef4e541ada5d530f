"""Estimates and their uncertainty: pass@k and binomial intervals."""

from __future__ import annotations

import math
import random


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of k samples is correct, from `correct` of n (Chen et al. 2021).

    Raises ValueError unless 0 <= correct <= n and 1 <= k <= n.
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k of n={n}, correct={correct}, k={k} is not defined")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def wilson_interval(correct: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval of a share, 95 % unless `z` says otherwise. (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share = correct / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def mean_interval(values: list[float], resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap of the mean over independent trajectories, 95 %; the values themselves if there is only one."""
    rng = random.Random(seed)
    n = len(values)
    means = sorted(math.fsum(rng.choices(values, k=n)) / n for _ in range(resamples))
    return means[round(0.025 * (resamples - 1))], means[round(0.975 * (resamples - 1))]
