"""A base model is checked before anything is sampled from it."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def pythia(tmp_path_factory, pocket_tokenizer):
    """A random model of Pythia's architecture, whose layers have other names than Llama's."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder = tmp_path_factory.mktemp("pythia")
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = GPTNeoXConfig(vocab_size=len(pocket_tokenizer), max_position_embeddings=512, **shape)
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    pocket_tokenizer.save_pretrained(folder)
    return folder


def check(folder, output, *layers):
    command = [sys.executable, ROOT / "scripts" / "check_model.py", "--model", folder, "--model-name", "mine"]
    options = ["--layers", *layers, "--output", output]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)


def test_layers_of_another_architecture_are_named_before_sampling(pythia, tmp_path):
    refused = check(pythia, tmp_path / "mine.json", "all-linear", "gate_proj", "dense_h_to_4h")
    assert refused.returncode == 1
    assert "mine has no linear layer named gate_proj; it has dense, dense_4h_to_h, dense_h_to_4h" in refused.stderr
    assert "contrast_layers" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "mine.json").exists()


def test_what_is_found_out_is_written_down(pythia, tmp_path, pocket_tokenizer):
    told = check(pythia, tmp_path / "mine.json", "all-linear", "dense_h_to_4h")
    assert told.returncode == 0, told.stderr
    facts = json.loads((tmp_path / "mine.json").read_text())
    assert (facts["architecture"], facts["context"]) == ("gpt_neox", 512)
    assert pocket_tokenizer.eos_token_id in facts["ends"]
    assert (tmp_path / "mine.meta.json").is_file()
