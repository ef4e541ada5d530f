"""Extraction and equality of answers, and that hostile ones are harmless."""

import gzip
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical_tokens import answers


@pytest.mark.parametrize(
    ("completion", "style", "expected"),
    [
        ("So 5. The answer is 12.", "gsm8k", "12"),
        ("The answer is 1,234. The answer is 7.", "gsm8k", "1,234"),
        ("The answer is $18.50 per day", "gsm8k", "$18.50"),
        ("She has 3 and then -4", "gsm8k", "-4"),
        ("The answer is unknown, maybe 3 of 7", "gsm8k", "3"),
        ("no number here", "gsm8k", None),
        ("", "gsm8k", None),
        (r"so \boxed{\frac{1}{2}} and \boxed{3}.", "math", "3"),
        (r"The answer is $\boxed{\frac{1}{2}}$.", "math", r"\frac{1}{2}"),
        (r"\boxed{1 + {2}", "math", None),
        (r"$x = \boxed 2$", "math", "2"),
        (r"\boxed{7} and \boxed{1 + {2}", "math", "7"),
        ("Final Answer: The final answer is $x+1$. I hope it is correct.", "math", "x+1"),
        ("nothing", "math", None),
    ],
)
def test_extraction(completion, style, expected):
    assert answers.extract(completion, style) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        ("1,234", "1234", True),
        ("$18", "18", True),
        ("18.0", "18", True),
        ("1.5", "3/2", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"\dfrac{2}{4}", r"\frac{1}{2}", True),
        (r"-\frac{1}{2}", "-0.5", True),
        (r"\frac{1}{0}", "1", False),
        ("450", "4.5", False),
        ("12", "21", False),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})", True),
        ("x+1", "x + 1", True),
        ("", "0", False),
    ],
)
def test_equality(answer, gold, same):
    assert answers.equal(answer, gold) is same


HOSTILE = [
    "__import__('os').system('touch /tmp/owned')",
    "9" * 1_000_000,
    "The answer is " + "9" * 1_000_000,
    r"\boxed{" * 200_000,
    r"\boxed{" + "{" * 300_000 + "}" * 300_000,
    "9**9**9**9",
    "((((((" * 100_000,
    "\x00\x01\ud800",
    "NaN",
    "1e999999999",
    "-" * 500_000 + "1",
    "1," * 300_000,
]


@pytest.mark.parametrize("style", ["gsm8k", "math"])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_completions_neither_run_nor_hang(text, style):
    started = time.process_time()
    result = answers.grade(text, "42", style)
    assert result.correct is False
    assert time.process_time() - started < 5


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300), st.text(max_size=40), st.sampled_from(["gsm8k", "math"]))
def test_any_text_is_graded_without_an_error(text, gold, style):
    result = answers.grade(text, gold, style)
    assert result.correct in (True, False)
    assert result.answer is None or result.answer in text or style == "math"


@given(st.integers(-(10**12), 10**12))
def test_a_stated_integer_is_found_and_equal_to_itself(n):
    assert answers.grade(f"So we add. The answer is {n}.", str(n), "gsm8k").correct
    assert answers.grade(f"So we add. The answer is $\\boxed{{{n}}}$.", f"{n:,}", "math").correct


@pytest.mark.parametrize(("name", "style", "share"), [("gsm8k", "gsm8k", 0.97), ("math", "math", 0.85)])
def test_agreement_with_graded_completions(shared, name, style, share):
    """Verdicts of the sources' own graders, some of them wrong: agreement is bounded, not equality."""
    with gzip.open(shared(f"graded/{name}.jsonl.gz"), "rt") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [r for r in rows if r["source"] != "openai" and r["verdict"] is not None]
    agree = sum(answers.grade(r["completion"], r["gold"], style).correct == r["verdict"] for r in rows)
    print(f"{name}: {agree}/{len(rows)} = {agree / len(rows):.3f}")
    assert len(rows) > 500
    assert agree / len(rows) >= share
