"""Nothing of a model, or of a package's task file, is executed when it is read."""

import os
import pickle
import shutil

import pytest
from conftest import ROOT

from critical_tokens import checkpoints, shots
from critical_tokens.records import ArtifactError


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
    assert checkpoints.load_model(checkpoints.ModelSource(str(folder))).num_parameters() > 400_000
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
        ("gsm8k_cot", "process: !!python/object/apply:os.mkdir ['{sign}']\n" + SAMPLES, "could not determine a constructor"),
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
