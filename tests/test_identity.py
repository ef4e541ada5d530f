"""Artifacts say what they belong to: in their metadata or in columns, never in a path alone."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from critical_tokens.core import batches, records
from critical_tokens.core.records import ArtifactError
from critical_tokens.reporting import study_summaries
from critical_tokens.workflow import command_line

ABOUT = {"model": "a b:c", "dataset": "pocket-gsm", "method": "cdpo-beta0.5", "seed": "3"}
GRADES = [
    {"problem_id": name, "sample_id": 0, "answer": "1", "correct": right, "released": right, "math_verify": None}
    for name, right in (("train-1", True), ("train-2", False))
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "grades.parquet"


def test_a_table_is_about_what_it_was_written_with(path):
    records.write_table(path, "grades", GRADES, ABOUT)
    assert records.read_about(path) == records.read_about(path, ("model", "seed")) == ABOUT
    assert records.read_table(path, "grades") == GRADES


def test_a_table_written_in_pieces_and_one_joined_of_parts_are_about_the_same(path, tmp_path):
    with batches.writing(path, "grades", ABOUT) as table:
        table.write(GRADES)
    batches.join_tables(tmp_path / "whole.parquet", "grades", [path])
    assert records.read_about(tmp_path / "whole.parquet") == records.read_about(path) == ABOUT


def test_parts_of_different_tables_are_not_joined(path, tmp_path):
    records.write_table(path, "grades", GRADES[:1], ABOUT)
    records.write_table(tmp_path / "other.parquet", "grades", GRADES[1:], ABOUT | {"model": "pocket-m"})
    with pytest.raises(
        ArtifactError, match=r"other\.parquet: its model is pocket-m, but that of .*grades\.parquet is a b:c"
    ):
        batches.join_tables(tmp_path / "whole.parquet", "grades", [path, tmp_path / "other.parquet"])
    assert not (tmp_path / "whole.parquet").exists()


@pytest.mark.parametrize(
    "metadata", [None, {b"critical_tokens": b"{}"}, {b"critical_tokens": b"[1"}, {b"critical_tokens": b"5"}]
)
def test_a_table_that_does_not_say_its_model_is_refused(path, metadata):
    table = pa.Table.from_pylist(GRADES, schema=records.schema_of("grades").with_metadata(metadata))
    pq.write_table(table, path)
    with pytest.raises(
        ArtifactError, match=r"grades\.parquet: does not say its model, seed; remove it, and it is made again"
    ):
        records.read_about(path, ("model", "seed"))


def test_an_evaluation_is_named_by_its_table(path):
    records.write_table(path, "grades", GRADES, ABOUT)
    run = study_summaries.read_evaluation(path)
    assert (run.model, run.dataset, run.method, run.seed) == ("a b:c", "pocket-gsm", "cdpo-beta0.5", 3)
    assert run.accuracy == 50


def test_programs_take_what_their_output_is_about():
    parser = command_line.parser("")
    command_line.add_about(parser)
    assert command_line.about(parser.parse_args(["--about", "model=a=b", "seed=1"])) == {"model": "a=b", "seed": "1"}
    for text in ("model", "=1", "model="):
        with pytest.raises(SystemExit):
            parser.parse_args(["--about", text])


def test_programs_and_rules_make_no_string_of_names():
    for path in [*ROOT.glob("scripts/*.py"), *ROOT.glob("rules/*.smk"), *ROOT.glob("docs/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"""split\(["'][:/_-]["']""", text), path
        assert "}:{" not in text, path
