"""Problems from files as people have them: gold answers of every form, encodings, and files that
are something else.
"""

import gzip
import json
import subprocess
import sys
from collections import Counter

import pytest
from conftest import ROOT

from critical_tokens.core import provenance, records
from critical_tokens.core.records import ArtifactError
from critical_tokens.core.schemas import SCHEMAS
from critical_tokens.data import annotations, sources

STATED = {"question": "question", "answer": "answer"}
WORKED = {"question": "question", "solution": "answer"}
POCKET = ROOT / "data" / "models" / "pocket-s"
IDS = ["train-00000", "train-00001"]


def problems(tmp_path, content, columns=WORKED, name="a.jsonl", **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return sources.from_json_lines(path, "train", columns, **options)


def row(answer, question="How many?"):
    return json.dumps({"question": question, "answer": answer})


@pytest.mark.parametrize(
    ("answer", "columns", "gold"),
    [
        (18, STATED, "18"),
        (27.0, STATED, "27"),
        (2.5, STATED, "2.5"),
        (-3, STATED, "-3"),
        (["18"], STATED, "18"),
        ([7], STATED, "7"),
        ("1,234", STATED, "1,234"),
        ("9+9=18\n#### $18", WORKED, "18"),
        ("so\n#### -€1,200", WORKED, "-1200"),
        ("$18", STATED, "18"),
        (r"-\$1,200.50", STATED, "-1,200.50"),
        ("9+9=18\n#### 18", STATED, "18"),
        (r"so $\boxed{\frac{1}{2}}$ of them", STATED, r"\frac{1}{2}"),
        ("2xy", STATED, "2xy"),
        ("so\n#### \\$5", WORKED, "5"),
        (r"so $\boxed{x \in [-2,7]}$", WORKED, r"x \in [-2,7]"),
        (r"so $\boxed{\mbox{four}}$", WORKED, r"\mbox{four}"),
        (1e-7, STATED, "0.0000001"),
        (1e22, STATED, "10000000000000000000000"),
        (" 18\n", STATED, "18"),
        ("9+9=18\n#### 18", STATED, "18"),
        (r"so $\boxed{5}$", STATED, "5"),
        ("9 (apples)", STATED, "9"),
        ("1,200 (square feet)", STATED, "1,200"),
        ("3 (x+1)", STATED, "3 (x+1)"),
        ("10-4 n", STATED, "10-4 n"),
        ("5, 6", STATED, "5, 6"),
        ("Yes", STATED, "Yes"),
    ],
)
def test_gold_answers_of_public_sets_are_read(tmp_path, answer, columns, gold):
    assert [p["answer"] for p in problems(tmp_path, row(answer), columns)] == [gold]


@pytest.mark.parametrize(
    ("content", "columns", "complaint"),
    [
        (row("45 cm"), STATED, "row 1: the gold answer '45 cm' is found wrong by its own grader"),
        (row("18€"), STATED, "'18€' is found wrong"),
        (row("\u22125"), STATED, "is found wrong"),
        (row("She has 9. The answer is 9."), STATED, "is found wrong"),
        (row("9 apples and 3 pears"), STATED, "is found wrong"),
        (row("#### 18 apples"), WORKED, "'18 apples' is found wrong"),
        (row("#### "), STATED, "row 1: has no answer"),
        (row("3 hours 20 minutes"), STATED, "is found wrong"),
        (row("12 (out of 20)"), STATED, "is found wrong"),
        (row("The answer is 18."), STATED, "is found wrong"),
        (row("so\n#### 45 cm"), WORKED, "the gold answer '45 cm' is found wrong"),
        (row("so\n#### 1/2"), WORKED, "is found wrong"),
        (row("NaN"), STATED, "has no answer in column 'answer'; its value is 'NaN'"),
        (row([["5"]]), STATED, "has no answer in column"),
        (row("a" * 1500), STATED, "is found wrong"),
        (row(True), STATED, "row 1: has no answer in column 'answer'; its value is 'True'"),
        (row(None), STATED, "row 1: has no answer in column 'answer'; its value is"),
        (row(""), STATED, "row 1: has no answer in column 'answer'; its value is"),
        (row([1, 2]), STATED, r"its value is '\[1, 2\]'"),
        (row({"value": 3}), STATED, "has no answer in column"),
        (row(float("nan")), STATED, "its value is 'nan'"),
        (row("5", question="  "), STATED, "has no question in column 'question'; its value is '  '"),
        (row("5", question=7), STATED, "has no question"),
        ('{"problem": "a", "answer": "5"}', STATED, "has no question in column 'question'; it has problem, answer"),
        (row("no answer here"), WORKED, "row 1: has no answer"),
        ('{"question": "\\ud800", "answer": "5"}', STATED, "row 1: question has an invalid character"),
        ('{"question": "a", "answer": "\\u0000"}', STATED, "row 1: answer has an invalid character"),
        (
            '{"question": "a", "question": "b", "answer": "5"}',
            STATED,
            "row 1: is not JSON .the key 'question' stands twice",
        ),
        (row("5") + "\n" + json.dumps({"question": "a"}, indent=1), STATED, r"row 2: is not JSON .*one object a line"),
        ("", STATED, "has no problems"),
        ("\n\n", STATED, "has no problems"),
        ('[{"question": "a", "answer": "5"}]', STATED, "is a JSON array; one object a line"),
        ("5", STATED, "is no JSON object"),
        ("[" * 100_000, STATED, "is a JSON array"),
        ('{"a":' * 100_000, STATED, "row 1: is not JSON"),
        (b'{"question": "Zo\xeb", "answer": "5"}', STATED, "row 1: is not UTF-8"),
        (b"PAR1\x15\x04", STATED, "is a Parquet file, which is not read; problems come from JSON lines"),
        (b"PK\x03\x04abc", STATED, "is a ZIP archive or a spreadsheet"),
        ((row("5") + "\n").encode("utf-16"), STATED, "is UTF-16"),
    ],
)
def test_what_is_no_problem_is_named_with_its_row(tmp_path, content, columns, complaint):
    with pytest.raises(ArtifactError, match=rf"a\.jsonl.*{complaint}"):
        problems(tmp_path, content, columns)


def test_the_grader_is_that_of_the_style(tmp_path):
    fraction = row(r"so $\boxed{\frac{1}{2}}$")
    assert len(problems(tmp_path, fraction, style="math")) == 1
    with pytest.raises(ArtifactError, match="is found wrong"):
        problems(tmp_path, fraction, style="gsm8k")


def test_problems_without_an_answer_may_be_left_out(tmp_path):
    content = "\n".join([row(None), row("5"), row("")])
    assert [p["problem_id"] for p in problems(tmp_path, content, STATED, skip_unanswered=True)] == ["train-00001"]
    with pytest.raises(ArtifactError, match="row 1: has no answer"):
        problems(tmp_path, content, STATED)
    with pytest.raises(ArtifactError, match="has no answer in column 'gold'"):
        problems(tmp_path, content, {"question": "question", "answer": "gold"}, skip_unanswered=True)


@pytest.mark.parametrize("name", ["a.csv", "a.TSV"])
def test_other_formats_are_named(tmp_path, name):
    with pytest.raises(ArtifactError, match=r"problems come from JSON lines"):
        problems(tmp_path, "x", name=name)
    with pytest.raises(ArtifactError, match="is a folder; problems come from JSON lines"):
        sources.from_json_lines(tmp_path, "train", WORKED)


def test_what_is_left_out_is_counted(tmp_path):
    answers = ["5", "", None, "45 cm", "many", "6"]
    left_out = Counter()
    found = problems(
        tmp_path, "\n".join(map(row, answers)), STATED, style="gsm8k", skip_unanswered=True, left_out=left_out
    )
    assert [(p["problem_id"], p["answer"]) for p in found] == [("train-00000", "5"), ("train-00005", "6")]
    assert left_out == {"unanswered": 2, "never right": 2}
    with pytest.raises(ArtifactError, match="has no problems with a gold answer, of 2"):
        problems(tmp_path, f"{row('')}\n{row('many')}", STATED, style="gsm8k", skip_unanswered=True)


def test_a_question_may_stand_in_two_columns(tmp_path):
    line = json.dumps({"Body": "There are 87 oranges.", "Question": "How many?", "Answer": 87.0})
    found = problems(tmp_path, line, {"question": ["Body", "Question"], "answer": "Answer"})
    assert [(p["question"], p["answer"]) for p in found] == [("There are 87 oranges. How many?", "87")]


def test_editors_and_systems_leave_their_marks(tmp_path):
    """A byte-order mark, line ends of every system, line separators inside strings, letters of
    everybody.
    """
    questions = ["Zoë has 5 \u2028 pens.\x85 😀?", "多少?"]
    lines = [json.dumps({"question": q, "answer": f"#### {i}"}, ensure_ascii=False) for i, q in enumerate(questions)]
    for end in ("\n", "\r\n", "\r"):
        content = b"\xef\xbb\xbf" + end.join([*lines, ""]).encode()
        for packed in (content, gzip.compress(content)):
            found = problems(tmp_path, packed)
            assert [(p["problem_id"], p["question"]) for p in found] == list(zip(IDS, questions, strict=True))
            assert [p["answer"] for p in found] == ["0", "1"]


def test_a_damaged_archive_is_named(tmp_path):
    packed = bytearray(gzip.compress("\n".join(row(f"#### {i}") for i in range(500)).encode()))
    packed[30] ^= 0xFF
    packed[40] ^= 0x55
    with pytest.raises(ArtifactError, match=r"a\.jsonl\.gz: cannot be read to its end"):
        problems(tmp_path, bytes(packed), name="a.jsonl.gz")


@pytest.mark.workflow
def test_a_bomb_is_refused_before_it_unpacks(tmp_path):
    for content in (b" " * (1 << 20), b"\n" * (1 << 20)):
        with pytest.raises(ArtifactError, match="unpacks to more than text does"):
            problems(tmp_path, gzip.compress(content) * 64, name="a.jsonl.gz")


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.jsonl").write_text(row("#### 5"))
    assert len(sources.from_json_lines(records.Path("~/a.jsonl"), "train", WORKED)) == 1
    with pytest.raises(ArtifactError, match=r"~nobody-of-that-name/a\.jsonl: does not exist"):
        sources.from_json_lines(records.Path("~nobody-of-that-name/a.jsonl"), "train", WORKED)


def prepare(tmp_path, *options, environment=None):
    command = [
        sys.executable,
        ROOT / "scripts" / "prepare_dataset.py",
        "--question",
        "question",
        "--solution",
        "answer",
        *options,
    ]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert b"Traceback" not in result.stderr, result.stderr
    return result


@pytest.mark.parametrize("locale", ["C", "en_US.ISO-8859-1"])
def test_no_locale_changes_a_letter(tmp_path, locale):
    (tmp_path / "Zoë.jsonl").write_text(row("#### 5", "Zoë has 5 pens."), encoding="utf-8")
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = prepare(
        tmp_path, "--path", "Zoë.jsonl", "--split", "train", "--output", "x=1/Zoë.parquet", environment=environment
    )
    assert done.returncode == 0, done.stderr
    table = tmp_path / "x=1" / "Zoë.parquet"
    assert records.read_table(table, "problems")[0]["question"] == "Zoë has 5 pens."
    if locale == "C":
        assert list(records.read_json(provenance.meta_path(table))["inputs"]) == ["Zoë.jsonl"]


def test_a_test_split_must_not_repeat_the_train_split(tmp_path):
    train = [row(f"#### {i}", f"What is {i}?") for i in range(200)]
    (tmp_path / "train.jsonl").write_text("\n".join(train))
    assert prepare(tmp_path, "--path", "train.jsonl", "--split", "train", "--output", "train.parquet").returncode == 0
    fresh = [row(f"#### {i}", f"What is {i}?") for i in range(300, 500)]
    against = ("--against", "train.parquet", "--split", "test", "--output", "test.parquet")
    for shared, refused in ((2, False), (3, True)):
        (tmp_path / "test.jsonl").write_text("\n".join([*train[:shared], *fresh[shared:]]))
        result = prepare(tmp_path, "--path", "test.jsonl", *against)
        assert (result.returncode != 0) is refused
        told = (result.stderr if refused else result.stdout).decode()
        assert f"{shared} of " in told and "200 questions are in train.parquet, too" in told


# --- a dataset of the hub


GOOD = row("#### 5").encode() + b"\n"
TAGGED = b"---\nconfigs: !!python/object/apply:os.system ['touch %s']\n---\n"


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "any data files"),
        ({"train.jsonl": GOOD[:-3]}, "cannot be read from .*JSON"),
        ({"train.jsonl": b"[" * 100_000}, "cannot be read"),
        ({"train.parquet": b"PAR1 and no more"}, "Parquet magic bytes"),
        ({"test.jsonl": GOOD}, 'Unknown split "train"'),
        ({"train.jsonl": GOOD, "README.md": TAGGED}, "could not determine a constructor for the tag"),
        ({"train.jsonl": GOOD, "theirs.py": b"open({path!r}, 'w')"}, "Dataset scripts are no longer supported"),
        ({"train.jsonl": GOOD, "load.py": b"open({path!r}, 'w')"}, None),
    ],
)
def test_a_hub_dataset_is_read_or_refused_and_nothing_of_it_is_run(tmp_path, monkeypatch, files, complaint):
    folder, sign = tmp_path / "theirs", tmp_path / "was-run"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content.replace(b"%s", bytes(sign)).replace(b"{path!r}", repr(str(sign)).encode()))
    monkeypatch.setattr("critical_tokens.core.hub.snapshot", lambda repository: folder)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def load():
        return sources.from_hub("own/theirs", None, "train", "a" * 40, "train", WORKED)

    if complaint is None:
        assert [p["answer"] for p in load()] == ["5"]
    else:
        with pytest.raises(ArtifactError, match=f"own/theirs/train: .*{complaint}"):
            load()
    assert not sign.exists()


# --- annotations, and rows by problem


def test_annotations_are_read_as_spreadsheets_save_them(tmp_path):
    text = 'problem_id,answer,offset,error_kind\r\ntrain-1,"So 5, then 6",3,calculation\r\n'
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = annotations.read(tmp_path / "a.csv")
    assert annotations.of_answer(found, "train-1", "So 5, then 6") == (3, "calculation")
    # The blank that an answer begins with may have been lost on the way to the annotators.
    assert annotations.of_answer(found, "train-1", " So 5, then 6") == (4, "calculation")
    assert annotations.of_answer(found, "train-2", "So 5, then 6") is None
    (tmp_path / "a.csv").write_text(text + 'train-1,"So 5, then 6",3,calculation\n')
    assert len(annotations.read(tmp_path / "a.csv")) == 1
    (tmp_path / "a.csv").write_text(text + 'train-1,"So 5, then 6",4,calculation\n')
    with pytest.raises(ArtifactError, match="row 3: problem train-1 has another annotation"):
        annotations.read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("a,b,2,calculation", "row 2: offset is '2', must be a number from 0 to 1"),
        (f"a,b,{'1' * 5000},calculation", "row 2: offset is '1111"),
        ("a,b,-1,calculation", "row 2: offset is '-1'"),
        (",b,0,calculation", "row 2: has no problem_id"),
        ("a,b,0, ", "row 2: has no error_kind"),
        ("a,b, then c,0,calculation", "row 2: has more cells than there are columns"),
        (f'a,"{"x" * 200_000}",0,calculation', "is no CSV file"),
    ],
)
def test_an_annotation_that_is_none_is_named(tmp_path, rows, complaint):
    path = tmp_path / "a.csv"
    path.write_text(f"problem_id,answer,offset,error_kind\n{rows}\n")
    with pytest.raises(ArtifactError, match=f"{path}.*{complaint}"):
        annotations.read(path)


def test_a_file_without_annotations_is_named(tmp_path):
    path = tmp_path / "a.csv"
    for content, complaint in (
        (b"problem_id;answer;offset;error_kind\n", "has no column .*; columns are separated by commas"),
        ("problem_id,answer,offset,error_kind\n".encode("utf-16"), "is not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=f"{path}: {complaint}"):
            annotations.read(path)
    with pytest.raises(ArtifactError, match=f"{tmp_path}: Is a directory"):
        annotations.read(tmp_path)


def test_rows_by_problem_name_what_is_missing_or_twice():
    rows = [{"problem_id": "a", "x": 1}, {"problem_id": "a", "x": 1}, {"problem_id": "b", "x": 2}]
    found = records.ByProblem(rows, "pairs.parquet")
    assert found["b"]["x"] == 2
    with pytest.raises(ArtifactError, match=r"pairs\.parquet: has no problem c"):
        found["c"]
    with pytest.raises(ArtifactError, match="has problem a twice, with different contents"):
        records.ByProblem([*rows, {"problem_id": "a", "x": 3}], "pairs.parquet")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not CSV"),
        (b"a,b\n1", "has no column x"),
        (b"x\n\xff\xfe", "is not CSV in UTF-8"),
        (b"x\n1\n1,2,3", "is not CSV"),
    ],
)
def test_foreign_tables_are_named(tmp_path, content, complaint):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"a\.csv: {complaint}"):
        records.read_csv(tmp_path / "a.csv", ["x"])
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfx,y\r\n1,Zo\xc3\xab\r\n")
    assert records.read_csv(tmp_path / "a.csv", ["x"]).to_dict("list") == {"x": [1], "y": ["Zoë"]}


@pytest.mark.parametrize("value", [None, "1", True, float("nan"), [1]])
def test_metrics_are_numbers(tmp_path, value):
    (tmp_path / "metrics.json").write_text(json.dumps({"n": 5, "accuracy": value}))
    assert records.read_numbers(tmp_path / "metrics.json", ["n"])["n"] == 5
    with pytest.raises(ArtifactError, match=r"metrics\.json: accuracy is .*, not a number"):
        records.read_numbers(tmp_path / "metrics.json", ["n", "accuracy"])


@pytest.mark.parametrize("content", ["{}", "[]", '{"n": 1}', "", "[" * 100_000, '{"n": '])
def test_foreign_metrics_are_named(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"metrics\.json: (has no .*accuracy|is no JSON object|is not JSON)"):
        records.read_object(tmp_path / "metrics.json", ["n", "accuracy"])


@pytest.mark.parametrize(
    ("program", "tables", "more"),
    [
        ("agreement_cell", ("critical", "contrast", "reference"), ("--variant", "default")),
        (
            "classify_critical",
            ("critical", "pairs", "rollouts", "problems"),
            ("--model", POCKET, "--words", "words.json"),
        ),
    ],
)
@pytest.mark.workflow
def test_an_id_that_another_table_lacks_is_named(tmp_path, program, tables, more):
    command = [sys.executable, ROOT / "scripts" / f"{program}.py", *more, "--output", tmp_path / "out.csv"]
    for kind in tables:
        command += [f"--{kind}", tmp_path / f"{kind}.parquet"]
        rows = [
            dict.fromkeys(SCHEMAS[kind].names) | {"problem_id": "train-9", "sample_id": 0, "position": 1, "length": 5}
        ]
        records.write_table(
            tmp_path / f"{kind}.parquet", kind, rows if kind == "critical" else [], {"model": "m", "dataset": "d"}
        )
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert result.returncode == 1
    assert f"{tables[1]}.parquet: has no problem train-9, which another table names" in result.stderr
    assert "Traceback" not in result.stderr
