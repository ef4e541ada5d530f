"""Training: what it changes, what it leaves alone, and how it fails."""

import copy
import dataclasses
import math

import pytest
import torch

from critical_tokens.core.records import ArtifactError
from critical_tokens.models import lora
from critical_tokens.objectives import losses, registry
from critical_tokens.training import adapters, alignment, likelihood, trainer
from critical_tokens.training.settings import TrainingSettings

LORA = lora.Lora(4, 8, 0.0, "all-linear")
SETTINGS = TrainingSettings(learning_rate=5e-3, epochs=6, batch_size=2, warmup_share=0.0, seed=1)


def pair_examples(model, weights=None):
    """Four pairs with their reference log-probabilities."""
    from critical_tokens.objectives import log_probabilities

    prompts = [[5, 6, 7 + i] for i in range(4)]
    chosen, rejected = ([[20 + i, 21, 2] for i in range(4)], [[40 + i, 41, 42, 43, 2] for i in range(4)])
    logps = [
        log_probabilities.answer_logps(
            model, [log_probabilities.PromptCompletion(p, a) for p, a in zip(prompts, answers, strict=True)], 1000
        )
        for answers in (chosen, rejected)
    ]
    return [
        alignment.pair_example(prompts[i], chosen[i], rejected[i], (logps[0][i], logps[1][i]), weights and weights[i])
        for i in range(4)
    ]


def answer_examples():
    return [alignment.answer_example([5, 6, 7 + i], [20 + i, 21, 2]) for i in range(4)]


def run(model, method, folder, examples=None, settings=SETTINGS):
    model = copy.deepcopy(model)
    examples = examples or (answer_examples() if method.objective == "nll" else pair_examples(model))
    return model, adapters.train(model, examples, method, settings, LORA, folder / "adapter_model.safetensors")


@pytest.mark.parametrize("objective", registry.REGISTRY)
def test_every_objective_learns_and_starts_where_it_should(tiny_model, tmp_path, objective):
    _, history = run(tiny_model, registry.Method(objective), tmp_path / objective)
    assert [row["step"] for row in history] == list(range(1, 13))
    assert history[-1]["loss"] < history[0]["loss"]
    if objective in ("dpo", "tdpo", "cdpo", "cdpo_released"):
        assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    if objective != "nll":
        assert history[-1]["accuracy"] == 1.0
        assert history[-1]["rejected_logps"] < history[0]["rejected_logps"]
    assert sorted(p.name for p in (tmp_path / objective).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_every_adapter_weight_moves_and_no_base_weight_does(tiny_model, tmp_path):
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    model = copy.deepcopy(tiny_model)
    adapted = lora.add_adapter(model, LORA, 1)
    start = {name: p.detach().clone() for name, p in adapted.named_parameters() if p.requires_grad}
    trainer.fit(adapted, answer_examples(), likelihood.collate_weighted, likelihood.nll_objective, SETTINGS, "test")
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            assert not torch.equal(parameter, start[name]), name
        else:
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            torch.testing.assert_close(parameter, before[plain])


def test_a_merged_adapter_computes_what_was_trained(tiny_model, tmp_path):
    from peft import PeftModel

    _, _ = run(tiny_model, registry.Method("nll"), tmp_path / "sft")
    ids = torch.tensor([[5, 6, 7, 20, 21]])
    unmerged = PeftModel.from_pretrained(copy.deepcopy(tiny_model), tmp_path / "sft")
    expected = unmerged(input_ids=ids).logits
    torch.testing.assert_close(unmerged.merge_and_unload()(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(expected, tiny_model(input_ids=ids).logits, atol=1e-2)


def test_unit_weights_train_the_same_model_as_dpo(tiny_model, tmp_path):
    weights = [[1.0] * 5] * 4
    _, dpo = run(tiny_model, registry.Method("dpo"), tmp_path / "a")
    _, cdpo = run(tiny_model, registry.Method("cdpo"), tmp_path / "b", pair_examples(tiny_model, weights))
    assert [r["loss"] for r in cdpo] == pytest.approx([r["loss"] for r in dpo], abs=1e-6)


def test_weights_of_zero_leave_the_rejected_answer_to_its_own(tiny_model, tmp_path):
    """If all rejected tokens have score 1, only the chosen answer has a gradient."""
    weights = [[0.0] * 5] * 4
    examples = pair_examples(tiny_model, weights)
    batch = alignment.collate_pairs(examples)
    model = copy.deepcopy(tiny_model)
    loss, _ = alignment.objective_of(registry.Method("cdpo"))[0](model, batch)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    logps = losses.token_logps(logits, batch["input_ids"][:, 1:])
    ratio = losses.log_ratio(logps, batch["reference"], batch["answer_mask"])
    expected = losses.dpo(ratio[:4], torch.zeros(4), 1.0).mean()
    torch.testing.assert_close(loss, expected)


def test_a_run_is_reproducible_and_the_seed_matters(tiny_model, tmp_path):
    losses = [[r["loss"] for r in run(tiny_model, registry.Method("dpo"), tmp_path / str(i))[1]] for i in range(2)]
    assert losses[0] == losses[1]
    other = TrainingSettings(learning_rate=5e-3, epochs=6, batch_size=2, warmup_share=0.0, seed=2)
    _, history = run(tiny_model, registry.Method("dpo"), tmp_path / "other", settings=other)
    assert [r["loss"] for r in history] != losses[0]


def test_accumulation_gives_the_loss_of_the_larger_batch(tiny_model):
    """Two accumulated batches of one answer equal one batch of two answers."""
    last = []
    for batch_size, accumulation in ((2, 1), (1, 2)):
        settings = TrainingSettings(
            learning_rate=1e-2, epochs=4, batch_size=batch_size, accumulation=accumulation, seed=3
        )
        adapted = lora.add_adapter(copy.deepcopy(tiny_model), LORA, 1)
        trainer.fit(adapted, answer_examples(), likelihood.collate_weighted, likelihood.nll_objective, settings, "test")
        ids = torch.tensor([[5, 6, 7, 20, 21]])
        last.append(adapted(input_ids=ids).logits.detach())
    torch.testing.assert_close(*last, atol=2e-4, rtol=1e-3)


def test_a_diverging_training_stops_and_leaves_nothing(tiny_model, tmp_path):
    settings = TrainingSettings(learning_rate=1e30, epochs=3, batch_size=2, warmup_share=0.0, max_grad_norm=0.0)
    with pytest.raises(
        trainer.TrainingDivergedError, match=r"loss is (nan|inf) at step \d+ \(learning_rate=1e\+30, epochs=3"
    ):
        run(tiny_model, registry.Method("nll"), tmp_path / "sft", settings=settings)
    assert not (tmp_path / "sft").exists()


def test_nothing_to_train_on_is_an_error(tiny_model, tmp_path):
    with pytest.raises(ArtifactError, match="no example to train on"):
        adapters.train(
            tiny_model, [], registry.Method("nll"), SETTINGS, LORA, tmp_path / "x" / "adapter_model.safetensors"
        )


def test_numbers_that_do_not_fit_the_tokens_are_refused():
    with pytest.raises(ValueError, match="for answers of 2, 3 tokens"):
        alignment.pair_example([1], [2, 3], [4, 5, 6], None, [0.5, 0.5])
    with pytest.raises(ValueError, match="for answers of 2, 3 tokens"):
        alignment.pair_example([1], [2, 3], [4, 5, 6], ([0.0], [0.0] * 3))


def test_pairs_are_aligned_with_their_predictions():
    batch = alignment.collate_pairs([
        alignment.pair_example([1, 5], [7, 2], [8, 9, 2], ([-1, -2], [-3, -4, -5]), [0.1, 0.2, 0.3]),
        alignment.pair_example([1, 5, 6], [7], [8], ([-6], [-7]), [0.4]),
    ])  # fmt: skip
    assert batch["input_ids"].tolist() == [[1, 5, 7, 2, 0], [1, 5, 6, 7, 0], [1, 5, 8, 9, 2], [1, 5, 6, 8, 0]]
    assert batch["answer_mask"].tolist() == [[0, 1, 1, 0], [0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 1, 0]]
    assert batch["reference"].tolist() == [[0, -1, -2, 0], [0, 0, -6, 0], [0, -3, -4, -5], [0, 0, -7, 0]]
    expected = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0.1, 0.2, 0.3], [0, 0, 0.4, 0]])
    torch.testing.assert_close(batch["weights"], expected)


def test_recomputed_activations_change_nothing(tiny_model, tmp_path):
    _, plain = run(tiny_model, registry.Method("dpo"), tmp_path / "plain")
    again = dataclasses.replace(SETTINGS, gradient_checkpointing=True)
    _, recomputed = run(tiny_model, registry.Method("dpo"), tmp_path / "again", settings=again)
    for a, b in zip(plain, recomputed, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)


def test_packed_answers_train_the_same_model(tiny_model, tmp_path):
    """No answer of a packed row sees another, and first tokens are not trained on."""
    examples = [alignment.answer_example([5, 6, 7 + i], [20 + i, 21, *range(30, 30 + i), 2]) for i in range(4)]
    examples.append(
        {"input_ids": [8, 9, 10], "weights": [1.0, 1.0, 1.0]}
    )  # the first token has a weight, but is not predicted
    settings = dataclasses.replace(SETTINGS, batch_size=5)
    _, padded = run(tiny_model, registry.Method("nll"), tmp_path / "padded", examples, settings)
    packing = dataclasses.replace(settings, packing=True)
    _, packed = run(tiny_model, registry.Method("nll"), tmp_path / "packed", examples, packing)
    assert len(padded) == 6
    for a, b in zip(padded, packed, strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_the_released_loss_is_the_mean_over_all_columns(tiny_model):
    """The columns of the common prompt count, although they are not computed."""
    examples = pair_examples(tiny_model, [[0.2] * 5] * 4)
    objective, collate = alignment.objective_of(registry.Method("cdpo_released", {"gamma": 0.5}))
    batch = collate(examples)
    whole = {name: value.clone() for name, value in batch.items()}
    logps = losses.token_logps(likelihood.predictions(tiny_model, whole, 0), whole["input_ids"][:, 1:])
    by_token = losses.cdpo_released(logps, whole["reference"] - 0.3, whole["answer_mask"], whole["weights"], 4, 0.5)
    batch["reference"] = batch["reference"] - 0.3
    loss, _ = objective(tiny_model, batch)
    assert likelihood.first_wanted(batch["answer_mask"]) > 0
    torch.testing.assert_close(loss, by_token.mean())
