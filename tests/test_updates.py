"""Updates of a training: the same however they are split, and without unintended randomness."""

import copy
import json
import math
import random
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from trainable import NAMES, method_with, tiny

from critical_tokens.core.records import Failure
from critical_tokens.models import lora
from critical_tokens.objectives import log_probabilities, packing, registry
from critical_tokens.training import adapters, alignment, likelihood, trainer, updates
from critical_tokens.training.settings import TrainingSettings

LORA = lora.Lora(4, 8, 0.0, "all-linear")
LENGTHS = (2, 3, 20, 24, 5, 2, 17, 9)


def unlike_examples(objective, model, count=8):
    """Examples of very different lengths.

    The reference of pairs is not the policy, so that every term has a gradient.
    """
    rng = random.Random(3)
    ids = lambda n: [rng.randrange(3, 100) for _ in range(n)]  # noqa: E731
    if objective == "nll":
        return [alignment.answer_example(ids(4), [*ids(LENGTHS[i]), 2]) for i in range(count)]
    pairs = [(ids(2 + i % 3), [*ids(LENGTHS[i]), 2], [*ids(LENGTHS[-1 - i]), 2]) for i in range(count)]
    return [
        alignment.pair_example(
            p, c, r, ([-5.0 - rng.random() for _ in c], [-5.0 - rng.random() for _ in r]), [rng.random() for _ in r]
        )
        for p, c, r in pairs
    ]


class Gradients(torch.optim.SGD):
    """An optimiser that records the gradient of every update."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=1e-3)
        self.kept = []

    def step(self, closure=None):
        self.kept.append(torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]]))
        return super().step(closure)


def gradients(monkeypatch, model, objective, batch_size, accumulation, packing=False, count=8):
    """The gradient of every update of an epoch, and the training's history."""
    kept = []

    def create_optimizer(self, model=None):
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = Gradients(parameters)
        kept.append(self.optimizer)
        return self.optimizer

    monkeypatch.setattr(trainer._ObjectiveTrainer, "create_optimizer", create_optimizer)
    settings = TrainingSettings(
        learning_rate=1e-3, epochs=1, batch_size=batch_size, accumulation=accumulation, warmup_share=0.0,
        max_grad_norm=0.0, packing=packing, seed=1,
    )  # fmt: skip
    adapted = lora.add_adapter(copy.deepcopy(model), LORA, 1)
    function, collate = alignment.objective_of(method_with(objective, 0.3), packing)
    examples = unlike_examples(objective, model, count)
    done = trainer.fit(adapted, examples, collate, function, settings, "test")
    return kept[0].kept, done.history


CUTS = [(objective, packing) for objective in registry.REGISTRY for packing in (False, True)]


@pytest.mark.parametrize(("objective", "packing"), CUTS)
@pytest.mark.parametrize("count", [8, 7], ids=["full", "incomplete"])
def test_an_update_has_the_same_gradient_however_it_is_cut(tiny_model, monkeypatch, objective, packing, count):
    """Batch size times accumulation is 8 x 1, 2 x 4 or 1 x 8.

    With seven examples the last batch of 2 x 4 is smaller than the others.
    """
    whole, history = gradients(monkeypatch, tiny_model, objective, 8, 1, packing, count)
    for batch_size, accumulation in ((2, 4), (1, 8)):
        parts, own = gradients(monkeypatch, tiny_model, objective, batch_size, accumulation, packing, count)
        assert len(whole) == len(parts) == 1
        assert float((parts[0] - whole[0]).norm() / whole[0].norm()) < 1e-6
        assert own[0] == pytest.approx(history[0], rel=1e-5)


def test_an_incomplete_last_update_counts_its_own_tokens(tiny_model, monkeypatch):
    """Of eight examples in updates of three, the last two weigh as much as in a batch of two."""
    whole, history = gradients(monkeypatch, tiny_model, "nll", 3, 1)
    parts, own = gradients(monkeypatch, tiny_model, "nll", 1, 3)
    assert len(whole) == len(parts) == 3
    for a, b in zip(whole, parts, strict=True):
        assert float((a - b).norm() / a.norm()) < 1e-4  # the models differ by rounding after the first update
    assert [row["loss"] for row in own] == pytest.approx([row["loss"] for row in history], rel=1e-5)


@pytest.mark.parametrize(
    ("count", "batch_size", "accumulation", "epochs"), [(10, 1, 4, 3), (10, 4, 2, 2), (3, 8, 2, 2.5)]
)
def test_announced_updates_are_those_made_and_warm_up_is_their_share(
    tiny_model, capsys, monkeypatch, count, batch_size, accumulation, epochs
):
    seen = {}

    def create_scheduler(self, num_training_steps, optimizer=None):
        scheduler = original(self, num_training_steps, optimizer)
        seen["warmup"] = self.args.get_warmup_steps(num_training_steps)
        return scheduler

    original = trainer._ObjectiveTrainer.create_scheduler
    monkeypatch.setattr(trainer._ObjectiveTrainer, "create_scheduler", create_scheduler)
    settings = TrainingSettings(
        learning_rate=1e-3, epochs=epochs, batch_size=batch_size, accumulation=accumulation, warmup_share=0.5
    )
    examples = [alignment.answer_example([5, 6], [7, 8 + i]) for i in range(count)]
    adapted = lora.add_adapter(copy.deepcopy(tiny_model), LORA, 1)
    done = trainer.fit(adapted, examples, likelihood.collate_weighted, likelihood.nll_objective, settings, "x")
    updates = math.ceil(math.ceil(math.ceil(count / batch_size) / accumulation) * epochs)
    assert done.history[-1]["step"] == updates
    assert f"x: {updates} updates in" in capsys.readouterr().err
    assert seen["warmup"] == math.ceil(0.5 * updates)


# --- several processes


def test_blanks_fill_a_batch_and_count_nothing(tiny_model):
    examples = unlike_examples("cdpo", tiny_model, 3)
    filled = updates.filled(examples, 4)
    assert [e["blank"] for e in filled] == [False, False, False, True]
    assert list(updates.FilledOrder(3, 4, 0))[-1] == 3
    assert sorted(updates.FilledOrder(3, 4, 0)) == [0, 1, 2, 3]
    for objective in registry.REGISTRY:
        own = unlike_examples(objective, tiny_model, 3)
        function, collate = alignment.objective_of(method_with(objective, 0.3))
        model = lora.add_adapter(copy.deepcopy(tiny_model), LORA, 1)
        together = updates.without_blanks(collate)(updates.filled(own, 4))
        assert function(model, together)[0].item() == pytest.approx(function(model, collate(own))[0].item())
        alone = updates.without_blanks(collate)(updates.filled(own, 4)[3:])
        counts = updates.counts_of_update([collate(own), alone])
        loss, numbers = function(model, alone | counts)
        assert loss.item() == 0
        assert not any(numbers.values())
        loss.backward()
        assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


_SHARED = """
import json, sys
sys.path[:0] = [{scripts!r}, {tests!r}]
import test_updates as t
from pathlib import Path
from trainable import tiny
settings = t.TrainingSettings(1e-2, 2, 4, warmup_share=0.0, max_grad_norm=0.0, seed=1)
history = t.adapters.train(
    tiny("llama"), t.unlike_examples("rpo", None, 5), t.method_with("rpo", 0.3), settings, t.LORA, Path(sys.argv[1])
)
if len(sys.argv) > 2:
    Path(sys.argv[2]).write_text(json.dumps(history))
"""


@pytest.mark.workflow
def test_processes_that_share_a_model_train_what_one_does(tmp_path):
    """Five pairs in batches of four: one process has a pair of the last update, the other none."""
    from safetensors.torch import load_file

    program = tmp_path / "train.py"
    program.write_text(_SHARED.format(scripts=str(ROOT / "scripts"), tests=str(ROOT / "tests")))
    launched = [
        sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
        "--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no",
    ]  # fmt: skip
    for name, start in (("one", [sys.executable]), ("two", launched)):
        command = [
            *start,
            str(program),
            str(tmp_path / name / "adapter_model.safetensors"),
            str(tmp_path / f"{name}.json"),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr[-2000:]
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-5)
    first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, atol=1e-5, rtol=1e-4)


# --- randomness


def scored_pairs(model):
    prompts, chosen = [[5, 6, 7 + i] for i in range(2)], [[20 + i, 21, 2] for i in range(2)]
    rejected = [[40 + i, 41, 42, 43, 2] for i in range(2)]
    logps = [
        log_probabilities.answer_logps(
            model, [log_probabilities.PromptCompletion(p, a) for p, a in zip(prompts, side, strict=True)], 1000
        )
        for side in (chosen, rejected)
    ]
    return [alignment.pair_example(prompts[i], chosen[i], rejected[i], (logps[0][i], logps[1][i])) for i in range(2)]


@pytest.mark.parametrize("name", [n for n in NAMES if n != "mamba"])
@pytest.mark.parametrize("objective", ["dpo", "tdpo"])
def test_preference_training_starts_at_log_two_in_every_architecture(name, objective, tmp_path):
    """The dropout of the base model is off, and the adapter is zero before the first update."""
    model = tiny(name)
    examples = scored_pairs(model)
    settings = TrainingSettings(learning_rate=1e-3, epochs=1, batch_size=2, warmup_share=0.0)
    # PEFT has no dropout for the experts of a mixture, because they are one tensor.
    own = lora.Lora(4, 8, 0.0 if name == "mixtral" else 0.3, "all-linear")
    history = adapters.train(
        model, examples, registry.Method(objective), settings, own, tmp_path / "a" / "adapter_model.safetensors"
    )
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_the_adapters_own_dropout_is_kept():
    adapted = lora.add_adapter(tiny("gpt2"), lora.Lora(4, 8, 0.3, "all-linear"), 1)
    rates = {
        type(m).__name__: m.p for n, m in adapted.named_modules() if isinstance(m, torch.nn.Dropout) and "lora" in n
    }
    assert rates == {"Dropout": 0.3}
    assert adapted.base_model.model.config.resid_pdrop == 0


def test_a_model_that_stays_random_is_refused(tiny_model):
    model = copy.deepcopy(tiny_model)
    model.model.norm.register_forward_hook(lambda module, inputs, output: output + torch.rand(1) * module.training)
    with pytest.raises(Failure, match="LlamaForCausalLM gives other logits each time in training mode"):
        lora.add_adapter(model, LORA, 1)


# --- packing

# The tiny models whose answers do not see one another in a packed row.
APART = ("llama", "gpt2", "gpt_neox", "opt", "phi", "mixtral")


def gradient(model, function, batch):
    """The loss, its numbers, and the gradient of the adapter."""
    model.zero_grad()
    loss, numbers = function(model, batch)
    loss.backward()
    return loss.item(), numbers, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", [n for n in NAMES if n != "mamba"])  # PEFT adapts no layer of Mamba by default
@pytest.mark.parametrize("objective", registry.REGISTRY)
def test_packed_examples_have_the_loss_and_the_gradient_of_padded_ones(name, objective, capsys):
    """Where answers in one row see one another, padded rows are used, and this is told."""
    model = lora.add_adapter(tiny(name), LORA, 1)
    torch.manual_seed(0)
    for parameter in model.parameters():  # otherwise the second matrix of an adapter is 0
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    model.config.use_cache = False
    examples = unlike_examples(objective, model)
    found = []
    for packed in (False, True):
        function, collate = alignment.objective_of(method_with(objective, 0.3), packed)
        found.append(gradient(model, function, collate(examples)))
    (loss, numbers, padded), (own_loss, own_numbers, own) = found
    assert own_loss == pytest.approx(loss, rel=1e-5)
    assert own_numbers == pytest.approx(numbers, rel=1e-4)
    assert float((own - padded).norm() / padded.norm()) < 1e-4
    assert ("does not keep answers in one row apart" in capsys.readouterr().err) == (name not in APART)


@pytest.mark.parametrize("name", NAMES)
def test_packed_answers_have_the_loss_of_padded_ones_in_half_precision(name):
    model = tiny(name).to(torch.bfloat16)
    model.config.use_cache = False
    examples = unlike_examples("nll", model)
    losses = []
    for packed in (False, True):
        objective, collate = alignment.objective_of(registry.Method("nll"), packed)
        losses.append(objective(model, collate(examples))[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_model_is_tried_for_packing_once(tiny_model, monkeypatch):
    calls = []
    monkeypatch.setattr(packing, "_try_out", lambda model, batch: calls.append(model) or (False, False))
    objective, collate = alignment.objective_of(registry.Method("nll"), True)
    for _ in range(3):
        objective(tiny_model, collate(unlike_examples("nll", tiny_model)))
    assert calls == [tiny_model]


def test_the_released_loss_is_that_of_one_batch_of_the_update(tiny_model):
    """Each part of an update is divided by the columns of the update's longest row."""
    examples = unlike_examples("cdpo_released", tiny_model)
    function, collate = alignment.objective_of(registry.Method("cdpo_released", {"gamma": 0.3}))
    whole = float(function(tiny_model, collate(examples))[0])
    parts = [collate(examples[i : i + 2]) for i in range(0, 8, 2)]
    counts = updates.counts_of_update(parts)
    assert int(counts["columns"]) == max(batch["input_ids"].shape[1] for batch in parts)
    assert sum(float(function(tiny_model, batch | counts)[0]) for batch in parts) == pytest.approx(whole, rel=1e-5)
    assert sum(float(function(tiny_model, batch)[0]) for batch in parts) / 4 != pytest.approx(whole, rel=1e-5)
