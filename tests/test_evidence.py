"""Weights of the controls, comparisons of methods, agreement of scores: on numbers small enough to
count.
"""

import math

import pytest

from critical_tokens.core.records import ArtifactError
from critical_tokens.data import annotations
from critical_tokens.data.prompts import Prompt
from critical_tokens.reporting import agreement, estimates, study_summaries, table1
from critical_tokens.rollouts import critical, words
from critical_tokens.training import token_weights

PAIR = {"problem_id": "p", "rejected": [5, 6]}
TABLES = {
    "contrast": {
        "p": {
            "scores": [0.9, 0.1, 0.6],
            "positive_logps": [math.log(0.8), math.log(0.2), math.log(0.5)],
            "negative_logps": [math.log(0.3), math.log(0.7), math.log(0.5)],
        }
    },
    "reference": {"p": {"rejected_logps": [math.log(0.25), math.log(0.5), 0.0]}},
    "rollouts": {"p": [{"position": t, "score": s} for t, s in ((-1, 0.7), (0, 0.5), (1, -0.1))]},
}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("contrast", [0.1, 0.9, 0.4]),
        ("mean", [1.4 / 3] * 3),
        ("positive", [0.2, 0.8, 0.5]),
        ("negative", [0.3, 0.7, 0.5]),
        ("base", [0.75, 0.5, 0.0]),
        ("rollouts", [0.5, 1.0, 1.0]),  # a score below 0 counts as 0; EOS stands behind the last token
    ],
)
def test_weights_of_every_kind(kind, expected):
    assert token_weights.rejected_weights(kind, PAIR, TABLES, 3, 1) == pytest.approx(expected)


def test_shuffled_weights_are_the_same_numbers():
    found = {tuple(token_weights.rejected_weights("shuffled", PAIR, TABLES, 3, seed)) for seed in range(40)}
    assert {tuple(sorted(weights)) for weights in found} == {tuple(sorted([1 - 0.9, 1 - 0.1, 1 - 0.6]))}
    assert len(found) == 6
    first = token_weights.rejected_weights("shuffled", PAIR, TABLES, 3, 7)
    assert token_weights.rejected_weights("shuffled", PAIR, TABLES, 3, 7) == first


def test_an_empty_answer_has_no_rollouts():
    assert token_weights.rejected_weights("rollouts", {"problem_id": "q", "rejected": []}, TABLES, 1, 1) == [1.0]


def test_missing_or_foreign_weights_are_named():
    with pytest.raises(ArtifactError, match="p: 3 weights of kind contrast for 4 tokens"):
        token_weights.rejected_weights("contrast", PAIR, TABLES, 4, 1)
    with pytest.raises(ArtifactError, match="contrast: has nothing on problem q"):
        token_weights.rejected_weights("mean", {"problem_id": "q", "rejected": [5]}, TABLES, 3, 1)


def test_methods_are_compared_on_the_same_problems():
    names = [f"p{i}" for i in range(40)]
    baseline = dict.fromkeys(names, False)
    good = {name: i < 20 for i, name in enumerate(names)}
    better = {name: i < 24 for i, name in enumerate(names)}
    rows = table1.significance_rows({1: {"baseline": baseline, "good": good, "better": better}, 2: {"good": better}})
    by = {(row["seed"], row["method"], row["role"]): row for row in rows}
    row = by[1, "good", "baseline"]
    assert (row["only_first"], row["only_second"], row["n"], row["difference"]) == (20, 0, 40, 50.0)
    assert row["p"] == pytest.approx(2 / 2**20)
    assert row["p_holm"] == pytest.approx(3 * 2 / 2**20)  # the second smallest of four
    assert row["low"] < 50 < row["high"]
    against = by[1, "good", "best other"]
    assert (against["against"], against["difference"]) == ("better", -10.0)
    assert against["p"] == pytest.approx(2 / 2**4)
    assert against["needed"] is None  # four differing problems can never be enough
    assert by[2, "good", "baseline"]["difference"] == 60.0
    assert (2, "good", "best other") not in by


def test_an_asterisk_needs_as_many_as_the_exact_test_says():
    first = {f"p{i}": i < 7 for i in range(10)}
    second = {f"p{i}": i >= 7 for i in range(10)}
    row = table1._paired(first, second)  # 7 against 3: p = 0.34; 9 against 1: p = 0.02
    assert (row["only_first"], row["only_second"], row["needed"]) == (7, 3, 4)


def test_agreement_counts_tokens_of_the_examined_answers():
    critical = [
        {"problem_id": "a", "position": 2, "first_wrong": 3, "length": 4},
        {"problem_id": "b", "position": 0, "first_wrong": None, "length": 2},
        {"problem_id": "c", "position": None, "first_wrong": 1, "length": 2},
    ]
    contrast = {"a": [0.9, 0.8, 0.1, 0.2, 0.0], "b": [0.5, 0.4, 0.0], "c": [0.3, 0.2, 0.0]}
    base = {"a": [-1.0, -2.0, -3.0, -0.5, 0.0], "b": [-4.0, 0.0, 0.0], "c": [-0.3, -0.2, 0.0]}
    row = agreement.agreement_row(critical, contrast, base)
    assert (row["answers"], row["with_critical_token"]) == (3, 2)
    # critical 0.1 and 0.5 against 0.9, 0.8, 0.2, 0.4: 4 + 2 pairs of 8 are in order
    assert row["auc_contrast_rollouts"] == pytest.approx(6 / 8)
    assert row["auc_base_rollouts"] == 1.0
    assert row["auc_base_truth"] == pytest.approx(1 / 8)  # 0.5 and 0.2 against 1, 2, 3 and 0.3
    assert row["auc_contrast_rollouts_low"] <= 6 / 8 <= row["auc_contrast_rollouts_high"]
    assert row["lowest_is_critical"] == 0.5
    assert (row["lowest_is_critical_low"], row["lowest_is_critical_high"]) == estimates.wilson_interval(1, 2)
    assert row["lowest_is_first_wrong"] == 0.5
    assert row["critical_is_first_wrong"] == 0.0
    assert row["critical_at_or_before_first_wrong"] == 1.0


def test_answers_are_trained_on_with_or_without_eos(pocket_tokenizer):
    from critical_tokens.training.alignment import answer_examples

    problems = [{"problem_id": "a", "question": "What is 1 + 1?"}]
    rows = [{"problem_id": "a", "token_ids": [20, 21], "finished": finished} for finished in (True, False, True)]
    ends = [pocket_tokenizer.eos_token_id, 21, pocket_tokenizer.eos_token_id]
    assert [e["input_ids"][-1] for e in answer_examples(pocket_tokenizer, rows, problems, Prompt("gsm8k"))] == ends
    found = answer_examples(pocket_tokenizer, rows, problems, Prompt("gsm8k"), eos_trained=False, held_out=1)
    assert [e["input_ids"][-1] for e in found] == [21, 21]
    assert all(sum(e["weights"]) == 2 for e in found)


# --- kinds of words and errors


@pytest.mark.parametrize(
    ("text", "token", "kind"),
    [
        ("Then the 12 pens", "the", "function"),
        ("Then the 12 pens", " 12", "number"),
        ("Then the 12 pens", "ens", "content"),
        ("Then the 12 pens", "hen", "function"),
        ("12 + 3 = 15.", " +", "operator"),
        ("12 + 3 = 15.", ".", "punctuation"),
        ("It is $2 \\cdot 3$", "dot", "operator"),
        ("It is $2 \\cdot 3$", "$", "punctuation"),
        ("\\boxed{7}", "\\boxed", "content"),
        ("a\n\nb", "\n\n", "punctuation"),
    ],
)
def test_kinds_of_words(text, token, kind):
    start = text.index(token)
    assert words.word_kind(text, start, start + len(token)) == kind


def test_critical_tokens_by_kind_of_error():
    def row(name, position, first_wrong, kind):
        return {"problem_id": name, "position": position, "first_wrong": first_wrong, "error_kind": kind}

    found = [
        row("a", 3, 3, "semantic"), row("b", 2, 5, "semantic"), row("c", 6, 5, "calculation"), row("d", None, 5, "semantic"),
        row("e", 1, None, None),
    ]  # fmt: skip
    kinds = {"a": "number", "b": "function", "c": "number"}
    calculation, semantic, total = agreement.kinds_rows(found, kinds)
    assert (calculation["n"], calculation["differ"], calculation["after"], calculation["number"]) == (1, 100.0, 1, 1)
    assert (semantic["n"], semantic["differ"], semantic["before"], semantic["function"]) == (2, 50.0, 1, 1)
    assert (total["n"], total["before"], total["after"], total["number"]) == (3, 1, 1, 2)
    assert total["differ"] == pytest.approx(200 / 3)


def test_critical_tokens_by_place_and_frequency_with_examples(pocket_tokenizer):
    texts = {"a": "3 + 4 = 8.", "b": "3 + 4 = 9. So 9.", "c": "7."}
    rejected = {name: pocket_tokenizer.encode(text, add_special_tokens=False) for name, text in texts.items()}
    place = {name: pocket_tokenizer.decode(ids).index("=") for name, ids in rejected.items() if name != "c"}
    ends = {
        name: [len(pocket_tokenizer.decode(ids[: t + 1])) for t in range(len(ids))] for name, ids in rejected.items()
    }
    behind = {name: critical.token_at(at, ends[name]) for name, at in place.items()}
    rows = [{"problem_id": name, "position": behind.get(name)} for name in texts]
    problems = [{"problem_id": name, "question": f"{name}?", "answer": "7"} for name in texts]
    scores = {("a", behind["a"] - 1): 0.75, ("a", behind["a"]): 0.0}
    found = words.critical_words(rows, rejected, scores, problems, pocket_tokenizer, examples=1)
    assert (found["answers"], found["found"], sum(found["quarters"])) == (3, 2, 2)
    assert found["quarters"] == [sum(4 * behind[n] // len(rejected[n]) == q for n in behind) for q in range(4)]
    assert (found["kinds"]["operator"], sum(found["kinds"].values())) == (2, 2)
    assert sum(found["all_kinds"].values()) == sum(map(len, rejected.values()))
    (most,) = found["most_frequent"]
    assert (most["token"].strip(), most["critical"], most["all"]) == ("=", 2, 2)
    (example,) = found["examples"]
    assert example["before"] + example["token"] + example["after"] == texts["a"]
    assert (example["question"], example["gold"]) == ("a?", "7")
    assert (example["score_before"], example["score"]) == (0.75, 0.0)


# --- the rule for critical tokens


def test_other_thresholds_and_fewer_rollouts():
    counts = {"a": [(64, 40), (64, 0), (64, 2), (64, 0)], "b": [(64, 30), (64, 0), (64, 6)], "c": [(64, 9), (64, 8)]}
    rows = critical.rule_rows(counts, {"a": 2, "b": None, "c": 0}, [0.01, 0.05, 0.1], [16, 64, 100], 400, 1)
    by = {(row["later_below"], row["rollouts"]): row for row in rows}
    assert set(by) == {(0.01, 64), (0.05, 64), (0.1, 64), (0.05, 16)}
    # 1 %: nothing but a's last token, behind which nothing comes; 5 %: a's second; 10 %: b's second
    # too.
    assert [by[later, 64]["found"] for later in (0.01, 0.05, 0.1)] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert (by[0.01, 64]["same"], by[0.01, 64]["shift"]) == (0.0, -1.0)
    assert by[0.05, 64]["same"] == pytest.approx(1 / 3)
    assert (by[0.05, 64]["at_or_before_first_wrong"], by[0.05, 64]["shift"]) == (1.0, 1.0)
    # With 16 of 64, a's third token shows none of its 2 right ones with probability C(62, 16) /
    # C(64, 16) = 0.56; one right one is 6 % and rules the second token out.
    assert by[0.05, 16]["found"] > by[0.05, 16]["same"] > 0.1


def test_annotations_of_people(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text('problem_id,answer,offset,error_kind\ntrain-1,"The answer, is 3.",15,calculation\n')
    assert annotations.read(path) == {("train-1", "The answer, is 3."): (15, "calculation")}
    for row, message in (
        ("train-1,abc,4,x", "row 2: offset is '4', must be a number from 0 to 3"),
        ("t,abc,1,", "no error_kind"),
    ):
        path.write_text(f"problem_id,answer,offset,error_kind\n{row}\n")
        with pytest.raises(ArtifactError, match=message):
            annotations.read(path)
    path.write_text("problem_id,offset\n")
    with pytest.raises(ArtifactError, match="no column answer, error_kind"):
        annotations.read(path)


# --- several seeds


def test_intervals_over_seeds_and_problems():
    equal = [[1.0, 0.0] * 50] * 3
    low, high = estimates.crossed_interval(equal)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05), abs=0.015)
    apart = [[value] * 100 for value in (0.2, 0.5, 0.8)]  # nothing but the seeds differs
    assert estimates.crossed_interval(apart) == pytest.approx((0.2, 0.8))
    assert estimates.crossed_interval([[1.0] * 5]) == (1.0, 1.0)


def test_several_answers_to_a_problem_are_not_independent():
    verdicts = [(f"p{i}", i % 2 == 0) for i in range(100)]
    assert estimates.accuracy_interval(verdicts) == estimates.wilson_interval(50, 100)
    low, high = estimates.accuracy_interval(verdicts * 20)
    assert 0.3 < low < 0.45 < 0.55 < high < 0.7


def test_a_study_compares_the_same_problems():
    def run(method, seed, right):
        return study_summaries.Evaluation("m", "d", method, seed, {f"p{i}": float(i in right) for i in range(10)})

    runs = [run("baseline", 1, {0}), run("cdpo", 1, {0, 1, 2}), run("cdpo", 2, {0, 1, 2, 3, 4})]
    baseline, cdpo = study_summaries.summary_rows(runs, "baseline")
    assert (baseline["mean"], baseline["seeds"], baseline["deviation"], "gap" in baseline) == (10.0, 1, None, False)
    assert (cdpo["mean"], cdpo["seeds"], cdpo["gap"]) == (40.0, 2, pytest.approx(30.0))
    assert cdpo["deviation"] == pytest.approx(200**0.5)
    assert cdpo["gap_low"] < 30 < cdpo["gap_high"]
