"""Sampling distributions: samples are drawn with the stated probabilities."""

import pytest
import torch
from branches import MinP

from critical_tokens.core.records import Failure
from critical_tokens.decoding import distributions, systematic
from critical_tokens.decoding.distributions import GREEDY, Nucleus
from critical_tokens.decoding.random_streams import stream_keys, uniforms

SETTINGS = [(1.0, 1.0), (1.0, 0.9), (0.5, 0.95), (2.0, 0.3), (1.0, 0.999999)]


@pytest.mark.parametrize("distribution", [*(Nucleus(*settings) for settings in SETTINGS), MinP(0.05)], ids=str)
def test_samples_follow_the_stated_probabilities(distribution):
    logits = torch.randn(1, 150, generator=torch.Generator().manual_seed(1)) * 2
    n = 40_000
    keys = stream_keys(torch.full((n,), 7), torch.arange(n))
    drawn = distribution.sample(logits.expand(n, -1), uniforms(keys, torch.zeros(n, dtype=torch.long)), torch.arange(n))
    expected = distribution.probabilities(logits)[0] * n
    observed = torch.bincount(drawn, minlength=150).float()
    assert observed[expected == 0].sum() == 0
    common = expected >= 5
    statistic = ((observed - expected)[common] ** 2 / expected[common]).sum()
    degrees = int(common.sum())
    assert statistic < degrees + 4 * (2 * degrees) ** 0.5


def test_items_are_taken_as_often_as_expected_on_average():
    expected = torch.tensor([2.5, 0.3, 0.0, 0.9, 1.0, 0.05, 0.6], dtype=torch.float64)
    n = 20_000
    offsets = (torch.arange(n) + 0.5) / n
    taken = systematic.systematic_sample(expected.expand(n, -1), offsets)
    torch.testing.assert_close(taken.mean(0), expected, atol=2e-4, rtol=0)
    assert (taken[:, [0, 2, 4]] == expected[[0, 2, 4]]).all()
    lots = taken[:, [1, 3, 5, 6]]
    assert set(lots.unique().tolist()) == {0.0, 1.0}
    assert set(lots.sum(-1).tolist()) == {1.0, 2.0}  # 1.85 on average


def test_nucleus_is_the_smallest_set_that_reaches_its_mass():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    kept = lambda p: (Nucleus(1.0, p).probabilities(logits)[0] > 0).tolist()  # noqa: E731
    assert kept(0.5) == [True, False, False, False]
    assert kept(0.51) == [True, True, False, False]
    assert kept(0.96) == [True, True, True, True]


def test_a_nucleus_wider_than_the_candidates_is_searched_in_full():
    logits = torch.zeros(1, 5000)
    drawn = Nucleus(1.0, 0.9).sample(logits.expand(2000, -1), torch.linspace(0, 0.9999, 2000), torch.arange(2000))
    assert len(drawn.unique()) > distributions._NUCLEUS_CANDIDATES[-1]


@pytest.mark.parametrize("top_p", [0.3, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("scale", [2.0, 5.0])
def test_nothing_is_drawn_that_has_no_probability(scale, top_p):
    """Half precision makes many logits equal, also at the edge of the nucleus."""
    distribution = Nucleus(1.0, top_p)
    logits = (torch.randn(40, 3000, generator=torch.Generator().manual_seed(3)) * scale).bfloat16()
    probabilities = distribution.probabilities(logits)
    rows = torch.arange(40).repeat_interleave(500)
    drawn = distribution.sample(logits, torch.linspace(0, 0.99999, 500).repeat(40), rows)
    assert (probabilities[rows, drawn] > 0).all()
    for row in range(40):
        allowed = probabilities[row].nonzero().squeeze(-1)
        few = allowed[probabilities[row, allowed] > 0.01]
        assert set(few.tolist()) <= set(drawn[rows == row].tolist())  # all probable tokens are drawn
        assert all(distribution.allows(logits[row].expand(len(allowed), -1), allowed.tolist()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [40_000, 2**15, 32_831])
def test_a_long_vocabulary_gives_what_sorting_all_of_it_gives(dtype, vocabulary, monkeypatch):
    """With the likely tokens in a few pieces or in many, and with equal tokens at every edge."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(30, vocabulary, generator=generator)
    logits[:10, 300:420] += 8.0  # next to one another
    logits[10:20] += 6.0 * (torch.rand(10, vocabulary, generator=generator) < 0.001)
    logits[20:, -50:] = 9.0  # equal, at the end
    logits, rows = logits.to(dtype), torch.arange(30).repeat_interleave(100)
    numbers = torch.rand(3000, generator=generator, dtype=torch.float64)
    drawn = Nucleus(0.7, 0.9).sample(logits, numbers, rows)
    monkeypatch.setattr(distributions, "_NUCLEUS_CANDIDATES", ())
    assert torch.equal(drawn, Nucleus(0.7, 0.9).sample(logits, numbers, rows))


@pytest.mark.parametrize("wide", [False, True])
def test_the_support_is_the_nucleus_in_order_of_ids(wide, monkeypatch):
    """Of a large vocabulary it has few tokens, with the probabilities that sorting all gives."""
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(20, 70_000, generator=generator)
    logits += 12.0 * (torch.rand(20, 70_000, generator=generator) < (0.004 if wide else 0.0004))
    probabilities, ids = Nucleus(0.8, 0.9).support(logits)
    dense = Nucleus(0.8, 0.9).probabilities(logits)
    assert ids.shape == (20, distributions._NUCLEUS_CANDIDATES[wide])
    assert (ids.diff(dim=-1) > 0).all()
    assert torch.equal(torch.zeros_like(dense).scatter_(-1, ids, probabilities), dense)
    torch.testing.assert_close(Nucleus(0.8, 0.9).probabilities(logits[3]), dense[3])
    monkeypatch.setattr(distributions, "_NUCLEUS_CANDIDATES", ())
    sorted_ = Nucleus(0.8, 0.9).probabilities(logits)
    assert torch.equal(dense > 0, sorted_ > 0)
    torch.testing.assert_close(dense, sorted_, rtol=1e-5, atol=0)


def test_the_support_of_other_distributions_is_the_vocabulary():
    logits = torch.randn(2, 70_000)
    for distribution in (GREEDY, Nucleus(0.8), Nucleus(50.0, 0.9)):
        probabilities, ids = distribution.support(logits)
        assert torch.equal(probabilities, distribution.probabilities(logits))
        assert torch.equal(ids, torch.arange(70_000).expand(2, -1))


def test_of_equal_tokens_the_smaller_id_is_in_the_nucleus():
    logits = torch.full((1, 200), -1e9)
    logits[0, [150, 7, 90, 30]] = 0.0
    distribution = Nucleus(1.0, 0.5)
    assert distribution.probabilities(logits)[0].nonzero().squeeze(-1).tolist() == [7, 30]
    drawn = distribution.sample(logits, torch.linspace(0, 0.999, 50), torch.zeros(50, dtype=torch.long))
    assert drawn.unique().tolist() == [7, 30]


def test_greedy_takes_the_largest():
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0]])
    assert GREEDY.sample(logits, torch.tensor([0.9, 0.1]), torch.arange(2)).tolist() == [1, 0]
    assert GREEDY.probabilities(logits).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("settings", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_impossible_distributions_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        Nucleus(**settings)


def test_distributions_are_chosen_by_name():
    sampling = Nucleus(0.5, 0.95)
    assert distributions.named("softmax", sampling) == Nucleus(1.0, 1.0)
    assert distributions.named("sampling", sampling) == sampling
    with pytest.raises(Failure, match="the distribution is 'greedy', must be one of softmax, sampling"):
        distributions.named("greedy", sampling)


def test_a_new_distribution_is_a_class_and_an_entry(monkeypatch):
    entry = distributions.NamedDistribution("min-p of 0.1", lambda sampling: MinP(0.1))
    monkeypatch.setitem(distributions.DISTRIBUTIONS, "min_p", entry)
    assert distributions.named("min_p", GREEDY) == MinP(0.1)


def test_random_numbers_are_uniform_and_streams_unrelated():
    keys = stream_keys(torch.arange(200).repeat_interleave(100), torch.arange(100).repeat(200))
    assert len(keys.unique()) == 20_000
    u = torch.stack([uniforms(keys, torch.full_like(keys, step)) for step in range(4)])
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(torch.corrcoef(u).fill_diagonal_(0)).max() < 0.03
    assert torch.corrcoef(u[:, :19_900].flatten()[None].repeat(2, 1)).isfinite().all()
    shifted = torch.stack([u[0, :-1], u[0, 1:]])
    assert abs(torch.corrcoef(shifted)[0, 1]) < 0.03
