"""Paths and fixtures of all tests. Unit tests run in a minute; those marked `workflow` run
Snakemake for real.
"""

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the rules call `python`
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two busy threads on two busy cores are slower than one

SHARED = Path(os.environ.get("SHARED_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared():
    """A file of the third-party test data, which is not part of the repository; skips where it is
    absent.
    """

    def path(name: str) -> Path:
        if not (SHARED / name).is_file():
            pytest.skip(f"third-party test data {name} is not at hand (set SHARED_DATA to its folder)")
        return SHARED / name

    return path


@pytest.fixture(scope="session")
def golden(shared):
    return lambda name: json.loads(shared(f"golden/{name}").read_text())


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The repository without anything built, as a fresh clone has it."""
    from test_workflow import copy_repository

    target = tmp_path_factory.mktemp("clone") / "repository"
    copy_repository(target)
    return target


@pytest.fixture(scope="session")
def pocket_source():
    from critical_tokens.models.checkpoints import ModelSource

    return ModelSource(str(ROOT / "data" / "models" / "pocket-s"))


@pytest.fixture(scope="session")
def pocket_tokenizer(pocket_source):
    from critical_tokens.models.checkpoints import load_tokenizer

    return load_tokenizer(pocket_source)


@pytest.fixture(scope="session")
def tiny_model():
    """A random Llama with a small context, sharp enough that greedy decoding is not a coin toss."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()
