"""Models and datasets of the hub: the real client, put to a small hub of our own."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT
from hub_server import COMMIT, TOKEN, Hub
from test_workflow import config_with, copy_repository, planned

from critical_tokens.core import hub as library
from critical_tokens.core import provenance

pytestmark = pytest.mark.workflow


@pytest.fixture
def hub(tmp_path):
    server = Hub()
    model = tmp_path / "model"
    shutil.copytree(ROOT / "data" / "models" / "pocket-s", model)
    for name in (".gitattributes", "LICENSE", "original/consolidated.pth"):  # what is not fetched
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("x")
    server.repositories["model", "someone/pocket"] = model
    folder = tmp_path / "dataset"
    (folder / "main").mkdir(parents=True)
    rows = [{"question": f"What is {i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(8)]
    pd.DataFrame(rows).to_parquet(folder / "main" / "train-00000-of-00001.parquet")
    pd.DataFrame(rows[:5]).to_parquet(folder / "main" / "test-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: main/train-*\n"
        "  - split: test\n    path: main/test-*\n---\n"
    )
    server.repositories["dataset", "someone/problems"] = folder
    yield server
    server.close()


@pytest.fixture
def run(hub, tmp_path):
    """Calls a program against the hub, with a cache of its own."""

    def call(*command, cwd=ROOT, token=None, check=True, **variables):
        # Not the downloads of the XET protocol, which the small hub does not speak.
        own = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }
        environment = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_HUB_OFFLINE")} | own
        environment |= variables
        if token:
            environment["HF_TOKEN"] = token
        result = subprocess.run(
            [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
        )
        assert "Traceback" not in result.stderr, result.stderr
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        return result

    return call


def asked(tmp_path, models=("someone/pocket",), datasets=(), revision=COMMIT):
    words = ["scripts/check_hub.py", "--models", *(f"{m}@{revision}" for m in models)]
    words += ["--datasets", *(f"{d}@{revision}" for d in datasets)]
    return [*words, "--output", str(tmp_path / "checked.json")]


def fetch(tmp_path, name="someone/pocket", kind="model", revision=COMMIT):
    output = tmp_path / f"{kind}.json"
    return ["scripts/fetch.py", "--kind", kind, "--repository", f"{name}@{revision}", "--output", str(output)]


def test_what_can_be_had_is_written_down(run, tmp_path):
    run(*asked(tmp_path, datasets=("someone/problems",)))
    rows = json.loads((tmp_path / "checked.json").read_text())
    assert [(r["kind"], r["id"], r["commit"]) for r in rows] == [
        ("model", "someone/pocket", COMMIT),
        ("dataset", "someone/problems", COMMIT),
    ]


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        ({"models": ("someone/else",)}, ["model someone/else", "does not exist, or is private", "HF_TOKEN"]),
        ({"revision": "f" * 40}, ["someone/pocket at ffff", "no such revision", "/commits/main"]),
        ({"gated": True}, ["someone/pocket", "is gated: ask for access at", "hf auth login", "HF_TOKEN"]),
        ({"pickled": True}, ["has no safetensors"]),
        ({"down": True}, ["cannot be read from http://127.0.0.1", "HF_ENDPOINT", "local folder"]),
    ],
)
def test_what_cannot_be_had_is_an_error_with_its_remedy(hub, run, tmp_path, break_it, words):
    if break_it.pop("gated", False):
        hub.gated.add("someone/pocket")
    if break_it.pop("pickled", False):
        (tmp_path / "pickled").mkdir()
        (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"no")
        hub.repositories["model", "someone/pocket"] = tmp_path / "pickled"
    if break_it.pop("down", False):
        hub.close()
    result = run(*asked(tmp_path, **break_it), check=False)
    assert result.returncode != 0
    for word in ["error: ", *words]:
        assert word in result.stderr, result.stderr
    assert not (tmp_path / "checked.json").exists()


def test_every_failure_is_told_at_once(run, tmp_path):
    result = run(*asked(tmp_path, models=("someone/else", "someone/pocket", "no/body")), check=False)
    assert "someone/else" in result.stderr
    assert "no/body" in result.stderr


def test_a_token_opens_a_gated_repository(hub, run, tmp_path):
    hub.gated.add("someone/pocket")
    run(*asked(tmp_path), token=TOKEN)
    run(*fetch(tmp_path), token=TOKEN)
    assert [row["id"] for row in json.loads((tmp_path / "checked.json").read_text())] == ["someone/pocket"]
    assert "model.safetensors" in json.loads((tmp_path / "model.json").read_text())["files"]


def test_a_broken_transfer_is_resumed(hub, run, tmp_path):
    """The client keeps what came in whole chunks of 10 MB."""
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(os.urandom(45 << 20))
    hub.repositories["model", "someone/pocket"] = folder
    hub.cut["model.safetensors"] = 2
    run(*fetch(tmp_path))
    ranges = [r for method, path, r in hub.asked if method == "GET" and path.endswith("model.safetensors")]
    assert ranges == [None, f"bytes={20 << 20}-", f"bytes={30 << 20}-"]
    manifest = json.loads((tmp_path / "model.json").read_text())
    checksum = provenance.sha256(folder / "model.safetensors")
    assert manifest["files"]["model.safetensors"] == {"size": 45 << 20, "sha256": checksum}


def test_a_damaged_file_is_refused_and_fetched_again(hub, run, tmp_path):
    hub.damaged.add("model.safetensors")
    result = run(*fetch(tmp_path), check=False)
    assert result.returncode != 0
    assert "model.safetensors is damaged and was removed" in result.stderr
    hub.damaged.clear()
    run(*fetch(tmp_path))


def test_only_what_is_needed_is_fetched(hub, run, tmp_path):
    folder = tmp_path / "more"
    shutil.copytree(ROOT / "data" / "models" / "pocket-s", folder)
    (folder / "modeling_pocket.py").write_text("raise SystemExit('code of a repository was run')")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    hub.repositories["model", "someone/pocket"] = folder
    run(*fetch(tmp_path))
    names = json.loads((tmp_path / "model.json").read_text())["files"]
    assert "model.safetensors" in names
    assert not {"modeling_pocket.py", "pytorch_model.bin"} & set(names)


def test_of_a_tokenizer_no_weights_are_fetched(hub, run, tmp_path):
    """A GGUF file's model may have its original's tokenizer; chats need the template of models."""
    folder = tmp_path / "chatty"
    shutil.copytree(ROOT / "data" / "models" / "pocket-s", folder)
    (folder / "chat_template.jinja").write_text("x")
    hub.repositories["model", "someone/chatty"] = folder
    checked = tmp_path / "checked.json"
    words = ["--tokenizers", f"someone/chatty@{COMMIT}", "--output", str(checked)]
    run("scripts/check_hub.py", *words)
    assert [row["kind"] for row in json.loads(checked.read_text())] == ["tokenizer"]
    run(*fetch(tmp_path, "someone/chatty", "tokenizer"))
    names = json.loads((tmp_path / "tokenizer.json").read_text())["files"]
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"} <= set(names)
    assert "model.safetensors" not in names
    run(*fetch(tmp_path, "someone/chatty"))
    names = json.loads((tmp_path / "model.json").read_text())["files"]
    assert {"model.safetensors", "chat_template.jinja"} <= set(names)


def in_parts(folder, named):
    """A model whose index names those files; all weights of the folder have the same bytes."""
    shutil.copytree(ROOT / "data" / "models" / "pocket-s", folder)
    weights = folder / "model.safetensors"
    stated = {"weight_map": {str(i): name for i, name in enumerate(named)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(stated))
    for name in (
        "model-1-of-2.safetensors",
        "model-2-of-2.safetensors",
        "consolidated.safetensors",
        "model.fp16.safetensors",
    ):
        shutil.copy(weights, folder / name)
    (folder / "original").mkdir()
    shutil.copy(weights, folder / "original" / "model.safetensors")


@pytest.mark.parametrize("whole", [False, True])
def test_weights_are_fetched_once(hub, run, tmp_path, whole):
    parts = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]
    in_parts(tmp_path / "large", parts)
    if not whole:
        (tmp_path / "large" / "model.safetensors").unlink()
    hub.repositories["model", "someone/pocket"] = tmp_path / "large"
    run(*fetch(tmp_path))
    names = json.loads((tmp_path / "model.json").read_text())["files"]
    assert [name for name in names if name.endswith(".safetensors")] == (["model.safetensors"] if whole else parts)


def test_an_index_that_names_what_is_not_there_is_refused(hub, run, tmp_path):
    in_parts(tmp_path / "large", ["model-1-of-2.safetensors", "../../secret.safetensors"])
    (tmp_path / "large" / "model.safetensors").unlink()
    hub.repositories["model", "someone/pocket"] = tmp_path / "large"
    result = run(*fetch(tmp_path), check=False)
    assert "names ../../secret.safetensors, which is not there" in result.stderr


@pytest.mark.parametrize("status", [400, 404])
def test_a_proxy_need_know_no_more_than_revisions_and_files(hub, run, tmp_path, status):
    hub.unknown = status
    run(*asked(tmp_path, datasets=("someone/problems",)))
    run(*fetch(tmp_path))
    run(*fetch(tmp_path, "someone/problems", "dataset"))
    assert "model.safetensors" in json.loads((tmp_path / "model.json").read_text())["files"]
    assert "main/test-00000-of-00001.parquet" in json.loads((tmp_path / "dataset.json").read_text())["files"]


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_full_cache_needs_no_hub(hub, run, tmp_path, revision):
    run(*fetch(tmp_path, revision=revision))
    run(*fetch(tmp_path, "someone/problems", "dataset", revision))
    online = json.loads((tmp_path / "model.json").read_text())["files"]
    hub.close()
    run(*asked(tmp_path, datasets=("someone/problems",), revision=revision), HF_HUB_OFFLINE="1")
    assert [row["commit"] for row in json.loads((tmp_path / "checked.json").read_text())] == [COMMIT] * 2
    run(*fetch(tmp_path, revision=revision), HF_HUB_OFFLINE="1")
    assert json.loads((tmp_path / "model.json").read_text())["files"] == online
    for path in (tmp_path / "cache").rglob("model.safetensors"):
        path.unlink()
    result = run(*asked(tmp_path, revision=revision), HF_HUB_OFFLINE="1", check=False)
    assert "has no safetensors weights" in result.stderr
    assert "fetch it again while the hub can be reached" in result.stderr
    result = run(*asked(tmp_path, models=("someone/other",)), HF_HUB_OFFLINE="1", check=False)
    assert "model someone/other" in result.stderr and "is not in the cache" in result.stderr


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_what_was_fetched_is_found_without_the_hub(hub, run, tmp_path, revision):
    run(*fetch(tmp_path, revision=revision))
    hub.close()
    code = (
        "import sys; sys.path.insert(0, 'scripts')\n"
        "from critical_tokens.models import checkpoints\n"
        f"source = checkpoints.ModelSource('someone/pocket', {revision!r})\n"
        "print(sorted(p.name for p in checkpoints.folder_of(source).iterdir()))\n"
        "assert checkpoints.load_model(source).num_parameters() > 400_000\n"
    )
    assert "LICENSE" not in run("-c", code).stdout


def test_a_model_that_was_not_fetched_is_named():
    with pytest.raises(
        library.HubError, match="model someone/other at main is no local folder and is not in the cache"
    ):
        library.snapshot(library.Repository("model", "someone/other", None))


@pytest.mark.workflow
def test_a_cell_from_the_hub(hub, run, tmp_path):
    """Asked, fetched, sampled and graded; a gated model stops it before anything else runs."""
    target = tmp_path / "repository"
    copy_repository(target)
    source = {"hub": "someone/problems", "revision": COMMIT, "subset": "main", "solution": "answer"}
    own = config_with(
        tmp_path,
        models=["theirs"],
        datasets=["theirs"],
        model_registry={"theirs": {"path": "someone/pocket", "revision": COMMIT, "parameters": 500_256}},
        dataset_registry={
            "theirs": {
                "style": "gsm8k",
                "max_new_tokens": 40,
                "train": source | {"hub_split": "train", "rows": 8},
                "test": source | {"hub_split": "test", "rows": 5},
            }
        },
        trajectories={"samples": 2},
    )
    cell = "results/theirs/theirs/grades.parquet"
    jobs = planned(*own, "--", cell, cwd=target)
    once = ("check_hub", "fetch_model", "fetch_dataset", "prepare_dataset", "check_model", "sample", "grade")
    assert jobs == dict.fromkeys(once, 1)
    hub.gated.add("someone/pocket")
    result = run("-m", "snakemake", *own, "--", cell, cwd=target, check=False)
    assert "is gated" in result.stdout + result.stderr
    assert not (target / "results" / "data").exists()
    hub.gated.clear()
    run("-m", "snakemake", *own, "--", cell, cwd=target)
    assert len(pd.read_parquet(target / cell)) == 16
    assert planned(*own, "--", cell, cwd=target) == {}
