"""Parts of a table that several jobs wrote: a file that is not the expected part is refused."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from critical_tokens.core import parts, provenance, records
from critical_tokens.workflow import command_line, sampling_arguments

COUNT = 3


def write(path, shard, problems, seed=1, rows=2):
    """A part of a table of trajectories, as scripts/sample.py leaves it."""
    parser = command_line.parser("")
    sampling_arguments.add_shard(parser)
    for name in ("problems", "output"):
        parser.add_argument(f"--{name}", type=type(path))
    parser.add_argument("--seed", type=int)
    own = ["--shard", f"{shard}-of-{COUNT}", "--problems", str(problems), "--output", str(path), "--seed", str(seed)]
    run = provenance.Run("sample", parser.parse_args(own))
    table = [
        {"problem_id": f"p{shard}-{i}", "sample_id": 0, "token_ids": [1], "text": "x", "finished": True}
        for i in range(rows)
    ]
    records.write_table(path, "trajectories", table)
    run.describe(path, tokens_generated=5)


@pytest.fixture
def shards(tmp_path):
    problems = tmp_path / "problems.parquet"
    problems.write_text("the problems")
    paths = [tmp_path / "shards" / f"{k}-of-{COUNT}" / "trajectories.parquet" for k in range(1, COUNT + 1)]
    for k, path in enumerate(paths, 1):
        write(path, k, problems)
    return paths


def gather(tmp_path, shards):
    command = [
        sys.executable,
        str(ROOT / "scripts" / "gather.py"),
        "--table",
        "trajectories",
        "--parts",
        *map(str, shards),
    ]
    output = tmp_path / "trajectories.parquet"
    result = subprocess.run(
        [*command, "--output", str(output)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in result.stderr
    return result, output


def test_parts_in_order_are_one_table(tmp_path, shards):
    result, output = gather(tmp_path, shards)
    assert result.returncode == 0, result.stderr
    assert [row["problem_id"] for row in records.read_table(output, "trajectories")] == [
        f"p{k}-{i}" for k in range(1, COUNT + 1) for i in range(2)
    ]
    assert records.read_json(provenance.meta_path(output))["tokens_generated"] == 15


def test_a_part_in_another_ones_place_is_refused(tmp_path, shards):
    meta = provenance.meta_path
    shutil.copy(shards[0], shards[1])
    result, output = gather(tmp_path, shards)
    assert (result.returncode, output.exists()) == (1, False)
    assert "2-of-3/trajectories.parquet: is not the file that trajectories.meta.json describes" in result.stderr
    shutil.copy(meta(shards[0]), meta(shards[1]))  # its meta file, too
    with pytest.raises(records.ArtifactError, match=r"2-of-3/trajectories\.parquet: is not the file that"):
        parts.read_metas(shards)


def test_parts_in_another_order_are_refused(shards):
    with pytest.raises(records.ArtifactError, match=r"is part 2-of-3, but stands where part 1-of-3 belongs"):
        parts.read_metas([shards[1], shards[0], shards[2]])
    with pytest.raises(records.ArtifactError, match=r"is part 1-of-3, but stands where part 1-of-2 belongs"):
        parts.read_metas(shards[:2])


def test_parts_of_other_settings_or_inputs_are_refused(tmp_path, shards):
    problems = tmp_path / "problems.parquet"
    write(shards[2], 3, problems, seed=2)
    with pytest.raises(records.ArtifactError, match=r"3-of-3/.*: was made with another seed than .*1-of-3"):
        parts.read_metas(shards)
    problems.write_text("other problems")
    write(shards[2], 3, problems)
    with pytest.raises(records.ArtifactError, match=r"3-of-3/.*: was made from other files than .*1-of-3"):
        parts.read_metas(shards)


def test_parts_may_be_made_in_batches_of_different_sizes(shards):
    path = provenance.meta_path(shards[1])
    meta = json.loads(path.read_text())
    meta["settings"]["batch_rows"] = 100
    path.write_text(json.dumps(meta))
    assert len(parts.read_metas(shards)) == COUNT


@pytest.mark.parametrize(
    "text", [None, "[]", "3", "{}", '{"settings": [], "inputs": {}, "program": "x", "checksum": "y"}', "{"]
)
def test_a_meta_file_that_is_missing_or_of_another_type_is_a_sentence(tmp_path, shards, text):
    path = provenance.meta_path(shards[1])
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    result, output = gather(tmp_path, shards)
    assert (result.returncode, output.exists()) == (1, False)
    assert "2-of-3/trajectories" in result.stderr


def test_a_count_of_another_type_is_left_out(tmp_path, shards):
    path = provenance.meta_path(shards[1])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokens_generated": "many"}))
    result, output = gather(tmp_path, shards)
    assert result.returncode == 0
    assert "tokens_generated" not in records.read_json(provenance.meta_path(output))
