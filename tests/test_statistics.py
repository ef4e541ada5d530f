"""Estimates against exact values."""

import itertools
import math

import pytest

from critical_tokens.reporting import estimates


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs():
    for a, b in itertools.product(range(8), repeat=2):
        n = a + b
        tail = sum(math.comb(n, k) for k in range(n + 1) if abs(k - n / 2) >= abs(a - n / 2)) / 2**n if n else 1.0
        assert estimates.mcnemar_exact(a, b) == pytest.approx(tail)


def test_a_paired_interval_covers_the_difference():
    first = [True] * 70 + [False] * 30
    second = [True] * 50 + [False] * 50
    low, high = estimates.paired_interval(first, second)
    assert low < 0.2 < high
    spread = (0.2 * 0.8 / 100) ** 0.5  # 20 problems gained, none lost
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert estimates.paired_interval(first, first) == (0.0, 0.0)
    with pytest.raises(ValueError, match="no pairs"):
        estimates.paired_interval(first, second[:-1])


def test_holm():
    assert estimates.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert estimates.holm([0.9, 0.8]) == [1.0, 1.0]
    assert estimates.holm([]) == []


def test_auc_counts_pairs():
    positives, negatives = [0.9, 0.5, 0.5], [0.1, 0.5, 0.7, 0.2]
    pairs = [(a > b) + (a == b) / 2 for a in positives for b in negatives]
    assert estimates.auc(positives, negatives) == pytest.approx(sum(pairs) / len(pairs))
    assert estimates.auc([], negatives) is None
