"""Files of weights and adapters: broken, incomplete or foreign ones are refused before use."""

import copy
import errno
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from trainable import NAMES, tiny

from critical_tokens.core.records import ArtifactError, Failure
from critical_tokens.models import adapter_files, checkpoints, lora
from critical_tokens.models.checkpoints import ModelSource
from critical_tokens.objectives import registry
from critical_tokens.training import adapters, alignment, trainer
from critical_tokens.training.settings import TrainingSettings

LORA = lora.Lora(4, 8, 0.0, "all-linear")
EXAMPLES = [alignment.answer_example([5, 6, 7 + i], [20 + i, 21, 2]) for i in range(4)]
SETTINGS = TrainingSettings(learning_rate=5e-2, epochs=2, batch_size=4, warmup_share=0.0, seed=1)


def train(model, output, lora=LORA):
    adapters.train(model, EXAMPLES, registry.Method("nll"), SETTINGS, lora, output)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model as a folder, and an adapter for it."""
    folder = tmp_path_factory.mktemp("made")
    tiny("llama").save_pretrained(folder / "model")
    train(tiny("llama"), folder / "adapter" / adapter_files.WEIGHTS)
    return folder


@pytest.fixture
def model(made, tmp_path):
    shutil.copytree(made / "model", tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def adapter(made, tmp_path):
    shutil.copytree(made / "adapter", tmp_path / "adapter")
    return tmp_path / "adapter" / adapter_files.WEIGHTS


def change_settings(adapter, **own):
    path = adapter.with_name(adapter_files.CONFIG)
    path.write_text(json.dumps(json.loads(path.read_text()) | own))


def change_tensors(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("name", [n for n in NAMES if n != "mamba"])
def test_an_adapter_is_accepted_and_computes_what_was_trained(name, tmp_path):
    """GPT-2's transposed layers and the experts of mixtures included."""
    trained = tiny(name)
    train(trained, tmp_path / "a" / adapter_files.WEIGHTS)
    ids = torch.tensor([[5, 6, 7, 20, 21]])
    merged = checkpoints.merged(tiny(name), tmp_path / "a" / adapter_files.WEIGHTS)
    with torch.no_grad():
        expected, found, base = (m(input_ids=ids).logits for m in (trained, merged, tiny(name)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(found, base, atol=1e-2)


SETTINGS_REFUSED = [
    ({"target_modules": "(.*a){30}b"}, "target_modules"),
    ({"target_modules": []}, "target_modules"),
    ({"target_modules": ["q_proj", 5]}, "target_modules"),
    ({"exclude_modules": "(.*a){30}b"}, "exclude_modules"),
    ({"layers_to_transform": [0], "layers_pattern": "(.*a){30}b"}, "layers_"),
    ({"rank_pattern": {"(.*a){30}b": 4}}, "rank_pattern"),
    ({"alpha_pattern": {".*\\.q_proj": math.inf}}, "alpha_pattern"),
    ({"r": 10**9}, "r is 1000000000"),
    ({"r": 0}, "r is 0"),
    ({"r": True}, "r is true"),
    ({"lora_alpha": math.nan}, "lora_alpha is NaN"),
    ({"lora_dropout": 2.0}, "lora_dropout"),
    ({"peft_type": "IA3"}, "peft_type"),
    ({"task_type": "SEQ_CLS"}, "task_type"),
    ({"auto_mapping": {"base_model_class": "X", "parent_library": "os"}}, "auto_mapping"),
    ({"megatron_core": "os", "megatron_config": {}}, "megatron_"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ({"use_dora": True}, "use_dora"),
    ({"trust_remote_code": True}, "trust_remote_code"),
]


@pytest.mark.parametrize(("own", "named"), SETTINGS_REFUSED, ids=[named for _, named in SETTINGS_REFUSED])
def test_settings_that_no_adapter_here_has_are_refused_before_peft_sees_them(adapter, monkeypatch, own, named):
    import peft

    monkeypatch.setattr(peft, "get_peft_model", lambda *args, **kwargs: pytest.fail("PEFT was asked"))
    change_settings(adapter, **own)
    with pytest.raises(ArtifactError, match=rf"adapter_config\.json: {named}"):
        checkpoints.merged(tiny("llama"), adapter)


def test_settings_that_are_no_settings_are_refused(adapter):
    path = adapter.with_name(adapter_files.CONFIG)
    for text, words in (
        ("[]", "is no JSON object of settings"),
        ("{", r"adapter_config\.json: "),
        ("[" * 100_000, "nested too deeply|adapter_config"),
        (json.dumps({"peft_type": "LORA"}), "r is null|_type is null"),
        (" " * (2 << 20), "larger than any adapter's settings"),
    ):
        path.write_text(text)
        with pytest.raises(ArtifactError, match=words):
            checkpoints.merged(tiny("llama"), adapter)
    path.unlink()
    with pytest.raises(ArtifactError, match=r"adapter_config\.json: cannot be read"):
        checkpoints.merged(tiny("llama"), adapter)
    with pytest.raises(ArtifactError, match=r"an adapter's file is called adapter_model\.safetensors"):
        checkpoints.merged(tiny("llama"), adapter.with_name("other.safetensors"))


def spoil(value):
    def change(tensors):
        next(iter(tensors.values())).view(-1)[3] = value

    return change


def drop(tensors):
    tensors.pop(next(iter(tensors)))


def hollow(tensors):
    for name in tensors:
        tensors[name] = tensors[name][:0]


def widen(tensors):
    name = next(iter(tensors))
    tensors[name] = torch.zeros(tensors[name].shape[0], tensors[name].shape[1] + 1)


def add(tensors):
    tensors["base_model.model.lm_head.weight"] = torch.zeros(2, 2)


def count_up(tensors):
    for name in tensors:
        tensors[name] = tensors[name].int()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil(math.nan), r"lora_A\.weight holds numbers that are not finite"),
        (spoil(math.inf), r"lora_A\.weight holds numbers that are not finite"),
        (drop, r"has no tensor base_model.*\(1 such\): it is incomplete"),
        (dict.clear, r"has no tensor base_model.*\(28 such\)"),
        (hollow, r"has the shape \[0, \d+\], must have \[4, \d+\]"),
        (widen, r"has the shape \[4, \d+\], must have \[4, \d+\]"),
        (add, r"has an unknown tensor base_model\.model\.lm_head\.weight"),
        (count_up, r"holds torch\.int32, must hold floating-point numbers"),
        (spoil(1e38), "makes numbers of .* too large for their type|not finite"),
    ],
)
def test_tensors_that_are_not_a_complete_adapter_are_refused(adapter, change, words):
    change_tensors(adapter, change)
    with pytest.raises(ArtifactError, match=rf"adapter_model\.safetensors: .*({words})"):
        checkpoints.merged(tiny("llama").half(), adapter)


def test_a_rank_other_than_that_of_the_tensors_is_refused(adapter):
    change_settings(adapter, r=8)
    with pytest.raises(ArtifactError, match=r"has the shape \[4, \d+\], must have \[8, \d+\]"):
        checkpoints.merged(tiny("llama"), adapter)


@pytest.mark.parametrize("size", [0, 7, 100, -100])
def test_a_truncated_adapter_is_refused(adapter, size):
    adapter.write_bytes(adapter.read_bytes()[:size])
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors: is not a complete safetensors file"):
        checkpoints.merged(tiny("llama"), adapter)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "mixtral", "phi"])
def test_an_adapter_for_another_base_is_refused(adapter, name):
    with pytest.raises(ArtifactError, match=rf"another base model|this {name}|must have"):
        checkpoints.merged(tiny(name), adapter)


def test_an_adapter_whose_merged_model_is_another_is_refused(adapter, monkeypatch):
    from peft.tuners.lora import LoraModel

    original = LoraModel.merge_and_unload

    def wrong(self):
        model = original(self)
        with torch.no_grad():
            model.model.norm.weight.mul_(3)
        return model

    monkeypatch.setattr(LoraModel, "merge_and_unload", wrong)
    with pytest.raises(ArtifactError, match="with this adapter merged differs from the model that was trained"):
        checkpoints.merged(tiny("llama"), adapter)


# --- base models


def test_a_model_folder_is_loaded_with_its_adapter(model, adapter):
    loaded = checkpoints.load_model(ModelSource(str(model)), [adapter])
    assert not torch.equal(
        loaded.state_dict()["model.layers.0.mlp.up_proj.weight"], tiny("llama").model.layers[0].mlp.up_proj.weight
    )


def remove_layer(tensors):
    tensors.pop("model.layers.1.mlp.up_proj.weight")


def poison(tensors):
    tensors["model.layers.1.mlp.up_proj.weight"][3, 2] = math.nan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove_layer, r"has no weights for model\.layers\.1\.mlp\.up_proj\.weight \(1 such\) of LlamaForCausalLM"),
        (poison, r"model\.layers\.1\.mlp\.up_proj\.weight holds numbers that are not finite"),
        (hollow, "its model cannot be loaded"),
    ],
)
def test_broken_base_weights_are_refused(model, change, words):
    change_tensors(model / "model.safetensors", change)
    with pytest.raises(ArtifactError, match=rf"{model}: .*{words}"):
        checkpoints.load_model(ModelSource(str(model)))


def test_a_truncated_or_absent_base_is_refused(model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(ArtifactError, match=f"{model}: its model cannot be loaded"):
        checkpoints.load_model(ModelSource(str(model)))
    weights.unlink()
    (model / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ArtifactError, match=rf"{model}: its config\.json cannot be loaded"):
        checkpoints.load_config(ModelSource(str(model)))
    with pytest.raises(ArtifactError, match=f"{model}: its tokenizer cannot be loaded"):
        checkpoints.load_tokenizer(ModelSource(str(model)))
    with pytest.raises(ArtifactError, match=f"{model}: its model cannot be loaded"):
        checkpoints.load_model(ModelSource(str(model)))


# --- a full disk


@pytest.mark.parametrize("where", ["adapter", "checkpoint"])
def test_a_full_disk_is_a_sentence_and_leaves_nothing_half(tmp_path, monkeypatch, where):
    from peft import PeftModel

    full = OSError(errno.ENOSPC, "No space left on device")

    def write(self, folder, *args, **kwargs):
        Path(folder, "half").write_text("x")
        raise full

    output = tmp_path / "a" / adapter_files.WEIGHTS
    settings = SETTINGS
    if where == "adapter":
        monkeypatch.setattr(PeftModel, "save_pretrained", write)
    else:
        settings = TrainingSettings(learning_rate=1e-2, epochs=2, batch_size=4, checkpoint_updates=1)
        monkeypatch.setattr(trainer.Trainer, "_save_optimizer_and_scheduler", lambda *args: (_ for _ in ()).throw(full))
    with pytest.raises(Failure, match=r"the (adapter|checkpoint) cannot be written \(.*No space left on device"):
        adapters.train(copy.deepcopy(tiny("llama")), EXAMPLES, registry.Method("nll"), settings, LORA, output)
    assert not output.exists()
    assert not list(tmp_path.glob("**/half"))
    monkeypatch.undo()
    train(tiny("llama"), output)  # remains of the failed training do not prevent another one
    assert output.is_file()
