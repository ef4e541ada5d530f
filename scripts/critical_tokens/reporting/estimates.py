"""Estimates and their uncertainty: pass@k, intervals, paired tests, AUC."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased estimate of pass@k, the chance that at least one of k samples is correct.

    The estimate comes from n samples of which `correct` are correct (Chen et al. 2021). Raises
    ValueError unless 0 <= correct <= n and 1 <= k <= n.
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k of n={n}, correct={correct}, k={k} is not defined")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def wilson_interval(correct: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval of the share correct / n; (0, 1) for n = 0.

    z: the normal quantile of the interval; the default gives 95 %.
    """
    if n == 0:
        return 0.0, 1.0
    share = correct / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def middle(resampled: Iterable[float]) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5 of resampled values, which are a bootstrap's 95 % interval.

    Raises ValueError if there are no values.
    """
    values = sorted(resampled)
    if not values:
        raise ValueError("an interval of no values")
    return values[round(0.025 * (len(values) - 1))], values[round(0.975 * (len(values) - 1))]


def mean_interval(values: list[float], resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of independent values.

    If there is only one value, both bounds are that value.
    """
    rng = random.Random(seed)
    n = len(values)
    return middle(math.fsum(rng.choices(values, k=n)) / n for _ in range(resamples))


def accuracy_interval(verdicts: Sequence[tuple[str, bool]]) -> tuple[float, float]:
    """95 % interval of the share of correct answers, which are given as (problem id, correct).

    With one answer per problem it is Wilson's interval. With several it is a bootstrap over
    problems, because the answers to one problem are not independent.
    """
    by_problem: dict[str, list[bool]] = {}
    for problem, correct in verdicts:
        by_problem.setdefault(problem, []).append(correct)
    if len(by_problem) == len(verdicts):
        return wilson_interval(sum(correct for _, correct in verdicts), len(verdicts))
    return mean_interval([sum(answers) / len(answers) for answers in by_problem.values()])


def crossed_interval(values: Sequence[Sequence[float]], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values[seed][problem].

    Seeds and problems are both resampled. If there are few seeds, the interval understates the
    uncertainty that comes from them.
    """
    import numpy as np

    table = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    seeds, problems = table.shape
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    of_problems = rng.multinomial(problems, np.full(problems, 1 / problems), size=resamples) / problems
    return middle(np.einsum("rs,sp,rp->r", of_seeds, table, of_problems, optimize=True).tolist())


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value of McNemar's test for two methods on the same problems.

    only_first, only_second: problems that only the first or only the second method got right.
    """
    n = only_first + only_second
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**n)


def paired_interval(
    first: Sequence[bool], second: Sequence[bool], resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of the difference of two accuracies, first minus second.

    first, second: verdicts on the same problems in the same order. Problems are resampled with both
    of their verdicts. Raises ValueError unless there are equally many, and at least one.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} verdicts are no pairs")
    n = len(first)
    gains = sum(a and not b for a, b in zip(first, second, strict=True))
    losses = sum(b and not a for a, b in zip(first, second, strict=True))
    # The interval depends only on how many gains, losses and ties are drawn.
    rng = random.Random(seed)
    kinds, weights = (1, -1, 0), (gains, losses, n - gains - losses)
    return middle(sum(rng.choices(kinds, weights, k=n)) / n for _ in range(resamples))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for multiple comparisons by Holm's procedure, in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def auc(positives: Sequence[float], negatives: Sequence[float]) -> float | None:
    """Chance that a positive value is above a negative value, where ties count half.

    None if there is no positive or no negative value.
    """
    if not positives or not negatives:
        return None
    ranked = sorted([(value, 1) for value in positives] + [(value, 0) for value in negatives])
    total, i = 0.0, 0
    while i < len(ranked):
        j = i
        while j < len(ranked) and ranked[j][0] == ranked[i][0]:
            j += 1
        total += sum(label for _, label in ranked[i:j]) * (i + j + 1) / 2
        i = j
    p, n = len(positives), len(negatives)
    return (total - p * (p + 1) / 2) / (p * n)
