"""The authors' own files: read as their pipeline writes them, and refused where they are something
else.
"""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from test_workflow import config_with, snakemake

from critical_tokens.core import records
from critical_tokens.core.records import ArtifactError
from critical_tokens.data import authors_files, prompts
from critical_tokens.data.prompts import Prompt

QUESTIONS = ["Mia has 2 pens. How many pens does Mia have now?", "Tom has 3 pens. How many pens does Tom have now?"]
RIGHT, WRONG = (
    ["The answer is 2.", "The answer is 3."],
    ["The answer is 5.", "Then, 3 + 3 = 6 pens. The answer is 6."],
)
PROBLEMS = [{"problem_id": f"train-0000{i}", "question": q, "answer": "2"} for i, q in enumerate(QUESTIONS)]


def write(folder, tokenizer, bos=True):
    """The three files of a cell, as the released pipeline writes them."""
    folder.mkdir(exist_ok=True)
    prompted = [f"Question: {q}\nAnswer: " for q in QUESTIONS]
    sft = {
        "config": {},
        "pos": {
            str(i): {"question": q, "response": r, "answer": "2"}
            for i, (q, r) in enumerate(zip(QUESTIONS, RIGHT, strict=True))
        },
        "neg": {f"0_{k}": {"question": QUESTIONS[0], "response": w, "answer": "2"} for k, w in enumerate(WRONG)},
    }
    pairs = {"config": {}, "prompt": prompted, "chosen": RIGHT, "rejected": WRONG, "answer": ["2", "3"]}

    def scored(prompt, text):
        ids = tokenizer(prompt + text)["input_ids"]
        return {"ce_prob": [i / 1000 for i in range(1, len(ids))], "response_start_idx": 0, "text": prompt + text}

    results = [{"pos": scored(p, c), "neg": scored(p, r)} for p, c, r in zip(prompted, RIGHT, WRONG, strict=True)]
    scores = {"prompt": prompted, "chosen": RIGHT, "rejected": WRONG, "prob_result": results}
    name = "gsm8k.dpo_top_k1.T0.5"
    for file, content in (
        ("gsm8k.sft_pos_top_k1_sft_neg_top_p0.5.T0.5.json", sft), (f"{name}.json", pairs), (f"{name}.CE_scored.json", scores),
    ):  # fmt: skip
        (folder / file).write_text(json.dumps(content))
    return folder


@pytest.fixture
def folder(tmp_path, pocket_tokenizer):
    return write(tmp_path / "released", pocket_tokenizer)


def test_answers_and_pairs_are_those_of_the_files(folder, pocket_tokenizer):
    files, problems = authors_files.files(folder), authors_files.Problems(PROBLEMS, "gsm8k")
    positive = authors_files.answers(files["answers"], "pos", problems, pocket_tokenizer)
    negative = authors_files.answers(files["answers"], "neg", problems, pocket_tokenizer)
    assert [prompts.decode(pocket_tokenizer, r["token_ids"]) for r in positive] == [f" {text}" for text in RIGHT]
    assert [(r["problem_id"], r["sample_id"]) for r in negative] == [("train-00000", 0), ("train-00000", 1)]
    pairs = authors_files.pairs(files["pairs"], problems, pocket_tokenizer)
    assert [r["problem_id"] for r in pairs] == ["train-00000", "train-00001"]
    assert [prompts.decode(pocket_tokenizer, r["rejected"]) for r in pairs] == [f" {text}" for text in WRONG]


@pytest.mark.parametrize("blank", prompts.BLANKS)
@pytest.mark.parametrize("stripped", [False, True])
def test_a_token_has_the_score_of_theirs_at_its_first_character(folder, pocket_tokenizer, blank, stripped):
    files, problems = (
        authors_files.files(folder),
        authors_files.Problems(PROBLEMS, "gsm8k", Prompt("gsm8k", blank=blank)),
    )
    if stripped:  # a file whose prompts have lost their blank, and whose answers have one
        content = json.loads(files["scores"].read_text())
        content["prompt"] = [text.rstrip() for text in content["prompt"]]
        content["rejected"] = [f" {text}" for text in content["rejected"]]
        files["scores"].write_text(json.dumps(content))
    pairs = authors_files.pairs(files["pairs"], problems, pocket_tokenizer)
    rows = authors_files.scores(files["scores"], pairs, problems, pocket_tokenizer)
    for row, pair, question in zip(rows, pairs, QUESTIONS, strict=True):
        whole, text = (f"Question: {question}\nAnswer: ", prompts.decode(pocket_tokenizer, pair["rejected"]))
        spans = pocket_tokenizer(whole + text.strip(), return_offsets_mapping=True)["offset_mapping"]
        lead = len(text) - len(text.lstrip())
        assert lead == (blank == "answer")
        starts = [
            len(whole) - lead + start for start in (0, *prompts.token_ends(pocket_tokenizer, pair["rejected"])[:-1])
        ]
        expected = [next(i / 1000 for i, (a, b) in enumerate(spans) if a <= start < b) for start in starts]
        assert row["scores"] == pytest.approx([*expected, 0.0])
        assert len(row["token_ids"]) == len(row["scores"]) == len(pair["rejected"]) + 1


def test_a_folder_is_read_as_the_authors_pipeline_leaves_it(tmp_path, pocket_tokenizer):
    """Both datasets side by side, unfinished scores, a question twice, and questions that are no
    train problems.
    """
    folder = write(tmp_path / "released", pocket_tokenizer)
    for path in list(folder.glob("gsm8k.*")):
        (folder / path.name.replace("gsm8k.", "MATH.")).write_text("{}")
        path.rename(folder / path.name.replace("gsm8k.", "GSM8K."))
    scored = next(folder.glob("GSM8K.*CE_scored.json"))
    scored.with_name(scored.name.replace(".json", "_unfinished.json")).write_text("{")
    files = authors_files.files(folder, "gsm8k")
    assert {path.name.split(".")[0] for path in files.values()} == {"GSM8K"}
    # Without a style both are given, and the problems' decides.
    both = authors_files.files(folder)
    assert len(both["pairs"]) == 2
    problems = authors_files.Problems(PROBLEMS, "gsm8k")
    assert [
        len(authors_files.answers(both["answers"], side, problems, pocket_tokenizer)) for side in ("pos", "neg")
    ] == [2, 2]
    rows = authors_files.pairs(both["pairs"], problems, pocket_tokenizer)
    assert len(authors_files.scores(both["scores"], rows, problems, pocket_tokenizer)) == len(rows) == 2
    assert not problems.left_out
    shutil.copy(files["answers"], files["answers"].with_name("GSM8K.sft_pos_again.json"))
    for style in ("gsm8k", None):
        with pytest.raises(ArtifactError, match=r"has \d files \*sft_pos\*.json \(GSM8K.*must have one per dataset"):
            authors_files.files(folder, style)
    content = json.loads(files["pairs"].read_text())
    for name in ("prompt", "chosen", "rejected"):
        content[name] += [content[name][1]] * 2
    content["prompt"][0] = "Question: What has no gold answer?\nAnswer: "
    files["pairs"].write_text(json.dumps(content))
    problems = authors_files.Problems([*PROBLEMS, {"problem_id": "train-00009", "question": QUESTIONS[1]}], "gsm8k")
    assert [row["problem_id"] for row in authors_files.pairs(files["pairs"], problems, pocket_tokenizer)] == [
        "train-00001"
    ]
    assert problems.left_out == {files["pairs"].name: 3}
    content = json.loads(files["answers"].read_text())
    for side in ("pos", "neg"):
        content[side]["9"] = {"question": "What has no gold answer?", "response": "None.", "answer": "2"}
    files["answers"].write_text(json.dumps(content))
    for side in ("pos", "neg"):
        authors_files.answers(files["answers"], side, problems, pocket_tokenizer)
    assert problems.left_out[files["answers"].name] == 2


def test_files_that_are_something_else_are_named(folder, pocket_tokenizer):
    problems = authors_files.Problems(PROBLEMS, "gsm8k")
    path = folder / "x.json"

    def pairs(**changed):
        columns = {"prompt": [Prompt("gsm8k").text(QUESTIONS[0])], "chosen": ["a"], "rejected": ["b"]} | changed
        path.write_text(json.dumps(columns))
        return authors_files.pairs(path, problems, pocket_tokenizer)

    assert len(pairs()) == 1
    for changed, message in (
        ({"chosen": []}, "different lengths"),
        ({"chosen": "a"}, "no list chosen"),
        ({"prompt": ["Question: Who?\nAnswer: "]}, "row 0: no train problem has its question"),
        ({"prompt": [7]}, "row 0: no train problem has its question"),
        ({"rejected": [None]}, "row 0: rejected is no text"),
        ({"rejected": ["\ud800"]}, "row 0: rejected is no text"),
    ):
        with pytest.raises(ArtifactError, match=message):
            pairs(**changed)
    path.write_text("[]")
    with pytest.raises(ArtifactError, match="no JSON object"):
        authors_files.pairs(path, problems, pocket_tokenizer)
    found = authors_files.pairs(authors_files.files(folder)["pairs"], problems, pocket_tokenizer)
    content = json.loads((scored := authors_files.files(folder)["scores"]).read_text())
    content["prob_result"][1]["neg"]["ce_prob"].append(0.5)
    content["prob_result"][1]["neg"]["ce_prob"].append(0.5)
    scored.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"row 1: \d+ scores for \d+ tokens"):
        authors_files.scores(scored, found, problems, pocket_tokenizer)
    content["prob_result"][1]["neg"] = [1]
    scored.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="row 1: ce_prob is no list of scores"):
        authors_files.scores(scored, found, problems, pocket_tokenizer)
    content["rejected"][0] = RIGHT[0]
    scored.write_text(json.dumps(content))
    content["prob_result"][1] = content["prob_result"][0]
    scored.write_text(json.dumps(content))
    with pytest.raises(
        ArtifactError, match="row 0: its rejected answer is not that of the pair of problem train-00000"
    ):
        authors_files.scores(scored, found, problems, pocket_tokenizer)
    (folder / "second.sft_pos.json").write_text("{}")
    with pytest.raises(ArtifactError, match="has 2 files"):
        authors_files.files(folder)


@pytest.mark.workflow
def test_a_cell_from_the_authors_files(clone, tmp_path, pocket_tokenizer):
    """The workflow goes from released files to contrastive scores and pairs without sampling
    anything.
    """
    folder = write(tmp_path / "released", pocket_tokenizer)
    lines = [json.dumps({"question": q, "answer": f"… #### {i + 2}"}) for i, q in enumerate(QUESTIONS)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": "Ann has 9 pens. How many?", "answer": "#### 9"}))
    train, test = (
        {"path": str(tmp_path / f"{s}.jsonl"), "question": "question", "solution": "answer"} for s in ("train", "test")
    )
    entry = {"style": "gsm8k", "max_new_tokens": 96, "train": train, "test": test, "released_pairs": str(folder)}
    own = config_with(tmp_path, dataset_registry={"theirs": entry}, datasets=["theirs"], models=["pocket-s"])
    cell = "results/pocket-s/theirs"
    shown = snakemake(
        *own, "-p", "--", f"{cell}/pairs.parquet", f"{cell}/contrast.parquet", f"{cell}/rollouts.parquet", cwd=clone
    )
    # Their answers need not be possible under our distribution.
    assert "--method independent --rollouts 64" in shown.stdout + shown.stderr
    rows = records.read_table(clone / cell / "contrast.parquet", "contrast")
    assert [len(r["scores"]) for r in rows] == [len(r["token_ids"]) for r in rows]
    assert not (clone / cell / "trajectories.parquet").exists()
    assert not (clone / cell / "positive").exists()


def test_a_folder_without_scores_is_named(folder, tmp_path):
    next(folder.glob("*CE_scored.json")).unlink()
    model, files = (
        ["--model", ROOT / "data" / "models" / "pocket-s"],
        ["--problems", "x", "--pairs", "y", "--output", "z"],
    )
    command = [
        sys.executable,
        ROOT / "scripts" / "import_scores.py",
        *model,
        "--folder",
        folder,
        "--style",
        "gsm8k",
        *files,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.stderr.strip() == f"error: {folder}: has no file *CE_scored*.json"
