"""Nothing that is brought along is run: neither code beside a model nor what a pickle asks for, and no YAML tag."""

import json
import pickle
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from critical_tokens import checkpoints
from critical_tokens.checkpoints import ModelSource
from critical_tokens.records import ArtifactError, Failure

POCKET = ROOT / "data" / "models" / "pocket-s"


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def ran(tmp_path):
    """A file that exists where something was run."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists()


@pytest.fixture
def model(tmp_path, ran):
    """A folder with a model, and beside it all that might be run: modules that its configs name, and pickled weights."""
    folder = tmp_path / "model"
    shutil.copytree(POCKET, folder)
    for name in ("configuration_own", "modeling_own", "tokenization_own"):
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'w')")
    change(folder / "config.json", auto_map={"AutoConfig": "configuration_own.C", "AutoModelForCausalLM": "modeling_own.M"})
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_own.T", None]})
    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps({"w": Touch(ran)}))
    return folder


def change(path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_pickle_runs_what_it_names(tmp_path):
    """What the other tests look for can be seen."""
    pickle.loads(pickle.dumps(Touch(tmp_path / "seen")))  # noqa: S301
    assert (tmp_path / "seen").exists()


def test_a_model_is_read_without_what_lies_beside_it(model):
    source = ModelSource(str(model))
    assert len(checkpoints.load_tokenizer(source)) == checkpoints.load_config(source).vocab_size
    assert checkpoints.load_model(source).num_parameters() > 400_000


def test_a_model_that_is_nothing_but_code_or_a_pickle_is_refused(model):
    change(model / "config.json", model_type="own", architectures=["M"])
    with pytest.raises(ArtifactError, match=r"its config\.json cannot be loaded"):
        checkpoints.load_config(ModelSource(str(model)))
    shutil.copy(POCKET / "config.json", model / "config.json")
    (model / "model.safetensors").unlink()
    with pytest.raises(Failure, match=str(model)):
        checkpoints.load_model(ModelSource(str(model)))


def test_a_pickled_adapter_is_refused(model, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]}))
    (model / "adapter_model.bin").rename(adapter / "adapter_model.bin")
    with pytest.raises(Failure, match="adapter"):
        checkpoints.load_model(ModelSource(str(POCKET)), [adapter / "adapter_model.safetensors"])


def test_a_question_is_no_program(tmp_path, ran):
    """Texts of a data file reach no shell and no template."""
    question = f"$(touch {ran}) `touch {ran}` {{__import__('os').system('touch {ran}')}} %s {{0}} '; touch {ran};"
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": question, "answer": "#### 5"}))
    command = [sys.executable, ROOT / "scripts" / "prepare_dataset.py", "--path", "a.jsonl", "--solution", "answer"]
    command += ["--split", "train", "--style", "gsm8k", "--output", "a.parquet"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    from critical_tokens import prompts, records

    [problem] = records.read_table(tmp_path / "a.parquet", "problems")
    assert question in prompts.Prompt("gsm8k").text(problem["question"])
