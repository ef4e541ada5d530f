"""The interface of the graders: extraction, rows with both verdicts, boxes."""

import pytest

from critical_tokens.grading import answers


@pytest.mark.parametrize(
    ("completion", "style", "expected"),
    [
        ("So 5. The answer is 12.", "gsm8k", "12"),
        ("The answer is 1,234. The answer is 7.", "gsm8k", "1234"),
        ("The answer is $18.50 per day", "gsm8k", "18.50"),
        ("She has 3 and then -4", "gsm8k", "-4"),
        ("The answer is unknown, maybe 3 of 7", "gsm8k", "3"),
        ("She keeps 5 of them. The answer is unknown.", "gsm8k", None),
        ("The answer is -$20.", "gsm8k", "-20"),
        ("Change: -€1,200. The answer is -£1,200.", "gsm8k", "-1200"),
        ("The answer is 3.\n\nQuestion: Why? The answer is 4.", "gsm8k", "3"),
        ("so 3\n\nQuestion: 4", "gsm8k", "3"),
        ("no number here", "gsm8k", None),
        ("", "gsm8k", None),
        (r"so \boxed{\frac{1}{2}} and \boxed{3}.", "math", "3"),
        (r"The answer is $\boxed{\frac{1}{2}}$.", "math", r"\frac{1}{2}"),
        (r"$x = \boxed 2$", "math", "2"),
        ("Final Answer: The final answer is $x+1$. I hope it is correct.", "math", "x+1"),
        ("Final Answer: $3$ and $4$. I hope it is correct. Final Answer: $5$", "math", "34"),
        ("**Final Answer:** \\(5\\)", "math", "5"),
        ("## Final Answer:\n**x = 5**", "math", "5"),
        ("The answer is 4 per day.\nThat is all.", "math", "4perday"),
        ("The answer is 2\nFinal Answer: the same", "math", "2"),
        (r"The answer is 4\text{ feet}.", "math", "4"),
        (r"The answer is $4\text{ feet}$.", "math", "4{feet}"),  # a fault that is kept (docs/grading.md)
        ("so 7\n\nProblem: 8", "math", "7"),
        ("nothing", "math", None),
    ],
)
def test_extraction(completion, style, expected):
    assert answers.grade(completion, "0", style).answer == expected


def test_rows_have_both_verdicts_and_one_of_them_labels():
    problems = [{"problem_id": "a", "answer": "4.5"}, {"problem_id": "b", "answer": "x+1"}]
    texts = [("a", "The answer is 450."), ("a", "The answer is 4.5."), ("b", r"so \boxed{1+x}"), ("b", "nothing")]
    samples = [{"problem_id": problem, "sample_id": i, "text": text} for i, (problem, text) in enumerate(texts)]
    for grader in answers.GRADERS:
        rows = answers.grade_rows(samples, problems, "math", grader)
        assert [row["released"] for row in rows] == [True, True, True, False]  # a factor of 100 is no error there
        assert [row["math_verify"] for row in rows] == [False, True, True, False]
        assert [row["correct"] for row in rows] == [row[grader] for row in rows]
    assert answers.counts(rows) == {"released": 3, "math_verify": 2, "unanswered": 1, "timed_out": 0}


def test_the_last_box_counts():
    assert answers.last_boxed(r"\boxed{1 + {2}") is None
    assert answers.last_boxed(r"\boxed{7} and \boxed{1 + {2}") == "7"
    assert answers.last_boxed(r"\boxed{a{b}c}") == "a{b}c"
    assert answers.last_boxed(r"\boxed{" * 100_000) is None
