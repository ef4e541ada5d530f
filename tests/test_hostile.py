"""Nothing of a model, an adapter, a data file or a task of lm-eval is executed when it is read."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from critical_tokens.core import records
from critical_tokens.core.records import ArtifactError, Failure
from critical_tokens.data import prompts, shots
from critical_tokens.models import checkpoints


class Leaves:
    """Makes a folder when it is unpickled."""

    def __init__(self, sign):
        self._sign = str(sign)

    def __reduce__(self):
        return os.mkdir, (self._sign,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickled_weights_are_not_loaded(tmp_path, name):
    folder, sign = tmp_path / "model", tmp_path / "was-run"
    shutil.copytree(ROOT / "data" / "models" / "pocket-s", folder)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Leaves(sign)))
    with pytest.raises(ArtifactError, match="its model cannot be loaded"):
        checkpoints.load_model(checkpoints.ModelSource(str(folder)))
    assert not sign.exists()
    pickle.loads((folder / name).read_bytes())  # noqa: S301 (our own: the file would have done it)
    assert sign.exists()


def test_code_beside_weights_is_not_run(tmp_path):
    folder, sign = tmp_path / "model", tmp_path / "was-run"
    shutil.copytree(ROOT / "data" / "models" / "pocket-s", folder)
    text = (folder / "config.json").read_text(encoding="utf-8")
    mapped = '{"auto_map": {"AutoModelForCausalLM": "modeling.Model", "AutoConfig": "modeling.Config"},'
    (folder / "config.json").write_text(text.replace("{", mapped, 1), encoding="utf-8")
    (folder / "modeling.py").write_text(f"import os; os.mkdir({str(sign)!r})", encoding="utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["auto_map"] = {"AutoTokenizer": ["modeling.Tokenizer", None]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert len(checkpoints.load_tokenizer(checkpoints.ModelSource(str(folder)))) > 100
    assert checkpoints.load_model(checkpoints.ModelSource(str(folder))).num_parameters() > 400_000
    assert not sign.exists()


def test_a_model_that_is_nothing_but_code_is_refused(tmp_path):
    sign = tmp_path / "was-run"
    (tmp_path / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}', encoding="utf-8"
    )
    (tmp_path / "own.py").write_text(f"import os; os.mkdir({str(sign)!r})", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"its config\.json cannot be loaded"):
        checkpoints.load_config(checkpoints.ModelSource(str(tmp_path)))
    assert not sign.exists()


def test_a_pickled_adapter_is_not_loaded(tmp_path, pocket_source):
    sign = tmp_path / "was-run"
    (tmp_path / "adapter_model.bin").write_bytes(pickle.dumps(Leaves(sign)))
    settings = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(Failure, match="adapter"):
        checkpoints.load_model(pocket_source, [tmp_path / "adapter_model.safetensors"])
    assert not sign.exists()


def test_a_question_reaches_no_shell(tmp_path):
    sign = tmp_path / "was-run"
    question = f"$(touch {sign}) `touch {sign}` {{__import__('os').mkdir('{sign}')}} %s {{0}} '; touch {sign};"
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": question, "answer": "#### 5"}), encoding="utf-8")
    command = [sys.executable, ROOT / "scripts" / "prepare_dataset.py", "--path", "a.jsonl", "--solution", "answer"]
    command += ["--split", "train", "--style", "gsm8k", "--output", "a.parquet"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    [problem] = records.read_table(tmp_path / "a.parquet", "problems")
    assert question in prompts.Prompt("gsm8k").text(problem["question"])
    assert not sign.exists()


SAMPLES = """fewshot_config:
  samples:
    - question: How many?
      target: "5"
"""
PYTHON = """import os; os.mkdir({sign!r})
def list_fewshot_samples():
    return [{{"problem": "How many?", "solution": {value}}}]
"""


@pytest.mark.parametrize(
    ("task", "text", "complaint"),
    [
        ("gsm8k_cot", "process: !function utils.os.mkdir\n" + SAMPLES, None),
        (
            "gsm8k_cot",
            "process: !!python/object/apply:os.mkdir ['{sign}']\n" + SAMPLES,
            "could not determine a constructor",
        ),
        ("gsm8k_cot", "samples: []", "fewshot_config"),
        ("minerva_math", PYTHON.replace("{value}", "'5'"), None),
        ("minerva_math", PYTHON.replace("{value}", "os.mkdir({sign!r})"), "malformed"),
        ("minerva_math", "def list_fewshot_samples(", "never closed"),
    ],
)
def test_task_files_are_read_and_not_run(tmp_path, monkeypatch, task, text, complaint):
    sign, path = tmp_path / "was-run", tmp_path / shots.TASKS[task].split("/")[-1]
    path.write_text(
        text.replace("{sign!r}", repr(str(sign))).replace("{sign}", str(sign)).replace("{{", "{").replace("}}", "}")
    )
    monkeypatch.setattr(shots, "_package_file", lambda name: path)
    if complaint:
        with pytest.raises(shots.ShotsError, match=complaint):
            shots.from_task(task)
    else:
        assert shots.from_task(task) == [("How many?", "5")]
    assert not sign.exists()
