"""Objectives against golden values, against each other, and through their gradients."""

import math

import pytest
import torch

from critical_tokens.core.records import Failure
from critical_tokens.objectives import losses
from critical_tokens.training import token_weights


def case_tensors(case):
    as_tensor = lambda name: torch.tensor(case[name], dtype=torch.float64)  # noqa: E731
    logits, reference_logits, labels = (as_tensor("logits"), as_tensor("ref_logits"), torch.tensor(case["labels"]))
    mask = (labels[:, 1:] != -100).double()
    gold = labels[:, 1:].clamp_min(0)
    return logits[:, :-1], reference_logits[:, :-1], gold, mask


def double_logps(logits, labels):
    return logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def cases(golden):
    for case in golden("losses.json"):
        logits, reference_logits, labels, mask = case_tensors(case)
        yield case, logits, reference_logits, labels, mask


def weights_of(case, mask):
    """1 - s with the released code's convention that the last token (EOS) has s = 0."""
    return torch.stack([1 - torch.tensor([*row, 0.0], dtype=torch.float64) for row in case["ce_prob"]])


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), atol=tolerance, rtol=tolerance)


def test_token_logps_golden(golden):
    seen = 0
    for case, logits, _, labels, mask in cases(golden):
        close(losses.token_logps(logits, labels) * mask.float(), case["per_token_logps"], 1e-5)
        seen += 1
    assert seen == 12


def test_preference_losses_golden(golden):
    seen = 0
    for case, logits, reference_logits, labels, mask in cases(golden):
        n, gamma = case["n_chosen"], case["beta"]
        logps, reference = double_logps(logits, labels), double_logps(reference_logits, labels)
        ratio = losses.log_ratio(logps, reference, mask)
        close(losses.dpo(ratio[:n], ratio[n:], gamma), case["dpo"])
        nll = losses.weighted_nll(logps[:n], mask[:n])
        close(nll, case["nll_token_mean"])
        close(losses.rpo(ratio[:n], ratio[n:], nll, gamma, 1.0).mean(), case["trl116_sigmoid_plus_1sft"])
        divergence = losses.sequential_kl(reference_logits, logits, mask)
        close(divergence, case["tdpo_kl"], 1e-5)
        tdpo1, tdpo2 = losses.TDPO(variant=1), losses.TDPO(variant=2, alpha=0.5)
        close(tdpo1(ratio[:n], ratio[n:], divergence[:n], divergence[n:], gamma), case["tdpo1"], 1e-5)
        close(tdpo2(ratio[:n], ratio[n:], divergence[:n], divergence[n:], gamma), case["tdpo2_alpha0_5"], 1e-5)
        seen += 1
    assert seen == 12


def test_cdpo_in_both_forms_golden(golden):
    seen = 0
    for case, logits, reference_logits, labels, mask in cases(golden):
        n, gamma = case["n_chosen"], case["beta"]
        logps, reference = double_logps(logits, labels), double_logps(reference_logits, labels)
        weights = weights_of(case, mask)
        plain, weighted = (losses.log_ratio(logps, reference, mask), losses.log_ratio(logps, reference, mask, weights))
        close(losses.dpo(plain[:n], weighted[n:], gamma), case["sequence_level_cdpo_only_neg"])
        released = losses.cdpo_released(logps, reference, mask, weights, n, gamma)
        close(released, case["authors_cdpo_only_neg_per_token"])
        close(released.mean(), case["authors_mean"])
        seen += 1
    assert seen == 12


def pairs(seed=0, n=4, tokens=9):
    generator = torch.Generator().manual_seed(seed)
    logps = -torch.rand(2 * n, tokens, generator=generator).double()
    reference = -torch.rand(2 * n, tokens, generator=generator).double()
    mask = (torch.arange(tokens) >= torch.randint(0, 4, (2 * n, 1), generator=generator)).double()
    weights = torch.rand(2 * n, tokens, generator=generator).double()
    return logps.requires_grad_(), reference, mask, weights


def test_unit_weights_make_cdpo_equal_dpo():
    logps, reference, mask, _ = pairs()
    plain = losses.log_ratio(logps, reference, mask)
    weighted = losses.log_ratio(logps, reference, mask, torch.ones_like(mask))
    torch.testing.assert_close(losses.dpo(plain[:4], weighted[4:], 0.7), losses.dpo(plain[:4], plain[4:], 0.7))


def test_a_rejected_token_with_score_one_gets_no_gradient():
    logps, reference, mask, weights = pairs()
    weights[4:, 5] = 0.0
    weights[:4] = 1.0
    ratio = losses.log_ratio(logps, reference, mask, weights)
    losses.dpo(ratio[:4], ratio[4:], 1.0).mean().backward()
    assert (logps.grad[4:, 5] == 0).all()
    touched = (mask * (weights > 0)).bool()
    assert (logps.grad[touched] != 0).all()
    assert (logps.grad[~mask.bool()] == 0).all()


def test_gradients_push_chosen_up_and_rejected_down():
    logps, reference, mask, weights = pairs()
    weights[:4] = 1.0
    ratio = losses.log_ratio(logps, reference, mask, weights)
    losses.dpo(ratio[:4], ratio[4:], 1.0).mean().backward()
    assert (logps.grad[:4][mask[:4].bool()] < 0).all()
    assert (logps.grad[4:][mask[4:].bool()] > 0).all()


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_every_preference_loss_starts_at_log_two(gamma):
    logps, _, mask, weights = pairs()
    zero = losses.log_ratio(logps, logps.detach(), mask)
    log_two = torch.full((4,), math.log(2), dtype=torch.float64)
    none = torch.zeros(4, dtype=torch.float64)
    torch.testing.assert_close(losses.dpo(zero[:4], zero[4:], gamma), log_two)
    torch.testing.assert_close(losses.TDPO()(zero[:4], zero[4:], none, none, gamma), log_two)
    released = losses.cdpo_released(logps, logps.detach(), mask, weights, 4, gamma)
    torch.testing.assert_close(released, torch.full((4, 9), math.log(2), dtype=torch.float64))


def test_tdpo2_does_not_differentiate_the_chosen_divergence():
    chosen_kl = torch.ones(3, requires_grad=True)
    rejected_kl = torch.ones(3, requires_grad=True)
    ratios = torch.zeros(3), torch.zeros(3)
    losses.TDPO(variant=2)(*ratios, chosen_kl, rejected_kl, 1.0).sum().backward()
    assert chosen_kl.grad is None
    assert rejected_kl.grad.abs().sum() > 0
    losses.TDPO(variant=1)(*ratios, chosen_kl, rejected_kl, 1.0).sum().backward()
    assert chosen_kl.grad.abs().sum() > 0


def test_a_batch_without_weight_has_loss_zero():
    assert losses.weighted_nll(torch.tensor([[-1.0, -2.0]]), torch.zeros(1, 2)) == 0


def test_divergence_is_zero_for_equal_models_and_positive_otherwise():
    logits = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 5)
    torch.testing.assert_close(losses.sequential_kl(logits, logits, mask), torch.zeros(2), atol=1e-6, rtol=0)
    assert (losses.sequential_kl(logits, logits.flip(-1), mask) > 0).all()


# --- the registry of token weights


def test_a_new_kind_of_token_weights_is_a_function_and_an_entry(monkeypatch):
    def falling(pair, tables, length, seed):
        return [tables["heights"][pair["problem_id"]] / (1 + t) for t in range(length)]

    entry = token_weights.TokenWeights("falling weights", ("heights",), falling)
    monkeypatch.setitem(token_weights.TOKEN_WEIGHTS, "falling", entry)
    pair = {"problem_id": "p", "rejected_finished": True}
    tables = {"heights": {"p": 0.8}}
    assert token_weights.entry_of("falling").tables == ("heights",)
    assert token_weights.rejected_weights("falling", pair, tables, 2, 1) == [0.8, 0.4]
    assert token_weights.rejected_weights("falling", pair, tables, 2, 1, "one") == [0.8, 1.0]
    unfinished = pair | {"rejected_finished": False}
    assert token_weights.rejected_weights("falling", unfinished, tables, 2, 1, "one") == [0.8, 0.4]


def test_an_unknown_kind_of_token_weights_is_refused():
    with pytest.raises(Failure, match="weights are 'ones', must be one of contrast, shuffled, mean, base, positive"):
        token_weights.rejected_weights("ones", {"problem_id": "p"}, {}, 2, 1)
