"""A stopped training continues if nothing has changed, and starts anew if anything has."""

import copy
import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from trainable import method_with

from critical_tokens.core import versions
from critical_tokens.models import lora
from critical_tokens.objectives import registry
from critical_tokens.training import adapters, alignment, resumption
from critical_tokens.training.settings import TrainingSettings

pytestmark = pytest.mark.workflow

LORA = lora.Lora(4, 8, 0.1, "all-linear")
SETTINGS = TrainingSettings(5e-3, 6, 2, warmup_share=0.0, checkpoint_updates=3, seed=1)
METHOD = registry.Method("cdpo", {"gamma": 0.5})
NAMES = ["adapter_config.json", "adapter_model.safetensors"]


def pairs(last=43):
    """Four pairs; the last but one token of each rejected answer is a parameter."""
    return [
        alignment.pair_example(
            [5, 6, 7 + i],
            [20 + i, 21, 2],
            [40 + i, 41, 42, last, 2],
            ([-5.0] * 3, [-5.0] * 5),
            [0.1, 0.9, 0.5, 0.7, 1.0],
        )
        for i in range(4)
    ]


def answers():
    return [alignment.answer_example([5, 6, 7 + i], [20 + i, 21, 2]) for i in range(4)]


def train(folder, model, method=METHOD, settings=SETTINGS, lora=LORA, examples=None):
    """The history and the adapter of a training."""
    output = folder / "adapter_model.safetensors"
    examples = examples or (answers() if method.objective == "nll" else pairs())
    history = adapters.train(copy.deepcopy(model), examples, method, settings, lora, output)
    assert sorted(p.name for p in folder.iterdir()) == NAMES
    return history, load_file(output)


def stop(monkeypatch, folder, model, after=7, **own):
    """Start a training and kill it after `after` batches; its last checkpoint remains."""
    objective_of = alignment.objective_of
    seen = []

    def stopping(method, packing):
        inner, collate = objective_of(method, packing)

        def objective(model, batch):
            seen.append(1)
            if len(seen) > after:
                raise KeyboardInterrupt
            return inner(model, batch)

        return objective, collate

    with monkeypatch.context() as patched:
        patched.setattr(alignment, "objective_of", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(folder, model, **own)


def count_batches(monkeypatch):
    """A list that grows with every batch that is trained on."""
    objective_of = alignment.objective_of
    seen = []

    def counting(method, packing):
        inner, collate = objective_of(method, packing)
        return lambda model, batch: (seen.append(1), inner(model, batch))[1], collate

    monkeypatch.setattr(alignment, "objective_of", counting)
    return seen


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("objective", ["nll", "cdpo"])
def test_a_stopped_training_goes_on_to_the_same_adapter(tiny_model, tmp_path, monkeypatch, objective, packing, dtype):
    """A checkpoint has the random state, so dropout and the order of examples are the same."""
    own = {"method": method_with(objective, 0.5)}
    own["settings"] = dataclasses.replace(SETTINGS, packing=packing, bf16=dtype == torch.bfloat16)
    tiny_model = copy.deepcopy(tiny_model).to(dtype)
    undisturbed, expected = train(tmp_path / "whole", tiny_model, **own)
    stop(monkeypatch, tmp_path / "stopped", tiny_model, **own)
    written = list((tmp_path / "stopped" / "checkpoints" / "checkpoint-6").rglob("*.safetensors"))
    assert [path.name for path in written] == ["adapter_model.safetensors"]  # the base model is not written
    assert [p.name for p in (tmp_path / "stopped" / "checkpoints").iterdir()] == ["checkpoint-6"]
    seen = count_batches(monkeypatch)
    history, found = train(tmp_path / "stopped", tiny_model, **own)
    assert len(seen) == 6  # 12 updates, 6 of them done before
    assert history == undisturbed
    assert same(found, expected)


def warmer(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight.mul_(1.01)
    return other


CHANGES = {
    "rate": {"settings": dataclasses.replace(SETTINGS, learning_rate=1e-3)},
    "gamma": {"method": registry.Method("cdpo", {"gamma": 0.1})},
    "objective": {"method": registry.Method("dpo", {"gamma": 0.5})},
    "pairs": {"examples": pairs(last=50)},
    "rank": {"lora": lora.Lora(8, 8, 0.1, "all-linear")},
    "dropout": {"lora": lora.Lora(4, 8, 0.0, "all-linear")},
    "epochs": {"settings": dataclasses.replace(SETTINGS, epochs=5)},
    "seed": {"settings": dataclasses.replace(SETTINGS, seed=2)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_training_of_other_settings_or_data_begins_anew(tiny_model, tmp_path, monkeypatch, capsys, change):
    stop(monkeypatch, tmp_path / "stopped", tiny_model)
    capsys.readouterr()
    own = CHANGES[change]
    history, found = train(tmp_path / "stopped", tiny_model, **own)
    said = capsys.readouterr().err
    assert "checkpoints/checkpoint-6 thrown away: incomplete, or made with other settings, data, model or code" in said
    expected_history, expected = train(tmp_path / "fresh", tiny_model, **own)
    assert "thrown away" not in capsys.readouterr().err
    assert history == expected_history
    assert same(found, expected)


def test_another_model_or_other_code_begins_anew(tiny_model, tmp_path, monkeypatch):
    expected = train(tmp_path / "fresh", warmer(tiny_model))[1]
    stop(monkeypatch, tmp_path / "model", tiny_model)
    assert same(train(tmp_path / "model", warmer(tiny_model))[1], expected)
    stop(monkeypatch, tmp_path / "code", tiny_model)
    monkeypatch.setattr(versions, "code_version", lambda program: "another")
    seen = count_batches(monkeypatch)
    train(tmp_path / "code", tiny_model)
    assert len(seen) == 12


@pytest.mark.parametrize("state", [None, "[]", "{}", '{"digest": "x", "rows": []}', "{"])
def test_a_checkpoint_that_is_not_complete_is_thrown_away(tiny_model, tmp_path, monkeypatch, state):
    """The file that marks a checkpoint is written last.

    A training that was killed while it wrote a checkpoint therefore has none.
    """
    expected = train(tmp_path / "fresh", tiny_model)[1]
    stop(monkeypatch, tmp_path / "stopped", tiny_model)
    file = tmp_path / "stopped" / "checkpoints" / "checkpoint-6" / resumption._STATE
    if state is None:
        file.unlink()
    else:
        file.write_text(state)
    seen = count_batches(monkeypatch)
    assert same(train(tmp_path / "stopped", tiny_model)[1], expected)
    assert len(seen) == 12


def test_an_older_complete_checkpoint_counts_where_the_last_is_not(tiny_model, tmp_path, monkeypatch):
    stop(monkeypatch, tmp_path / "stopped", tiny_model)
    folder = tmp_path / "stopped" / "checkpoints"
    (folder / "checkpoint-9").mkdir()
    seen = count_batches(monkeypatch)
    assert same(train(tmp_path / "stopped", tiny_model)[1], train(tmp_path / "fresh", tiny_model)[1])
    assert len(seen) == 6 + 12
