"""The paper's definitions: selection, critical tokens, contrastive estimation, pass@k."""

import math
import random
from collections import Counter

import pytest
import torch

from critical_tokens.data.selection import Sample, select
from critical_tokens.objectives import contrast, log_probabilities
from critical_tokens.reporting import estimates
from critical_tokens.rollouts.critical import Critical, find_critical


def samples(*groups):
    """Samples from (answer, count, correct) groups."""
    rows = [(answer, right) for answer, count, right in groups for _ in range(count)]
    return [Sample(i, answer, right) for i, (answer, right) in enumerate(rows)]


def test_the_papers_example_of_the_negative_set():
    """Of ten wrong samples, the answers given 3 and 2 times make up half, so each gives one."""
    wrong = [("a", 3, False), ("b", 2, False), *((x, 1, False) for x in "cdefg")]
    chosen = select(samples(*wrong, ("right", 4, True)), random.Random(0))
    assert len(chosen.negative) == 2
    assert chosen.negative[0] in range(3)
    assert chosen.negative[1] in range(3, 5)
    assert chosen.positive[0] in range(10, 14)
    assert chosen.pair == (chosen.positive[0], chosen.negative[0])


def test_one_frequent_wrong_answer_can_cover_half_alone():
    assert len(select(samples(("a", 5, False), ("b", 5, False)), random.Random(0)).negative) == 1


def test_the_released_code_takes_no_answer_seen_once_behind_the_first():
    wrong = [("a", 3, False), ("b", 2, False), *((x, 1, False) for x in "cdefg")]
    taken = [
        len(select(samples(*wrong), random.Random(0), coverage, repeated_only=True).negative)
        for coverage in (0.2, 0.5, 1.0)
    ]
    assert taken == [1, 2, 2]
    assert len(select(samples(*wrong), random.Random(0), 1.0).negative) == 7
    assert (
        len(select(samples(("a", 1, False), ("b", 1, False)), random.Random(0), 1.0, repeated_only=True).negative) == 1
    )


def test_problems_without_both_kinds_make_no_pair():
    only_right = select(samples(("x", 4, True)), random.Random(0))
    only_wrong = select(samples(("x", 4, False)), random.Random(0))
    assert (only_right.negative, only_right.pair) == ((), None)
    assert (only_wrong.positive, only_wrong.pair) == ((), None)
    assert len(only_right.positive) == len(only_wrong.negative) == 1


def test_samples_without_an_answer_are_one_wrong_answer():
    chosen = select(samples((None, 4, False), ("a", 1, False), ("r", 1, True)), random.Random(0))
    assert chosen.pair[1] in range(4)


def test_selection_is_random_within_a_group():
    drawn = Counter(select(samples(("r", 4, True)), random.Random(seed)).positive[0] for seed in range(400))
    assert set(drawn) == {0, 1, 2, 3}
    assert min(drawn.values()) > 60


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.5, 0.2, 0.0, 0.0, 0.0], Critical(2)),
        ([0.5, 0.0, 0.2, 0.0, 0.04, 0.0], Critical(3)),
        ([0.5, 0.0, 3 / 64, 0.0], Critical(1)),
        ([0.5, 0.0, 4 / 64, 0.0, 4 / 64], Critical(1, zero_only=True)),
        ([0.0], Critical(0)),
        ([0.5, 0.3], None),
        ([], None),
    ],
)
def test_critical_token_rule(scores, expected):
    """Score 0, and all later scores below 5 %: at most 3 of 64 correct (paper, section 2)."""
    assert find_critical(scores) == expected


def random_logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_contrast_without_a_contrast_factor_is_the_positive_model():
    positive, negative = random_logits(7, 50), random_logits(7, 50, seed=1)
    torch.testing.assert_close(contrast.contrastive_logps(positive, negative, 0.0), positive.float().log_softmax(-1))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.5])
def test_contrast_of_equal_models_is_that_model_and_scores_sum_to_one(beta):
    positive, negative = random_logits(7, 50), random_logits(7, 50, seed=1)
    same = contrast.contrastive_logps(positive, positive + 3.0, beta)
    torch.testing.assert_close(same, positive.float().log_softmax(-1), atol=1e-5, rtol=1e-5)
    scores = contrast.contrastive_logps(positive, negative, beta).exp()
    torch.testing.assert_close(scores.sum(-1), torch.ones(7))


def test_contrast_by_hand():
    """Two tokens, P+ = (0.8, 0.2), P- = (0.4, 0.6), beta 1: s is proportional to P+^2 / P-."""
    positive, negative = torch.tensor([0.8, 0.2]).log(), torch.tensor([0.4, 0.6]).log()
    weights = [0.8**2 / 0.4, 0.2**2 / 0.6]
    expected = torch.tensor([w / sum(weights) for w in weights])
    torch.testing.assert_close(contrast.contrastive_logps(positive, negative, 1.0).exp(), expected)


def test_answer_logps_do_not_depend_on_the_batch(tiny_model):
    rng = random.Random(0)
    items = [
        log_probabilities.PromptCompletion(
            [rng.randrange(3, 100) for _ in range(rng.randint(1, 20))],
            [rng.randrange(3, 100) for _ in range(rng.randint(1, 20))],
        )
        for _ in range(15)
    ]
    with torch.inference_mode():
        alone = []
        for item in items:
            logits = tiny_model(input_ids=torch.tensor([[*item.prompt, *item.answer]])).logits[0].log_softmax(-1)
            alone.append([float(logits[len(item.prompt) - 1 + t, token]) for t, token in enumerate(item.answer)])
    for max_tokens in (1, 100, 10_000):
        for row, expected in zip(log_probabilities.answer_logps(tiny_model, items, max_tokens), alone, strict=True):
            assert row == pytest.approx(expected, abs=1e-4)


def test_contrast_of_models_gives_scores_in_the_unit_interval(tiny_model):
    items = [log_probabilities.PromptCompletion([5, 6], [7, 8, 9]), log_probabilities.PromptCompletion([5], [10])]
    contrasts = contrast.contrastive_scores(tiny_model, tiny_model, items, 1.0, 100)
    for item, scored in zip(items, contrasts, strict=True):
        assert len(scored.scores) == len(item.answer)
        assert scored.positive == scored.negative
        assert scored.scores == pytest.approx([math.exp(x) for x in scored.positive], rel=1e-4)


def test_pass_at_k_golden(golden):
    table = golden("pass_at_k.json")
    assert table["columns"] == ["n", "c", "k", "pass_at_k"]
    assert len(table["rows"]) == 557
    for n, c, k, expected in table["rows"]:
        assert estimates.pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_refuses_what_is_not_defined():
    for arguments in ((5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, 6)):
        with pytest.raises(ValueError, match="not defined"):
            estimates.pass_at_k(*arguments)


def test_wilson_interval():
    low, high = estimates.wilson_interval(5, 10)
    assert (low, high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert estimates.wilson_interval(0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert estimates.wilson_interval(10, 10)[1] == pytest.approx(1)
    assert estimates.wilson_interval(0, 0) == (0.0, 1.0)


def test_bootstrap_interval_covers_the_mean():
    rng = random.Random(1)
    values = [rng.random() for _ in range(50)]
    low, high = estimates.mean_interval(values)
    assert low < sum(values) / 50 < high
    assert high - low < 0.3
    assert estimates.mean_interval([0.5]) == (0.5, 0.5)
