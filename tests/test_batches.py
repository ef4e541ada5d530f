"""Tables in batches: the same rows whatever the batch, and memory that does not grow with the
table.
"""

import importlib.util
import sys
import tracemalloc
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from critical_tokens.core import batches, provenance, records
from critical_tokens.core.records import ArtifactError
from critical_tokens.core.schemas import SCHEMAS
from critical_tokens.data import selection
from critical_tokens.grading import answers, verify

TOKENS = 40
SETS = ("positive.parquet", "negative.parquet", "pairs.parquet")


def trajectories(problems, samples=16):
    """Answers of which every third is right and the others state one of four wrong numbers. All
    token ids differ.
    """
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
    unused = dict.fromkeys(SCHEMAS["problems"].names)
    asked = [unused | {"problem_id": f"p{i:05}", "question": "How many?", "answer": "0"} for i in range(problems)]
    records.write_table(folder / "problems.parquet", "problems", asked)
    table = pa.Table.from_pylist(trajectories(problems), schema=SCHEMAS["trajectories"])
    pq.write_table(table, folder / "trajectories.parquet", row_group_size=rows)


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
    text = pa.table({name: ["text"] for name in SCHEMAS["grades"].names})
    pq.write_table(text, path)
    assert complaint("grades").startswith(f"{path}: is not a table of grades")


@pytest.mark.parametrize("ends", [(32,), (3, 32), (10, 20, 32), (9, 11, 30, 31, 32), range(1, 33)])
def test_a_table_is_written_in_row_groups_of_one_size(tmp_path, monkeypatch, ends):
    """However its rows come, the file is the same, byte for byte."""
    monkeypatch.setattr(batches, "ROWS", 10)
    path, known = tmp_path / "trajectories.parquet", tmp_path / "known.parquet"
    with batches.writing(path, "trajectories") as table:
        for start, end in pairwise((0, *ends)):
            table.write(trajectories(2)[start:end])
    assert table.rows == 32
    assert records.read_table(path, "trajectories") == trajectories(2)
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [10, 10, 10, 2]
    whole = pa.Table.from_pylist(trajectories(2), schema=SCHEMAS["trajectories"])
    pq.write_table(whole, known, row_group_size=10, compression="zstd")
    assert path.read_bytes() == known.read_bytes()


def test_pages_do_not_depend_on_how_rows_came(tmp_path):
    """Nor do the pages of a row group, of which one has a megabyte at most."""
    whole = pa.Table.from_pylist(trajectories(250), schema=SCHEMAS["trajectories"])
    long = pa.array([ids * 4 for ids in whole["token_ids"].to_pylist()], whole["token_ids"].type)
    whole = whole.set_column(2, whole.schema.field("token_ids"), long)
    written = []
    for step in (7, 1000, 4000):
        with batches.writing(tmp_path / "trajectories.parquet", "trajectories") as table:
            for start in range(0, whole.num_rows, step):
                table.add(whole.slice(start, step))
        written.append((tmp_path / "trajectories.parquet").read_bytes())
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("cuts", [(0, 48), (0, 1, 48), (0, 7, 23, 40, 48)])
def test_joined_parts_are_the_whole_table(tmp_path, monkeypatch, cuts):
    monkeypatch.setattr(batches, "ROWS", 10)
    monkeypatch.setattr(records, "ROW_GROUP", 10)
    rows, parts = trajectories(3), []
    records.write_table(tmp_path / "whole.parquet", "trajectories", rows)
    for start, end in pairwise(cuts):
        parts.append(tmp_path / f"{start}.parquet")
        records.write_table(parts[-1], "trajectories", rows[start:end])
    assert batches.join_tables(tmp_path / "joined.parquet", "trajectories", parts) == len(rows)
    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_table_may_be_empty(tmp_path):
    path = tmp_path / "trajectories.parquet"
    with batches.writing(path, "trajectories"):
        pass
    assert records.read_table(path, "trajectories") == list(batches.read_rows(path, "trajectories")) == []


def test_a_table_that_fails_half_way_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "trajectories.parquet"
    records.write_table(path, "trajectories", trajectories(1))
    monkeypatch.setattr(batches, "ROWS", 4)
    with pytest.raises(KeyboardInterrupt), batches.writing(path, "trajectories") as table:
        table.write(trajectories(2))
        raise KeyboardInterrupt
    assert records.read_table(path, "trajectories") == trajectories(1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("rows", [3, 64, 100])
def test_grades_and_sets_do_not_depend_on_the_batch(cell, rows, tmp_path, monkeypatch):
    grade(monkeypatch, cell, rows, tmp_path)
    assert (tmp_path / "grades.parquet").read_bytes() == (cell / "grades.parquet").read_bytes()
    counts = ("correct", "released", "math_verify", "unanswered", "timed_out", "truncated")
    metas = [records.read_json(provenance.meta_path(folder / "grades.parquet")) for folder in (tmp_path, cell)]
    assert [metas[0][key] for key in counts] == [metas[1][key] for key in counts] == [360, 360, 360, 0, 0, 60]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    select(monkeypatch, cell, batches.ROWS, whole)
    select(monkeypatch, cell, rows, cut)
    for name, kind in zip(SETS, ("answers", "answers", "pairs"), strict=True):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
        assert records.read_table(whole / name, kind)


def test_workers_of_the_library_live_on_between_batches(tmp_path, monkeypatch):
    """Expressions, which the library has to compare: the verdicts are those of one call, from the
    same few processes.
    """
    folder, started = tmp_path / "cell", []
    write_cell(folder, 4)
    texts = [r"\boxed{x+1}", r"\boxed{1+x}", r"\boxed{x-1}", r"\boxed{\frac{x}{2}+1}"]
    answered = [row | {"text": f"{row['sample_id']}: {texts[i % 4]}"} for i, row in enumerate(trajectories(4, 4))]
    asked = [row | {"answer": "x+1"} for row in records.read_table(folder / "problems.parquet", "problems")]
    records.write_table(folder / "trajectories.parquet", "trajectories", answered)
    records.write_table(folder / "problems.parquet", "problems", asked)
    worker_for = verify.Workers._worker_for

    def counted(workers, share):
        worker = worker_for(workers, share)
        started.append(worker.process.pid)
        return worker

    monkeypatch.setattr(verify.Workers, "_worker_for", counted)
    grade(monkeypatch, folder, 3, tmp_path)
    assert len(set(started)) <= verify.Workers().count < len(started)
    rows = records.read_table(tmp_path / "grades.parquet", "grades")
    assert rows == answers.grade_rows(answered, asked, "gsm8k", "released")
    assert [row["math_verify"] for row in rows] == [True, True, False, False] * 4


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


@pytest.fixture
def arrow(monkeypatch):
    """Bytes of Arrow's at every batch that is read."""
    seen, read = [], batches.read_batches

    def watched(*asked):
        for batch in read(*asked):
            seen.append(pa.total_allocated_bytes())
            yield batch

    monkeypatch.setattr(batches, "read_batches", watched)
    return seen


def test_memory_does_not_grow_with_the_table(tmp_path, monkeypatch, arrow):
    """Eight times the answers take what they took, of Arrow's memory and of Python's, but for some
    bytes per row group.
    """
    monkeypatch.setattr(provenance, "checksum", lambda path: "")  # it holds a megabyte, more than these tables
    monkeypatch.setattr(batches, "ROWS", 64)
    peaks = []
    for problems in (60, 480):
        write_cell(tmp_path, problems)
        for program in (grade, select):
            arrow.clear()
            start = pa.total_allocated_bytes()
            tracemalloc.start()
            program(monkeypatch, tmp_path, 64, tmp_path)
            peaks.append((max(arrow) - start, tracemalloc.get_traced_memory()[1]))
            tracemalloc.stop()
    small, large = (sum(peaks[i : i + 2], ()) for i in (0, 2))
    table = pa.Table.from_pylist(trajectories(480), schema=SCHEMAS["trajectories"])
    assert all(after - before < table.nbytes / 10 for before, after in zip(small, large, strict=True)), peaks


def test_a_batch_bounds_what_is_read_of_a_large_row_group(tmp_path, monkeypatch):
    """Tables of other writers have row groups of a million rows, of which a program holds no more
    than its setting says.
    """
    monkeypatch.setattr(provenance, "checksum", lambda path: "")
    write_cell(tmp_path, 480, rows=10**6)
    peaks = []
    for rows in (64, 10**6):
        tracemalloc.start()
        grade(monkeypatch, tmp_path, rows, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert 2 * peaks[0] < peaks[1], peaks
