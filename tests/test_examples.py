"""Training examples from tables, and tables that do not belong together."""

import subprocess
import sys

import pytest
from conftest import ROOT

from critical_tokens.core import records
from critical_tokens.core.records import ArtifactError
from critical_tokens.core.schemas import SCHEMAS
from critical_tokens.data.prompts import Prompt
from critical_tokens.objectives import log_probabilities
from critical_tokens.training import alignment

PROBLEMS = [{"problem_id": f"p{i}", "question": f"What is {i} + 1?"} for i in range(2)]
PAIRS = [
    {"problem_id": "p1", "chosen": [5, 6], "rejected": [7], "chosen_finished": True, "rejected_finished": False},
    {"problem_id": "p0", "chosen": [8], "rejected": [9, 10], "chosen_finished": True, "rejected_finished": True},
]
ROWS = [
    {"problem_id": "p0", "chosen_logps": [-1.0] * 2, "rejected_logps": [-2.0] * 3},
    {"problem_id": "p1", "chosen_logps": [-3.0] * 3, "rejected_logps": [-4.0]},
]


@pytest.fixture
def pairs_of(pocket_tokenizer):
    return lambda pairs, rows: alignment.pair_examples(pocket_tokenizer, pairs, PROBLEMS, Prompt("gsm8k"), rows, None)


def test_a_pair_has_the_reference_of_its_problem_and_its_name(pairs_of):
    made = pairs_of(PAIRS, ROWS)
    assert [e["problem_id"] for e in made] == ["p1", "p0"]
    assert made[0]["references"] == [[-3.0] * 3, [-4.0]]
    assert made[1]["references"] == [[-1.0] * 2, [-2.0] * 3]
    assert pairs_of(PAIRS, None)[0]["references"] == [[0.0] * 3, [0.0]]


@pytest.mark.parametrize("rows", [ROWS[:1], [ROWS[0], {**ROWS[1], "rejected_logps": [-4.0, -5.0]}]])
def test_a_reference_that_is_not_of_these_pairs_is_refused(pairs_of, rows):
    with pytest.raises(ArtifactError, match="reference: has no log-probabilities of the answers to problem p1"):
        pairs_of(PAIRS, rows)


def test_a_pair_of_an_unknown_problem_is_refused(pairs_of, pocket_tokenizer):
    pairs = [{**PAIRS[0], "problem_id": "p7"}, PAIRS[1]]
    words = r"problem p7 is not among the problems \(1 such\)"
    with pytest.raises(ArtifactError, match=words):
        pairs_of(pairs, None)
    with pytest.raises(ArtifactError, match=words):
        log_probabilities.answered_side(pocket_tokenizer, pairs, PROBLEMS, Prompt("gsm8k"), "rejected")
    answers = [{"problem_id": "p7", "token_ids": [5], "finished": True}]
    with pytest.raises(ArtifactError, match=words):
        alignment.answer_examples(pocket_tokenizer, answers, PROBLEMS, Prompt("gsm8k"))


def test_scored_answers_know_their_problem(pocket_tokenizer):
    items = log_probabilities.answered_side(pocket_tokenizer, PAIRS, PROBLEMS, Prompt("gsm8k"), "chosen")
    assert [item.problem_id for item in items] == ["p1", "p0"]


@pytest.mark.parametrize(("rows", "limit"), [(0, None), (2, 0)])
def test_nothing_to_evaluate_is_refused(tmp_path, rows, limit):
    columns = dict.fromkeys(SCHEMAS["problems"].names)
    records.write_table(tmp_path / "test.parquet", "problems", [columns | problem for problem in PROBLEMS[:rows]])
    files = {"problems": "test.parquet", "output": "a.parquet", "grades": "g.parquet", "metrics": "m.json"}
    settings = {"model": "none", "temperature": 0, "top-p": 1, "max-new-tokens": 5, "seed": 1, "max-batch-tokens": 100}
    settings |= {"grader": "released", "style": "gsm8k", **{name: tmp_path / file for name, file in files.items()}}
    settings |= {} if limit is None else {"limit": limit}
    flags = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    command = [sys.executable, str(ROOT / "scripts" / "evaluate_method.py"), *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "test.parquet: has no problem to evaluate" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["test.parquet"]
