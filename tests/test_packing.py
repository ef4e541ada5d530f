"""Packed rows, the output layer computed apart, and fused adapters: what the usual way gives."""

import copy
import random

import pytest
import torch
from architectures import PLAIN, SHARED, random_model
from peft.tuners.lora.layer import Linear

from critical_tokens.models import checkpoints, lora
from critical_tokens.objectives import contrast, log_probabilities, losses, output_layer, packing

LORA = lora.Lora(4, 8, 0.0, "all-linear")


def numbers(rng, count):
    return [rng.randrange(3, 100) for _ in range(count)]


def items(count=6):
    """Answers to prompts of which each belongs to two of them."""
    rng = random.Random(1)
    prompts = [numbers(rng, 1 + 3 * i) for i in range(count // 2)]
    return [log_probabilities.PromptCompletion(prompts[i % len(prompts)], numbers(rng, 2 + i)) for i in range(count)]


# --- packed rows


def test_a_row_holds_each_prompt_once_and_says_what_each_label_follows():
    batch = packing.pack([([5, 6], [[7, 8], [9, 10, 11]]), ([12], [[13]])])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10, 11, 12, 13]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2, 3, 4, 0, 1]]
    assert batch["segments"].tolist() == [[0, 0, 0, 4], [0, 2, 4, 7], [7, 7, 7, 9]]
    assert batch["labels"].tolist() == [7, 8, 9, 10, 11, 13]
    assert batch["places"].tolist() == [1, 2, 1, 4, 5, 7]
    values = packing.by_answer(torch.arange(1.0, 7.0), batch)
    assert values.tolist() == [[1, 2, 0], [3, 4, 5], [6, 0, 0]]


def test_rows_have_at_most_so_many_tokens_unless_one_answer_has_more():
    asked = items()
    for most in (1, 30, 1000):
        rows = list(log_probabilities.packed_rows(asked, most))
        assert sorted(i for own, _ in rows for i in own) == list(range(len(asked)))
        for own, batch in rows:
            assert batch["input_ids"].shape[1] <= most or len(own) == 1
    ((_, whole),) = log_probabilities.packed_rows(asked, 1000)
    assert whole["input_ids"].shape[1] == sum(len(i.answer) for i in asked) + sum(len(i.prompt) for i in asked[:3])


@pytest.mark.parametrize("name", [*SHARED, *PLAIN])
def test_packed_scores_are_those_of_padded_rows_in_every_architecture(name):
    model = random_model(*(SHARED | PLAIN)[name])
    asked = items()
    usual = log_probabilities.answer_logps(model, asked, 1000)
    for most in (30, 1000):
        packed = log_probabilities.answer_logps(model, asked, most, packed=True)
        for row, expected in zip(packed, usual, strict=True):
            assert row == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_packed_contrastive_scores_are_those_of_padded_rows(tiny_model, beta):
    other = copy.deepcopy(tiny_model)
    other.model.layers[0].mlp.up_proj.weight.data *= 1.5
    asked = items()
    usual = contrast.contrastive_scores(tiny_model, other, asked, beta, 100)
    packed = contrast.contrastive_scores(tiny_model, other, asked, beta, 100, packed=True)
    for found, expected in zip(packed, usual, strict=True):
        assert found.positive == pytest.approx(expected.positive, abs=1e-4)
        assert found.negative == pytest.approx(expected.negative, abs=1e-4)
        assert found.scores == pytest.approx(expected.scores, abs=1e-4)


# --- the output layer


@pytest.mark.parametrize(
    ("name", "apart"), [("llama", True), ("granite", True), ("cohere 2", True), ("gemma 2", False)]
)
def test_only_an_output_layer_that_gives_the_logits_is_computed_apart(name, apart):
    """A scale of the logits (Granite, Cohere 2) can be applied before the layer; Gemma 2's cap
    cannot.
    """
    model = random_model(*(SHARED | PLAIN)[name]).requires_grad_(False)
    assert output_layer.is_separate(model, {"input_ids": torch.arange(3, 12).unsqueeze(0)}) == apart


def test_an_output_layer_that_is_trained_is_not_computed_apart(tiny_model):
    assert output_layer.output_layer(copy.deepcopy(tiny_model).requires_grad_(True)) is None


def test_a_loaded_model_has_its_output_layer_computed_apart(pocket_source):
    model = checkpoints.load_model(pocket_source)
    assert output_layer.output_layer(model) is model.get_output_embeddings()
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_batches_hold_no_more_logits_than_fit_into_memory(tiny_model, monkeypatch):
    asked, vocabulary = items(), tiny_model.config.vocab_size
    usual = log_probabilities.answer_logps(tiny_model, asked, 1000)
    monkeypatch.setattr(log_probabilities, "_MOST_LOGITS", 4 * vocabulary * 30)
    monkeypatch.setattr(log_probabilities, "_MOST_TOKENS", 20)
    assert log_probabilities.batch_tokens(tiny_model, 1000, packed=False) == 30
    assert log_probabilities.batch_tokens(tiny_model, 1000, packed=True) == 20
    assert log_probabilities.batch_tokens(tiny_model, 10, packed=False) == 10
    sizes = []
    hook = tiny_model.register_forward_hook(lambda model, args, out: sizes.append(out.logits.shape[:2].numel()))
    try:
        bounded = log_probabilities.answer_logps(tiny_model, asked, 1000)
    finally:
        hook.remove()
    assert max(sizes) <= 30
    for row, expected in zip(bounded, usual, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("bias", [False, True])
def test_log_probabilities_in_parts_have_the_usual_values_and_gradients(monkeypatch, bias):
    monkeypatch.setattr(output_layer, "_AT_A_TIME", 4 * 50 * 3)  # three tokens at a time
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 50, bias=bias).requires_grad_(False)
    labels, factors = torch.randint(50, (10,)), torch.randn(10)
    hidden = torch.randn(10, 8).mul(20).requires_grad_()
    (losses.token_logps(layer(hidden), labels) * factors).sum().backward()
    expected, hidden.grad = hidden.grad, None
    found = output_layer.Predictions(hidden, layer).token_logps(labels)
    torch.testing.assert_close(found, losses.token_logps(layer(hidden), labels))
    (found * factors).sum().backward()
    torch.testing.assert_close(hidden.grad, expected)


def test_the_gradient_of_a_nearly_certain_token_keeps_its_digits():
    """In half precision the label's row minus the mean row would be rounded to 0."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 50, bias=False).requires_grad_(False)
    hidden = (layer.weight[7] * 12).detach()
    grads = []
    for dtype in (torch.float32, torch.bfloat16):
        own = hidden.clone().unsqueeze(0).to(dtype).requires_grad_()
        output_layer.Predictions(own, copy.deepcopy(layer).to(dtype)).token_logps(torch.tensor([7])).sum().backward()
        grads.append(own.grad.float())
    assert 0 < float(grads[0].norm()) < 0.5
    assert float((grads[1] - grads[0]).norm() / grads[0].norm()) < 0.05


# --- fused adapters


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("bias", [False, True])
def test_a_fused_adapter_has_the_output_and_the_gradients_of_the_usual_one(dropout, bias):
    torch.manual_seed(0)
    tensors = {"x": (2, 5, 8), "weight": (6, 8), "bias": (6,), "first": (3, 8), "second": (6, 3)}
    made = {name: torch.randn(*shape, dtype=torch.float64) for name, shape in tensors.items()}
    if not bias:
        made["bias"] = None
    trained = ("x", "first", "second")
    found = []
    for fused in (False, True):
        own = {n: t.clone().requires_grad_() if n in trained else t for n, t in made.items()}
        torch.manual_seed(1)
        given = torch.nn.functional.dropout(own["x"], dropout) if dropout else own["x"]
        if fused:
            out = lora._Product.apply(own["x"], given, own["weight"], own["bias"], own["first"], own["second"], 0.7)
        else:
            out = torch.nn.functional.linear(own["x"], own["weight"], own["bias"])
            out = out + 0.7 * (given @ own["first"].T @ own["second"].T)
        out.square().sum().backward()
        found.append([out, *(own[name].grad for name in trained)])
    torch.testing.assert_close(found[1], found[0])


def test_adapters_are_fused_in_half_precision_only(tiny_model):
    for dtype, kind in ((torch.float32, Linear), (torch.bfloat16, lora.FusedLinear)):
        adapted = lora.add_adapter(copy.deepcopy(tiny_model).to(dtype), LORA, 1)
        layers = [m for m in adapted.modules() if isinstance(m, Linear)]
        assert len(layers) == 14
        assert all(type(layer) is kind for layer in layers)
        assert all(p.dtype == torch.float32 for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt-neox"])
def test_a_model_with_fused_adapters_predicts_what_one_with_usual_ones_does(name, monkeypatch):
    ids = torch.arange(3, 23).unsqueeze(0)
    found = []
    for half in ((), (torch.bfloat16,)):
        monkeypatch.setattr(lora, "HALF", half)
        adapted = lora.add_adapter(random_model(*SHARED[name]).to(torch.bfloat16), LORA, 1)
        torch.manual_seed(0)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn_like(parameter)
        with adapted.disable_adapter():
            without = adapted(input_ids=ids).logits.float().log_softmax(-1)
        logps = adapted(input_ids=ids).logits.float().log_softmax(-1)
        logps[..., 5].sum().backward()
        norm = torch.stack([p.grad.norm() for p in adapted.parameters() if p.grad is not None]).norm()
        found.append((logps.detach(), without.detach(), float(norm)))
    usual, fused = found
    assert float((fused[0] - usual[0]).abs().mean()) < 0.05
    assert torch.equal(fused[1], usual[1])
    assert float((fused[0] - fused[1]).abs().mean()) > 0.001
    assert fused[2] == pytest.approx(usual[2], rel=0.05)
