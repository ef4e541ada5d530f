"""Tables in batches: the same rows whatever the batch, and memory that does not grow with the table."""

import importlib.util
import sys
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from critical_tokens import batches, provenance, records, selection
from critical_tokens.records import ArtifactError

TOKENS = 40
SETS = ("positive.parquet", "negative.parquet", "pairs.parquet")


def trajectories(problems, samples=16):
    """Answers of which every third is right and the others state one of four wrong numbers. All token ids differ."""
    return [
        {
            "problem_id": f"p{problem:05}",
            "sample_id": sample,
            "token_ids": list(range(1000 * problem + TOKENS * sample, 1000 * problem + TOKENS * sample + TOKENS)),
            "text": f"So it is. The answer is {0 if sample % 3 == 0 else 1 + (problem + sample) % 5 % 4}.",
            "finished": sample != 1,
        }
        for problem in range(problems)
        for sample in range(samples)
    ]


def write_cell(folder, problems, rows=64):
    """Problems and answers, in row groups of that size."""
    folder.mkdir(exist_ok=True)
    unused = dict.fromkeys(records.SCHEMAS["problems"].names)
    asked = [unused | {"problem_id": f"p{i:05}", "question": "How many?", "answer": "0"} for i in range(problems)]
    records.write_table(folder / "problems.parquet", "problems", asked)
    with batches.writing(folder / "trajectories.parquet", "trajectories", rows) as table:
        table.write(trajectories(problems))


def run(monkeypatch, program, *arguments):
    """A program in this process."""
    spec = importlib.util.spec_from_file_location(program, ROOT / "scripts" / f"{program}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
    module.main()


def grade(monkeypatch, cell, rows, output):
    asked = ["--problems", cell / "problems.parquet", "--style", "gsm8k", "--grader", "released"]
    own = ["--trajectories", cell / "trajectories.parquet", "--batch-rows", rows, "--output", output / "grades.parquet"]
    run(monkeypatch, "grade", *asked, *own)


def select(monkeypatch, cell, rows, output):
    rule = ["--coverage", "0.5", "--repeated-only", "false", "--seed", 1, "--batch-rows", rows]
    tables = [word for name in ("trajectories", "grades") for word in (f"--{name}", cell / f"{name}.parquet")]
    sets = [word for name in SETS for word in (f"--{name.removesuffix('.parquet')}", output / name)]
    run(monkeypatch, "select_answers", *rule, *tables, *sets)


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """Sixty graded problems."""
    folder = tmp_path_factory.mktemp("cell")
    write_cell(folder, 60)
    with pytest.MonkeyPatch.context() as patch:
        grade(patch, folder, batches.ROWS, folder)
    return folder


@pytest.mark.parametrize("rows", [1, 7, 64, 100, 10_000])
def test_batches_are_the_table_in_order(cell, rows):
    path = cell / "trajectories.parquet"
    read = list(batches.read_batches(path, "trajectories", ("sample_id", "problem_id"), rows))
    assert max(batch.num_rows for batch in read) == min(rows, 64)
    wanted = [{key: row[key] for key in ("sample_id", "problem_id")} for row in trajectories(60)]
    assert pa.concat_tables(read).to_pylist() == wanted
    assert list(batches.read_rows(path, "trajectories", rows=rows)) == trajectories(60)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_a_problem_comes_whole_wherever_batches_end(cell, rows):
    found = list(batches.read_problems(cell / "trajectories.parquet", "trajectories", rows=rows))
    assert [problem for problem, _ in found] == [f"p{i:05}" for i in range(60)]
    assert [row for _, table in found for row in table.to_pylist()] == trajectories(60)


def test_a_problem_in_two_places_is_named(tmp_path):
    path = tmp_path / "trajectories.parquet"
    rows = trajectories(3)
    records.write_table(path, "trajectories", [*rows[1:], rows[0]])
    with pytest.raises(ArtifactError, match=f"{path}: the rows of problem p00000 are not neighbours"):
        list(batches.read_problems(path, "trajectories", rows=5))


def test_errors_are_those_of_a_whole_table(tmp_path):
    """No file, another kind, other types, a file that is cut off, and pages that are damaged."""
    path = tmp_path / "trajectories.parquet"

    def complaint(kind):
        told = []
        for read in (records.read_table, lambda *asked: list(batches.read_batches(*asked, rows=10))):
            with pytest.raises(ArtifactError) as caught:
                read(path, kind)
            told.append(str(caught.value))
        assert told[0] == told[1]
        return told[0]

    assert complaint("trajectories") == f"{path}: does not exist"
    records.write_table(path, "trajectories", trajectories(5))
    assert complaint("pairs").startswith(f"{path}: is not a table of pairs: no column chosen_id")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert complaint("trajectories").startswith(f"{path}: is not a complete Parquet file")
    path.write_bytes(whole[:200] + b"\xff" * 400 + whole[600:])
    assert complaint("trajectories").startswith(f"{path}: is not a complete Parquet file")
    text = pa.table({name: ["text"] for name in records.SCHEMAS["grades"].names})
    pq.write_table(text, path)
    assert complaint("grades").startswith(f"{path}: is not a table of grades")


def test_a_table_is_written_in_bounded_row_groups(tmp_path):
    path = tmp_path / "trajectories.parquet"
    with batches.writing(path, "trajectories", 10) as table:
        table.write(trajectories(1)[:3])
        table.write(trajectories(2)[3:])
    assert table.rows == 32
    assert records.read_table(path, "trajectories") == trajectories(2)
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [10, 10, 10, 2]
    with batches.writing(path, "trajectories"):
        pass
    assert records.read_table(path, "trajectories") == list(batches.read_rows(path, "trajectories")) == []
    records.write_table(path, "trajectories", trajectories(300))
    assert pq.ParquetFile(path).metadata.row_group(0).num_rows == records.ROW_GROUP < 300 * 16


def test_a_table_that_fails_half_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "trajectories.parquet"
    records.write_table(path, "trajectories", trajectories(1))
    with pytest.raises(KeyboardInterrupt), batches.writing(path, "trajectories", 4) as table:
        table.write(trajectories(2))
        raise KeyboardInterrupt
    assert records.read_table(path, "trajectories") == trajectories(1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("rows", [3, 64, 100])
def test_grades_and_sets_do_not_depend_on_the_batch(cell, rows, tmp_path, monkeypatch):
    grade(monkeypatch, cell, rows, tmp_path)
    assert records.read_table(tmp_path / "grades.parquet", "grades") == records.read_table(cell / "grades.parquet", "grades")
    counts = ("correct", "released", "math_verify", "unanswered", "timed_out", "truncated")
    metas = [records.read_json(provenance.meta_path(folder / "grades.parquet")) for folder in (tmp_path, cell)]
    assert [metas[0][key] for key in counts] == [metas[1][key] for key in counts] == [360, 360, 360, 0, 0, 60]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    select(monkeypatch, cell, batches.ROWS, whole)
    select(monkeypatch, cell, rows, cut)
    for name, kind in zip(SETS, ("answers", "answers", "pairs"), strict=True):
        assert records.read_table(cut / name, kind) == records.read_table(whole / name, kind) != []


def test_sets_are_what_the_rule_chose(cell, tmp_path, monkeypatch):
    """Each row has the tokens of its own sample."""
    select(monkeypatch, cell, 10, tmp_path)
    own = {(row["problem_id"], row["sample_id"]): row for row in trajectories(60)}
    right = records.read_table(tmp_path / "positive.parquet", "answers")
    wrong = records.read_table(tmp_path / "negative.parquet", "answers")
    for row in (*right, *wrong):
        assert row.items() <= own[row["problem_id"], row["sample_id"]].items()
    assert {row["sample_id"] % 3 for row in right} == {0}
    assert {row["sample_id"] % 3 for row in wrong} == {1, 2}
    first_wrong = {row["problem_id"]: row for row in reversed(wrong)}
    for pair, chosen in zip(records.read_table(tmp_path / "pairs.parquet", "pairs"), right, strict=True):
        rejected = first_wrong[pair["problem_id"]]
        assert (pair["chosen_id"], pair["chosen"]) == (chosen["sample_id"], chosen["token_ids"])
        assert (pair["rejected_id"], pair["rejected"]) == (rejected["sample_id"], rejected["token_ids"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: rows[:-1], "its samples are not those of .* from problem p00059 on"),
        (lambda rows: rows[:-16], "its samples are not those of .* from problem p00059 on"),
        (lambda rows: [*rows, rows[-1] | {"problem_id": "z"}], "its samples are not those of .* from problem z on"),
        (lambda rows: [rows[1], rows[0], *rows[2:]], "its samples are not those of .* from problem p00000 on"),
    ],
)
def test_grades_of_other_answers_are_refused(cell, tmp_path, change, complaint):
    grades = tmp_path / "grades.parquet"
    records.write_table(grades, "grades", change(records.read_table(cell / "grades.parquet", "grades")))
    with pytest.raises(ArtifactError, match=f"{grades}: {complaint}"):
        list(selection.graded_problems(cell / "trajectories.parquet", grades, 50))


def test_a_sample_that_stands_twice_is_refused(cell, tmp_path):
    for name in ("trajectories", "grades"):
        rows = records.read_table(cell / f"{name}.parquet", name)
        records.write_table(tmp_path / f"{name}.parquet", name, [rows[0], *rows])
    with pytest.raises(ArtifactError, match="has a sample of problem p00000 twice"):
        list(selection.graded_problems(tmp_path / "trajectories.parquet", tmp_path / "grades.parquet", 50))


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_batch_has_a_whole_number_of_rows(tmp_path, monkeypatch, capsys, text):
    with pytest.raises(SystemExit):
        grade(monkeypatch, tmp_path, text, tmp_path)
    assert f"{text!r} is not a whole number above 0" in capsys.readouterr().err


def arrow_peak(path):
    """Most bytes of Arrow's while a table is read in batches."""
    start, most = pa.total_allocated_bytes(), 0
    for _ in batches.read_batches(path, "trajectories", rows=64):
        most = max(most, pa.total_allocated_bytes() - start)
    return most


def test_memory_does_not_grow_with_the_table(tmp_path, monkeypatch):
    """Eight times the answers take the memory of Arrow that they took, and that of Python."""
    monkeypatch.setattr(provenance, "checksum", lambda path: "")  # it holds a megabyte, more than these tables
    peaks = []
    for problems in (60, 480):
        folder = tmp_path / str(problems)
        write_cell(folder, problems)
        arrow, python = arrow_peak(folder / "trajectories.parquet"), []
        write_cell(folder, problems, rows=10**6)  # in one row group, so that only the programs' own setting bounds a batch
        for program in (grade, select):
            tracemalloc.start()
            program(monkeypatch, folder, 64, folder)
            python.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        peaks.append((arrow, *python))
    small, large = peaks
    assert all(after < 1.5 * before for before, after in zip(small, large, strict=True)), peaks
