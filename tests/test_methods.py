"""What a method needs: an objective of the registry, existing layers, inputs of allowed length."""

import copy
import importlib
import os
import re
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from test_updates import LORA, scored_pairs, unlike_examples
from trainable import method_with, tiny, tiny_config

from critical_tokens.core.records import Failure
from critical_tokens.models import lora
from critical_tokens.objectives import contrast, log_probabilities, registry
from critical_tokens.training import adapters, alignment, trainer
from critical_tokens.training.settings import TrainingSettings


def test_an_unknown_objective_is_refused_at_every_door(monkeypatch):
    with pytest.raises(Failure, match="objective is 'simpo', must be one of nll, dpo, rpo, tdpo, cdpo, cdpo_released"):
        registry.Method("simpo")
    method = registry.Method("dpo")
    object.__setattr__(method, "objective", "simpo")
    with pytest.raises(Failure, match="objective is 'simpo'"):
        alignment.objective_of(method)
    command = [sys.executable, str(ROOT / "scripts" / "align.py"), "--objective", "simpo"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "invalid choice: 'simpo'" in result.stderr


NEW_OBJECTIVE = '''"""An objective from outside the library: the hinge loss on log-ratios, with a margin of its own."""

import torch

from critical_tokens.objectives.registry import REGISTRY, Constant, Preference


def hinge(batch):
    chosen, rejected = batch.ratios()
    return torch.relu(batch.constants["margin"] - (chosen - rejected))


MARGIN = Constant(1.0, "margin of the hinge loss", exclusive_minimum=0, maximum=10)
REGISTRY["hinge"] = Preference("hinge loss on log-ratios", hinge, {"margin": MARGIN})
'''


@pytest.fixture
def hinge(tmp_path, monkeypatch):
    """The name of an objective that a file outside the library registers, and the file's folder."""
    (tmp_path / "hinge_objective.py").write_text(NEW_OBJECTIVE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "REGISTRY", dict(registry.REGISTRY))
    importlib.import_module("hinge_objective")
    yield "hinge", tmp_path
    sys.modules.pop("hinge_objective")


def test_an_objective_from_a_file_outside_the_library_is_trained(tiny_model, hinge):
    """A new objective with a constant of its own is a function and an entry."""
    name, folder = hinge
    settings = TrainingSettings(learning_rate=5e-3, epochs=3, batch_size=2, warmup_share=0.0)
    for method, first in ((registry.Method(name), 1.0), (registry.Method(name, {"margin": 2.5}), 2.5)):
        output = folder / str(first) / "adapter_model.safetensors"
        examples = scored_pairs(tiny_model)
        history = adapters.train(copy.deepcopy(tiny_model), examples, method, settings, LORA, output)
        assert history[0]["loss"] == pytest.approx(first, abs=1e-4)
        assert history[-1]["loss"] < 0.9 * first
        assert output.is_file()
    with pytest.raises(Failure, match="objective hinge has no constant gamma; its constants: margin"):
        registry.Method(name, {"gamma": 0.5})
    with pytest.raises(Failure, match="objective hinge: margin is 11, must be at most 10"):
        registry.Method(name, {"margin": 11})


def test_the_program_offers_an_objective_from_outside_and_its_constant(hinge):
    _, folder = hinge
    program = (
        f"import runpy, hinge_objective; runpy.run_path({str(ROOT / 'scripts' / 'align.py')!r}, run_name='__main__')"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "scripts")]), "COLUMNS": "200"}
    result = subprocess.run(
        [sys.executable, "-c", program, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    assert "cdpo_released,hinge}" in result.stdout
    assert re.search(r"--margin MARGIN +margin of the hinge loss", result.stdout)


def test_constants_have_defaults_and_bounds():
    assert registry.Method("rpo", {"gamma": 0.5}).constants == {"gamma": 0.5, "rpo_alpha": 1.0}
    assert registry.Method("nll").constants == {}
    for objective, constants, words in (
        ("dpo", {"rpo_alpha": 1.0}, "objective dpo has no constant rpo_alpha; its constants: gamma"),
        ("nll", {"gamma": 1.0}, "objective nll has no constant gamma; its constants: none"),
        ("dpo", {"gamma": 0.0}, "objective dpo: gamma is 0.0, must be above 0"),
        ("dpo", {"gamma": float("nan")}, "objective dpo: gamma is nan, must be above 0"),
        ("dpo", {"gamma": "1"}, "objective dpo: gamma is '1', must be a number"),
        ("rpo", {"rpo_alpha": -1.0}, "objective rpo: rpo_alpha is -1.0, must be at least 0"),
        ("tdpo", {"tdpo_variant": 3}, "objective tdpo: tdpo_variant is 3, must be at most 2"),
        ("tdpo", {"tdpo_variant": 1.5}, "objective tdpo: tdpo_variant is 1.5, must be a whole number"),
    ):
        with pytest.raises(Failure, match=f"^{re.escape(words)}$"):
            registry.Method(objective, constants)


def test_every_constant_has_one_meaning(monkeypatch):
    assert list(registry.all_constants()) == ["gamma", "rpo_alpha", "tdpo_variant", "tdpo_alpha"]
    for constant in registry.all_constants().values():
        assert constant.description
        assert constant.mistake(constant.default) is None
    other = registry.Preference(
        "another", lambda batch: batch.logps, {"gamma": registry.Constant(2.0, "another gamma")}
    )
    monkeypatch.setitem(registry.REGISTRY, "another", other)
    with pytest.raises(Failure, match="objective another declares the constant gamma differently"):
        registry.all_constants()


class Watched(dict):
    """Constants that note which of them are read."""

    def __init__(self, constants):
        super().__init__(constants)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)


def test_the_registry_names_the_constants_that_an_objective_reads():
    """An objective reads all constants that it declares, and no others."""
    generator = torch.Generator().manual_seed(0)
    logps = -torch.rand(4, 6, generator=generator)
    logits = torch.randn(4, 6, 9, generator=generator)
    one = torch.tensor(1.0)
    for name, entry in registry.REGISTRY.items():
        if entry.data == "answers":
            assert entry.constants == {}
            continue
        constants = Watched(registry.Method(name).constants)
        batch = registry.Compared(
            constants, logps, logps.flip(0), torch.ones(4, 6), torch.full((4, 6), 0.5),
            lambda: logits, lambda: logits.flip(0),
            all_pairs=2 * one, all_tokens=12 * one, all_columns=7 * one,
        )  # fmt: skip
        entry.losses(batch)
        assert constants.read == set(entry.constants), name


# --- layers, lengths, numbers


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "mixtral", "gpt_oss"])
def test_layers_that_a_model_lacks_are_named_with_the_key(name):
    layers = ("gate_proj", "up_proj", "down_proj")
    missing, present = lora.missing_layers(tiny_config(name), layers)
    assert missing == list(layers)
    model = tiny(name)
    assert present == sorted({n.rpartition(".")[2] for n in lora.linear_layers(model)})
    words = r"contrast\.lora\.layers .*alignment\.lora\.layers .* has no linear layer named gate_proj, .*; it has \w+"
    with pytest.raises(Failure, match=words):
        lora.add_adapter(model, lora.Lora(4, 8, 0.0, layers), 1)
    assert lora.missing_layers(tiny_config(name), tuple(present)) == ([], present)
    assert lora.missing_layers(tiny_config(name), "all-linear") == ([], present)


def test_one_missing_layer_among_others_is_refused(tiny_model):
    with pytest.raises(Failure, match="has no linear layer named w1; it has down_proj, "):
        lora.add_adapter(copy.deepcopy(tiny_model), lora.Lora(4, 8, 0.0, ("gate_proj", "w1")), 1)
    with pytest.raises(Failure, match=r"is '\.\*proj', must be all-linear or a list"):
        lora.add_adapter(copy.deepcopy(tiny_model), lora.Lora(4, 8, 0.0, ".*proj"), 1)


def test_layers_that_cannot_have_an_adapter_are_refused():
    with pytest.raises(Failure, match="MambaForCausalLM cannot have such adapters on all of these"):
        lora.add_adapter(tiny("mamba"), LORA, 1)


@pytest.mark.parametrize("objective", ["nll", "dpo"])
def test_an_example_beyond_the_context_is_refused_by_its_problem(objective):
    model = tiny("gpt2")
    answer = list(range(3, 63))
    example = (
        alignment.answer_example([5] * 100, answer, "train-00007")
        if objective == "nll"
        else alignment.pair_example([5] * 100, [2], answer, problem_id="train-00007")
    )
    settings = TrainingSettings(learning_rate=1e-3, epochs=1, batch_size=1)
    function, collate = alignment.objective_of(registry.Method(objective))
    adapted = lora.add_adapter(model, LORA, 1)
    words = "problem train-00007: its prompt and answer have 160 tokens, but the model reads 128 at most"
    with pytest.raises(Failure, match=words):
        trainer.fit(adapted, [example], collate, function, settings, "x")
    item = log_probabilities.PromptCompletion([5] * 100, answer, "train-00007")
    with pytest.raises(Failure, match=words):
        log_probabilities.answer_logps(adapted, [item], 1000)
    with pytest.raises(Failure, match=words):
        contrast.contrastive_scores(model, model, [item], 1.0, 1000)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("objective", ["nll", "cdpo"])
def test_every_dtype_trains_without_a_gpu(tiny_model, tmp_path, objective, dtype):
    settings = TrainingSettings(
        learning_rate=5e-3, epochs=4, batch_size=8, warmup_share=0.0, bf16=dtype == "bfloat16", seed=1
    )
    model = copy.deepcopy(tiny_model).to(getattr(torch, dtype))
    examples = unlike_examples(objective, model)
    output = tmp_path / "a" / "adapter_model.safetensors"
    history = adapters.train(model, examples, method_with(objective, 0.1), settings, LORA, output)
    assert history[-1]["loss"] < history[0]["loss"]
