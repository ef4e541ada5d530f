"""What a method may ask for: objectives of the registry, layers that a model has, inputs that it
can read.
"""

import copy
import dataclasses
import subprocess
import sys
import typing

import pytest
import torch
from conftest import ROOT
from test_updates import LORA, scored_pairs, unlike_examples
from trainable import tiny, tiny_config

from critical_tokens.core.records import Failure
from critical_tokens.models import lora
from critical_tokens.objectives import contrast, log_probabilities, registry
from critical_tokens.training import adapters, alignment, trainer
from critical_tokens.training.settings import TrainingSettings


def test_an_unknown_objective_is_refused_at_every_door(monkeypatch):
    with pytest.raises(Failure, match="objective is 'simpo', must be one of nll, dpo, rpo, tdpo, cdpo, cdpo_released"):
        alignment.Method("simpo")
    method = alignment.Method("dpo")
    object.__setattr__(method, "objective", "simpo")
    with pytest.raises(Failure, match="objective is 'simpo'"):
        alignment.objective_of(method)
    command = [sys.executable, str(ROOT / "scripts" / "align.py"), "--objective", "simpo"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "invalid choice: 'simpo'" in result.stderr


def test_a_new_objective_is_a_function_and_an_entry(tiny_model, tmp_path, monkeypatch):
    """The hinge loss on log-ratios, brought along from outside."""

    def hinge(batch):
        chosen, rejected = batch.ratios()
        return torch.relu(1 - batch.method.gamma * (chosen - rejected))

    monkeypatch.setitem(registry.REGISTRY, "hinge", registry.Preference(hinge))
    examples = scored_pairs(tiny_model)
    settings = TrainingSettings(learning_rate=5e-3, epochs=3, batch_size=2, warmup_share=0.0)
    output = tmp_path / "a" / "adapter_model.safetensors"
    history = adapters.train(copy.deepcopy(tiny_model), examples, alignment.Method("hinge"), settings, LORA, output)
    assert history[0]["loss"] == pytest.approx(1.0, abs=1e-4)
    assert history[-1]["loss"] < 0.9


class Watched(registry.Method):
    """A method that notes which of its fields are read."""

    read: typing.ClassVar[set] = set()

    def __getattribute__(self, field):
        Watched.read.add(field)
        return super().__getattribute__(field)


def test_the_registry_names_the_constants_that_an_objective_reads():
    """A constant that is not named is not handed on by the rules: the default would be trained with
    in silence.
    """
    fields = {field.name for field in dataclasses.fields(registry.Method)} - {"objective"}
    generator = torch.Generator().manual_seed(0)
    logps = -torch.rand(4, 6, generator=generator)
    logits = torch.randn(4, 6, 9, generator=generator)
    one = torch.tensor(1.0)
    for name, entry in registry.REGISTRY.items():
        if entry.data == "answers":
            assert entry.constants == ()
            continue
        read = Watched.read = set()
        batch = registry.Compared(
            Watched(name), logps, logps.flip(0), torch.ones(4, 6), torch.full((4, 6), 0.5), logits, logits.flip(0),
            all_pairs=2 * one, all_tokens=12 * one, all_columns=7 * one,
        )  # fmt: skip
        entry.losses(batch)
        assert read & fields == set(entry.constants), name


# --- layers, lengths, numbers


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "mixtral", "gpt_oss"])
def test_layers_that_a_model_lacks_are_named_with_the_key(name):
    layers = ("gate_proj", "up_proj", "down_proj")
    missing, present = alignment.missing_layers(tiny_config(name), layers)
    assert missing == list(layers)
    model = tiny(name)
    assert present == sorted({n.rpartition(".")[2] for n in lora.linear_layers(model)})
    words = r"contrast\.lora\.layers .*alignment\.lora\.layers .* has no linear layer named gate_proj, .*; it has \w+"
    with pytest.raises(Failure, match=words):
        alignment.add_adapter(model, alignment.Lora(4, 8, 0.0, layers), 1)
    assert alignment.missing_layers(tiny_config(name), tuple(present)) == ([], present)
    assert alignment.missing_layers(tiny_config(name), "all-linear") == ([], present)


def test_one_missing_layer_among_others_is_refused(tiny_model):
    with pytest.raises(Failure, match="has no linear layer named w1; it has down_proj, "):
        alignment.add_adapter(copy.deepcopy(tiny_model), alignment.Lora(4, 8, 0.0, ("gate_proj", "w1")), 1)
    with pytest.raises(Failure, match=r"is '\.\*proj', must be all-linear or a list"):
        alignment.add_adapter(copy.deepcopy(tiny_model), alignment.Lora(4, 8, 0.0, ".*proj"), 1)


def test_layers_that_cannot_have_an_adapter_are_refused():
    with pytest.raises(Failure, match="MambaForCausalLM cannot have such adapters on all of these"):
        alignment.add_adapter(tiny("mamba"), LORA, 1)


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
    function, collate = alignment.objective_of(alignment.Method(objective))
    adapted = alignment.add_adapter(model, LORA, 1)
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
    history = adapters.train(model, examples, alignment.Method(objective, 0.1), settings, LORA, output)
    assert history[-1]["loss"] < history[0]["loss"]
