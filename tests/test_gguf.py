"""Models in GGUF files: their headers, their conversion, and what is refused."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import gguf_models
import made_tokenizers
import pytest
import torch
import yaml
from conftest import ROOT
from made_tokenizers import CHATML, chatting
from tokenizers import pre_tokenizers

from critical_tokens.configuration import completion
from critical_tokens.core.records import ArtifactError
from critical_tokens.models import gguf_conversion, gguf_files, model_files
from critical_tokens.models.checkpoints import ModelSource, end_ids, load_model, load_tokenizer
from critical_tokens.planning import hardware, sizing
from critical_tokens.workflow.refusals import ConfigError

IDS = torch.arange(3, 40)[None]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tiny.gguf"


# --- conversion


@pytest.mark.parametrize(
    ("architecture", "quantised", "apart"), [("qwen2", False, 1e-5), ("llama", False, 1e-5), ("llama", True, 0.2)]
)
def test_a_converted_model_is_the_original(path, tmp_path, architecture, quantised, apart):
    original = gguf_models.write(path, architecture, quantised=quantised)
    found = gguf_conversion.convert(path, tmp_path / "model", "float32")
    source = ModelSource(str(tmp_path / "model"))
    model = load_model(source)
    with torch.no_grad():
        assert (model(IDS).logits - original(IDS).logits).abs().mean() < apart
    assert found.parameters == model_files.parameters(tmp_path / "model") == original.num_parameters()
    assert (found.architecture, found.context) == (architecture, 512)
    assert found.quantisation == ("Q8_0" if quantised else "ALL_F32")
    assert set(found.types) == ({"F32", "Q8_0"} if quantised else {"F32"})
    assert model_files.lacks(tmp_path / "model") == []


@pytest.mark.parametrize("specials", [("<|end|>", "<|turn|>"), ("<|end|>", "<|turn|>", "<|endoftext|>")])
def test_a_converted_tokenizer_is_the_original(path, tmp_path, specials):
    """It has no BOS if the file says so, all tokens that end answers, and the chat template."""
    original = chatting(made_tokenizers.byte_level(specials), CHATML)
    gguf_models.write(path, "llama", original)
    gguf_conversion.convert(path, tmp_path / "model", "bfloat16")
    source = ModelSource(str(tmp_path / "model"))
    tokenizer = load_tokenizer(source)
    text = "There are 15 trees.\n\n  x = 5 \u00e9 <|turn|>"
    assert tokenizer(text)["input_ids"] == original(text)["input_ids"]
    assert tokenizer.get_vocab() == original.get_vocab()
    assert tokenizer.bos_token_id is None
    assert tokenizer.chat_template == CHATML
    # The file names <|turn|>; the others are known to end texts and messages.
    vocabulary = original.get_vocab()
    ends = [vocabulary[name] for name in ("<|turn|>", "<|endoftext|>", "<|end|>") if name in vocabulary]
    assert end_ids(source, tokenizer) == tuple(ends)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_original_tokenizer_is_used_if_it_is_named(path, tmp_path):
    tokenizer = gguf_models.usual_tokenizer()
    tokenizer.save_pretrained(tmp_path / "original")
    gguf_models.write(path, "llama")
    gguf_conversion.convert(path, tmp_path / "model", "float32", tmp_path / "original")
    written = load_tokenizer(ModelSource(str(tmp_path / "model")))
    assert written.eos_token_id == tokenizer.eos_token_id == 0  # the file names another one
    # A file without a tokenizer needs it.
    gguf_models.write(path.with_name("bare.gguf"), "llama", tokenizer=False)
    gguf_conversion.convert(path.with_name("bare.gguf"), tmp_path / "bare", "float32", tmp_path / "original")
    assert model_files.lacks(tmp_path / "bare") == []


def test_nothing_of_an_earlier_conversion_is_left(path, tmp_path):
    for tokenizer in (chatting(gguf_models.usual_tokenizer(), CHATML), gguf_models.usual_tokenizer()):
        gguf_models.write(path, "llama", tokenizer)
        gguf_files.header.cache_clear()
        gguf_conversion.convert(path, tmp_path / "model", "float32")
        found = load_tokenizer(ModelSource(str(tmp_path / "model")))
        assert found.chat_template == tokenizer.chat_template
        assert model_files.has_chat_template(tmp_path / "model") == bool(tokenizer.chat_template)


# --- refusals: one sentence with the file and the remedy, and nothing is written


def refused(path, folder, tokenizer=None):
    with pytest.raises(ArtifactError) as told:
        gguf_conversion.convert(path, folder, "float32", tokenizer)
    assert not folder.exists()
    assert not list(folder.parent.glob(".*.part"))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_tokenizer_of_another_model_is_refused(path, tmp_path):
    other = gguf_models.usual_tokenizer()
    digits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(digits)
    other.save_pretrained(tmp_path / "other")
    gguf_models.write(path, "llama")
    told = refused(path, tmp_path / "model", tmp_path / "other")
    assert told.startswith(f"{tmp_path / 'other'}: encodes '1234567890")
    assert f"differently from the tokenizer in {path}; name the tokenizer of the same model" in told


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(path, tmp_path):
    made_tokenizers.byte_level(("<|end|>", "<|turn|>", *(f"<|{n}|>" for n in range(99)))).save_pretrained(
        tmp_path / "other"
    )
    gguf_models.write(path, "llama", tokenizer=False)
    told = refused(path, tmp_path / "model", tmp_path / "other")
    assert told.startswith(f"{tmp_path / 'other'}: its tokenizer has tokens that the model lacks")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"stated": "nonsuch"},
            ["is of the architecture nonsuch, which transformers cannot convert", "llama", "qwen2"],
        ),
        ({"stated": "t5"}, ["is of the architecture t5, which does not continue texts; take a causal"]),
        ({"parts": 3}, ["is one of 3 files of a split model", "llama-gguf-split --merge"]),
        ({"tokenizer": False}, ["has no tokenizer", "name the original's in `tokenizer`"]),
        ({"without": "model.layers.1.mlp.up_proj.weight"}, ["has no weights for model.layers.1.mlp.up_proj.weight"]),
        ({"broken": "model.norm.weight"}, ["model.norm.weight holds numbers that are not finite"]),
    ],
)
def test_a_file_that_cannot_be_converted_is_told(path, tmp_path, changes, words):
    gguf_models.write(path, **changes)
    told = refused(path, tmp_path / "model")
    assert told.startswith(f"{path}: ")
    assert all(word in told for word in words), told


def entry(name, kind, content):
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + content


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


NAMED = entry("general.architecture", 8, text("llama"))
HUGE = 1 << 60


def tensor(*dimensions, kind=0, offset=0, name="a"):
    counts = struct.pack("<I", len(dimensions)) + b"".join(struct.pack("<Q", n) for n in dimensions)
    return text(name) + counts + struct.pack("<IQ", kind, offset)


def made_up(tensors, entries, *parts, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + b"".join(parts)


HOSTILE = {
    "nothing": (b"", "is no GGUF file"),
    "something else": (b"PK\x03\x04" * 9, "is no GGUF file"),
    "an old version": (made_up(0, 0, version=1), "has version 1 of the format"),
    "another byte order": (made_up(0, 0, version=3 << 24), "of the format, must be 2 or 3"),
    "many tensors": (made_up(HUGE, 0), "states 1,152,921,504,606,846,976 entries"),
    "many entries": (made_up(0, HUGE), "states 1,152,921,504,606,846,976 entries"),
    "a million entries": (made_up(0, 1 << 20), "ends within its header"),
    "a long name": (made_up(0, 1, struct.pack("<Q", HUGE)), "ends within its header"),
    "a long text": (made_up(0, 1, entry("a", 8, struct.pack("<Q", HUGE))), "ends within its header"),
    "a long list": (made_up(0, 1, entry("a", 9, struct.pack("<IQ", 4, HUGE))), "states 1,152,921,504,606,846,976 entries"),
    "a list of texts": (made_up(0, 1, entry("a", 9, struct.pack("<IQ", 8, 1 << 24))), "ends within its header"),
    "a list of lists": (made_up(0, 1, entry("a", 9, struct.pack("<IQ", 9, 1))), "a list of unknown kind 9"),
    "an unknown kind": (made_up(0, 1, entry("a", 99, b"")), "a value of unknown kind 99"),
    "a name twice": (made_up(0, 2, NAMED, NAMED), "states 'general.architecture' twice"),
    "no architecture": (made_up(0, 0), "names no architecture"),
    "an architecture of another kind": (made_up(0, 1, entry("general.architecture", 4, b"\x01\0\0\0")), "names no architecture"),
    "no weights": (made_up(0, 1, NAMED), "holds no weights"),
    "many dimensions": (made_up(1, 1, NAMED, tensor(*[1] * 9)), "states 9 entries where 4"),
    "a large tensor": (made_up(1, 1, NAMED, tensor(HUGE, HUGE)), "but its tensors need"),
    "a far tensor": (made_up(1, 1, NAMED, tensor(1, offset=HUGE)), "but its tensors need"),
    "a tensor twice": (made_up(2, 1, NAMED, tensor(0), tensor(0)), "has the tensor 'a' twice"),
    "an unknown type": (made_up(1, 1, NAMED, tensor(1, kind=999)), "'a' has numbers of type 999"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_header_that_lies_is_refused_at_once(path, tmp_path, kind):
    content, words = HOSTILE[kind]
    path.write_bytes(content)
    assert words in refused(path, tmp_path / "model")


def test_a_file_that_is_cut_off_is_refused(path, tmp_path):
    gguf_models.write(path)
    content = path.read_bytes()
    for length in (3, 20, 60, 3000, len(content) // 2, len(content) - 64):
        cut = tmp_path / f"{length}.gguf"
        cut.write_bytes(content[:length])
        assert any(words in refused(cut, tmp_path / "model") for words in ("cut off", "is no GGUF file"))


def test_a_part_of_a_split_model_is_known_by_its_name(path, tmp_path):
    part = path.with_name("tiny-00002-of-00003.gguf")
    gguf_models.write(part)
    assert "is one of 3 files of a split model; merge them" in refused(part, tmp_path / "model")


# --- the workflow


def config_of(path, **others):
    return {"models": ["mine"], "datasets": ["pocket-gsm"], "model_registry": {"mine": {"path": str(path), **others}}}


@pytest.fixture
def read(tmp_path, monkeypatch):
    from test_configuration import read

    monkeypatch.chdir(tmp_path)
    return lambda config: read(tmp_path, yaml.safe_dump(config))[0]


def test_the_size_is_known_before_the_conversion(path, read):
    original = gguf_models.write(path)
    config = read(config_of(path, dtype="bfloat16"))
    entry = config["model_registry"]["mine"]
    assert (entry["gguf"], entry["path"]) == (str(path), "results/models/mine")
    assert sizing.parameters(entry) == original.num_parameters()
    assert sizing.conversion_memory_mb(entry, 2, hardware.Hardware(None, None)) > sizing.CONVERSION_MB
    completion.check_folders(config)


@pytest.mark.parametrize(
    ("changes", "others", "words"),
    [
        ({"tokenizer": False}, {}, ["path is", "has no tokenizer; name the original's in `tokenizer`"]),
        ({}, {"parameters": 7}, ["parameters is 7, but the weights in", "tiny.gguf"]),
        ({}, {"tokenizer": "nowhere/at/all"}, ["tokenizer is 'nowhere/at/all', which has no tokenizer"]),
        ({}, {"engine": "vllm", "context": 4096}, ["context is 4096, but the model reads at most 512"]),
    ],
)
def test_a_model_that_cannot_be_used_is_told_before_any_job(path, read, changes, others, words):
    gguf_models.write(path, **changes)
    config = read(config_of(path, **others))
    with pytest.raises(ConfigError) as told:
        completion.check_folders(config)
    assert all(word in str(told.value) for word in words), told.value


def test_a_missing_or_broken_file_is_told_before_any_job(path, read, tmp_path):
    for content, words in ((None, "which does not exist"), (b"no", "which is no GGUF file")):
        if content:
            path.write_bytes(content)
        gguf_files.header.cache_clear()
        with pytest.raises(ConfigError, match=rf"model_registry: mine: path is '{path}', {words}"):
            completion.check_folders(read(config_of(path)))


def test_a_chat_needs_the_template_of_the_file(path, read):
    gguf_models.write(path)
    config = read(config_of(path) | {"prompts": {"sampling": {"template": "chat"}}})
    with pytest.raises(ConfigError, match="the tokenizer of this model has no chat template"):
        completion.check_folders(config)
    other = path.with_name("chatty.gguf")
    gguf_models.write(other, tokenizer=chatting(made_tokenizers.byte_level(), CHATML))
    completion.check_folders(read(config_of(other) | {"prompts": {"sampling": {"template": "chat"}}}))


def test_a_tokenizer_belongs_to_a_gguf_file_only(read):
    with pytest.raises(
        ConfigError, match="mine: tokenizer is 'a/b', which only has an effect where path is a GGUF file"
    ):
        read(config_of("data/models/pocket-s", tokenizer="a/b"))


def test_a_tokenizer_may_come_from_the_hub(path, read):
    from critical_tokens.workflow.recipes import Recipes

    gguf_models.write(path)
    config = read(config_of(path, tokenizer="owner/name", revision="abc", dtype="bfloat16"))
    recipe = Recipes(config)
    assert (recipe.hub_models(), recipe.hub_tokenizers()) == ({}, {"mine": "owner/name@abc"})
    assert recipe.model("mine") == "--model results/models/mine --dtype bfloat16"
    assert recipe.conversion("mine") == "--tokenizer owner/name --revision abc --dtype bfloat16"
    completion.check_folders(config)


@pytest.mark.workflow
def test_the_program_says_what_it_converted(path, tmp_path):
    gguf_models.write(path, quantised=True)
    command = [sys.executable, ROOT / "scripts" / "convert_gguf.py", "--file", path]
    weights = tmp_path / "model" / "model.safetensors"
    told = subprocess.run([*command, "--weights", weights], capture_output=True, text=True, timeout=200)
    assert told.returncode == 0, told.stderr
    facts = json.loads((tmp_path / "model" / "model.meta.json").read_text())["gguf"]
    assert (facts["name"], facts["bytes"]) == ("tiny.gguf", path.stat().st_size)
    assert (facts["architecture"], facts["quantisation"], set(facts["tensors"])) == ("qwen2", "Q8_0", {"F32", "Q8_0"})
    assert facts["checksum"].startswith("sha256:")
    path.write_bytes(path.read_bytes()[:-100])
    again = [*command, "--weights", tmp_path / "again" / "model.safetensors"]
    told = subprocess.run(again, capture_output=True, text=True, timeout=200)
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    assert told.stderr.startswith(f"error: {path}: has ")
    assert not (tmp_path / "again").exists()


@pytest.mark.workflow
def test_a_gguf_file_runs_as_any_model(clone, tmp_path):
    """A dry run knows its jobs before the conversion; then it is converted once, sampled and
    trained.
    """
    from test_workflow import planned, snakemake

    path = tmp_path / "tiny.gguf"
    gguf_models.write(path, tokenizer=chatting(made_tokenizers.byte_level(), CHATML))
    own = tmp_path / "own.yaml"
    stage = {"template": "chat"}
    small = {
        "methods": ["baseline", "sft"],
        "trajectories": {"problems": 3, "samples": 2},
        "evaluation": {"problems": 3},
        "dataset_registry": {"pocket-gsm": {"max_new_tokens": 8}},
        "prompts": {"sampling": stage, "evaluation": stage},
    }
    own.write_text(yaml.safe_dump(config_of(path) | small))
    table = "results/mine/pocket-gsm/trajectories.parquet"
    jobs = planned("--configfile", own, "--", table, cwd=clone)
    assert (jobs["convert_gguf"], jobs["check_model"], jobs["sample"]) == (1, 1, 1)
    snakemake("plan", "--configfile", own, cwd=clone)
    assert "\nmine,,convert_gguf,1," in (clone / "results" / "plan.csv").read_text()
    snakemake("--cores", "2", "--configfile", own, "--", table, cwd=clone)
    assert planned("--configfile", own, "--", table, cwd=clone) == {}
    assert (clone / "results" / "models" / "mine" / "model.safetensors").is_file()
    train(clone, tmp_path)


def train(clone, tmp_path):
    """One update of LoRA on the converted model, with its own samples as answers."""
    from critical_tokens.core import records

    folder = clone / "results" / "mine" / "pocket-gsm"
    samples = records.read_table(folder / "trajectories.parquet", "trajectories")
    rows = [{key: row[key] for key in ("problem_id", "sample_id", "token_ids", "finished")} for row in samples[:2]]
    records.write_table(tmp_path / "answers.parquet", "answers", rows, {"model": "mine"})
    settings = {
        "--learning-rate": 1e-3, "--epochs": 1, "--batch-size": 2, "--accumulation": 1, "--schedule": "constant",
        "--warmup-share": 0, "--weight-decay": 0, "--gradient-checkpointing": False, "--packing": False,
        "--lora-rank": 2, "--lora-alpha": 4, "--lora-dropout": 0, "--lora-layers": "all-linear", "--seed": 1,
    }  # fmt: skip
    flags = [str(word) for pair in settings.items() for word in pair]
    command = [sys.executable, "scripts/train_contrast.py", "--model", "results/models/mine", "--style", "gsm8k"]
    tables = ["--answers", tmp_path / "answers.parquet", "--problems", "results/data/pocket-gsm/train.parquet"]
    output = ["--output", tmp_path / "adapter" / "adapter_model.safetensors"]
    told = subprocess.run(
        [*command, *tables, *flags, "--template", "chat", *output],
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert told.returncode == 0, told.stderr
    assert Path(output[1]).is_file()
