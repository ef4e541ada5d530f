"""Files that are not what they should be: errors that name the file and the row."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from critical_tokens.core import records
from critical_tokens.core.records import ArtifactError
from critical_tokens.core.schemas import SCHEMAS
from critical_tokens.data import sources

GRADE = {"problem_id": "a", "sample_id": 0, "answer": None, "correct": True, "released": True, "math_verify": None}


def test_a_table_comes_back_as_it_went(tmp_path):
    rows = [GRADE, GRADE | {"sample_id": 1, "answer": "5", "correct": False}]
    records.write_table(tmp_path / "grades.parquet", "grades", rows)
    assert records.read_table(tmp_path / "grades.parquet", "grades") == rows


def test_truncated_foreign_and_missing_tables_are_named(tmp_path):
    path = tmp_path / "grades.parquet"
    with pytest.raises(ArtifactError, match=f"{path}: does not exist"):
        records.read_table(path, "grades")
    records.write_table(path, "grades", [GRADE])
    with pytest.raises(ArtifactError, match=f"{path}: is not a table of pairs: no column chosen_id"):
        records.read_table(path, "pairs")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match=f"{path}: is not a complete Parquet file"):
        records.read_table(path, "grades")
    path.write_text("hello")
    with pytest.raises(ArtifactError, match=f"{path}: is not a complete Parquet file"):
        records.read_table(path, "grades")


@pytest.mark.parametrize("other", [{}, {"correct": False}])
def test_rows_have_ids_of_their_own(tmp_path, other):
    path = tmp_path / "grades.parquet"
    records.write_table(path, "grades", [GRADE, GRADE | {"sample_id": 1}, GRADE | other])
    with pytest.raises(ArtifactError, match=f"{path}: has several rows with problem_id a, sample_id 0"):
        records.read_table(path, "grades")


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("problem_id", pa.array([None], pa.string()), "null values"),
        ("question", pa.array([None], pa.string()), "null values"),
        ("question", pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers()), "UTF8"),
        ("question", pa.array([{"text": "How many?"}]), "struct"),
        ("trap_rate", pa.array(["half"]), "half"),
    ],
)
def test_a_table_with_other_contents_is_named(tmp_path, column, value, complaint):
    row = dict.fromkeys(SCHEMAS["problems"].names) | {"problem_id": "a", "question": "How many?"}
    table = pa.Table.from_pylist([row], schema=SCHEMAS["problems"])
    path = tmp_path / "problems.parquet"
    pq.write_table(table.set_column(table.column_names.index(column), column, value), path)
    with pytest.raises(ArtifactError, match=rf"{path}: is not a table of problems: .*{complaint}"):
        records.read_table(path, "problems")


def test_json_holds_any_path(tmp_path):
    path = tmp_path / "metrics.json"
    records.write_json(path, {"path": "Zo\udceb", "name": "Zoë"})
    assert path.read_bytes().decode("utf-8").count("Zoë") == 1
    assert records.read_json(path) == {"path": "Zo\udceb", "name": "Zoë"}
    with pytest.raises(ArtifactError, match=f"{tmp_path}: is a folder"):
        records.read_json(tmp_path)


def test_a_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / "grades.parquet"
    with pytest.raises(Exception, match=r".+"):
        records.write_table(path, "grades", [{"problem_id": 5, "correct": "maybe"}])
    with pytest.raises(KeyboardInterrupt), records.replacing_folder(tmp_path / "adapter") as folder:
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def jsonl(tmp_path, *lines, name="data.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


COLUMNS = {"question": "question", "solution": "answer"}
GOOD = json.dumps({"question": "How many?", "answer": "Two and two.\n#### 4"})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"question": "x"', "row 2: is not JSON"),
        ("[1, 2]", "row 2: is no JSON object"),
        ('{"question": "", "answer": "#### 4"}', "row 2: has no question"),
        ('{"question": "x", "answer": 5}', "row 2: has no solution"),
        ('{"question": "x", "answer": "no gold"}', "row 2: has no answer"),
    ],
)
def test_a_bad_row_is_named(tmp_path, line, complaint):
    path = jsonl(tmp_path, GOOD, line)
    with pytest.raises(ArtifactError, match=f"{path}, {complaint}"):
        sources.from_json_lines(path, "test", COLUMNS)


def test_a_truncated_gzip_is_named(tmp_path):
    whole = gzip.compress("\n".join([GOOD] * 500).encode())
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=f"{path}: cannot be read to its end"):
        sources.from_json_lines(path, "test", COLUMNS)


def test_rows_become_problems(tmp_path):
    rows = sources.from_json_lines(jsonl(tmp_path, GOOD, "", GOOD), "test", COLUMNS)
    assert [r["problem_id"] for r in rows] == ["test-00000", "test-00002"]
    assert rows[0]["answer"] == "4"
    records.write_table(tmp_path / "problems.parquet", "problems", rows)
    assert records.read_table(tmp_path / "problems.parquet", "problems")[0]["question"] == "How many?"


@pytest.mark.parametrize(
    ("name", "n", "columns"),
    [
        ("gsm8k/train.jsonl.gz", 7473, COLUMNS),
        ("gsm8k/test.jsonl.gz", 1319, COLUMNS),
        ("math/train.jsonl.gz", 7498, {"question": "problem", "solution": "solution"}),
        ("math/MATH-500.jsonl.gz", 500, {"question": "problem", "solution": "solution", "answer": "answer"}),
    ],
)
def test_the_real_datasets_load_whole(shared, name, n, columns):
    rows = sources.from_json_lines(shared(name), "test", columns, skip_unanswered="math/train" in name)
    assert len(rows) == n
    assert all(r["answer"] for r in rows)
    if "gsm8k" in name:
        assert all("," not in r["answer"] for r in rows)
