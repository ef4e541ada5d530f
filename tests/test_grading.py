"""Both graders: what they extract, what they take for equal, and that hostile answers neither run, hang nor crash."""

import gzip
import json
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical_tokens import answers
from critical_tokens.grading import expressions, released, verify


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("x+1", "1 + x", True),
        ("2x", "x+x", True),
        ("(x+1)^2", "x^2+2x+1", True),
        ("(x+1)^2", "x^2+2x+2", False),
        (r"\frac{1}{2}", "0.5", True),
        (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", True),
        (r"\sqrt[3]{8}", "2", True),
        (r"11\sqrt{2}", r"\sqrt{242}", True),
        (r"\pi/2", r"\frac{\pi}{2}", True),
        (r"2\cdot 3", "6", True),
        ("-x^2", "x^2", False),
        ("2^{-1}", "0.5", True),
        ("x", "y", False),
        ("2^{31}", "2^{31}-1", False),
        ("10^{-10}", "2^{-40}", False),
        ("x-x", "0", True),
        ("1/0", "1/0", False),
        ("", "", False),
        ("x+", "x", False),
        ("f(x", "f(x", False),
        (r"\unknown{x}", r"\unknown{x}", False),
        ("9^9^9^9^9", "9^9^9^9^9", False),  # overflows: not known to be equal
    ],
)
def test_expressions_are_compared_by_value(left, right, same):
    assert expressions.same(left, right) is same


@given(st.integers(-999, 999), st.integers(1, 99), st.integers(-99, 99))
def test_equal_fractions_and_sums_are_the_same(a, b, c):
    assert expressions.same(f"\\frac{{{a}}}{{{b}}}+{c}x", f"{c}*x + {a}/{b}")
    assert not expressions.same(f"\\frac{{{a}}}{{{b}}}", f"{a}/{b} + 1")


@pytest.mark.parametrize(
    ("answer", "gold", "same"),
    [
        ("450", "4.5", True),  # the released grader's factor of 100
        ("0.045", "4.5", True),
        ("45", "4.5", False),
        ("1,234", "1234", True),
        (r"\frac12", "0.5", True),
        ("(1,2)", "(1, 2)", True),
        ("(1,2)", "(2,1)", False),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", True),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 5 \end{pmatrix}", False),
        ("x=5", "5", True),
        (r"\textbf{(B)}", "(B)", True),
        (r"10\text{ cm}", "10", True),
        ("50\\%", "50", True),
        ("", "0", False),
    ],
)
def test_released_equality(answer, gold, same):
    assert released.equal(released.strip(answer), released.strip(gold)) is same


@pytest.mark.parametrize(("name", "bound"), [("gsm8k", 0.995), ("math", 0.985)])
def test_released_agrees_with_the_released_grader(shared, name, bound):
    """Remaining differences: words in \\text that the released code strips, and matrices of unsafe parsing."""
    with gzip.open(shared(f"graded/{name}.jsonl.gz"), "rt") as lines:
        rows = [json.loads(line) for line in lines]
    found = [answers.grade(row["completion"], row["gold"], name).correct for row in rows]
    wrong = [(f, r) for f, r in zip(found, rows, strict=True) if f != r["released_grader_antlr_4_13"]]
    print(f"{name}: released agrees in {len(rows) - len(wrong)} of {len(rows)}")
    for source in sorted({r["source"] for r in rows}):
        of_it = [f == r["verdict"] for f, r in zip(found, rows, strict=True) if r["source"] == source]
        print(f"{name}, {source}: agrees with the source's own verdict in {sum(of_it)} of {len(of_it)}")
    assert len(rows) > 1000
    assert 1 - len(wrong) / len(rows) >= bound
    for verdict, row in wrong:  # a named class: no number is in dispute
        assert verdict, "the released grader is stricter only on words and matrices"
        assert "pmatrix" in row["gold"] or "text" in row["gold"], row["gold"]


@pytest.mark.parametrize("name", ["gsm8k", "math"])
def test_math_verify_is_the_library(shared, name):
    """Shortcuts and limits included: the verdicts that the library gave."""
    with gzip.open(shared(f"graded/{name}.jsonl.gz"), "rt") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if row["math_verify_0_9"] is not None]
    pairs = [(row["completion"], row["gold"]) for row in rows]
    found = verify.verdicts(pairs)
    assert sum(a == row["math_verify_0_9"] for a, row in zip(found, rows, strict=True)) >= len(rows) - 1
    shortcuts = [verify._plain(*pair) for pair in pairs]
    assert sum(s is not None for s in shortcuts) > len(rows) / 10
    assert all(s in (None, row["math_verify_0_9"]) for s, row in zip(shortcuts, rows, strict=True))


# --- hostile answers

HOSTILE = [
    "__import__('os').system('touch owned')",
    r"\boxed{__import__('os').system('touch owned')}",
    r"\boxed{(lambda: open('owned','w'))()}",
    r"\boxed{9^{9^{9^{9^{9^9}}}}}",
    r"\boxed{9**9**9**9}",
    r"\boxed{99999999!}",
    r"\boxed{" + "(" * 5000 + "1" + ")" * 5000 + "}",
    r"\boxed{" + r"\frac{" * 2000 + "1" + "}{2}" * 2000 + "}",
    r"\boxed{" + "x^" * 3000 + "2}",
    r"\boxed{\sqrt{" * 500 + "2" + "}}" * 500,
    "The answer is " + "9" * 1_000_000,
    "A" * 1_000_000,
    "\x00\x01\x1b[31m \ud800 \boxed{1}",
    r"\boxed{NaN}",
    r"\boxed{\infty}",
    r"\boxed{1e999999999}",
    r"\boxed{\int_0^{10^{10^{10}}} x^{x^{x}} dx}",
    r"\boxed{\prod_{i=1}^{10^{9}} i}",
]


@pytest.mark.parametrize("style", ["gsm8k", "math"])
@pytest.mark.parametrize("gold", ["42", r"\frac{1}{2}", "x^2+1"])
def test_hostile_answers_are_wrong_by_the_released_rules(style, gold, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    for text in HOSTILE:
        assert answers.grade(text, gold, style).correct is False
    assert time.process_time() - start < 10
    assert not os.listdir(tmp_path)


def test_hostile_answers_neither_run_nor_hang_in_the_library(tmp_path, monkeypatch):
    """Each is wrong, or has no verdict because a limit was reached; what comes after it is graded as ever."""
    monkeypatch.chdir(tmp_path)
    texts = [text for hostile in HOSTILE for text in (hostile, r"so \boxed{x^2+1}")]
    with verify.Workers(seconds=1.0) as workers:
        found = verify.verdicts([(text, "1+x^2") for text in texts], workers)
    assert all(not verdict for verdict in found[::2])
    assert all(verdict is True for verdict in found[1::2])
    assert not os.listdir(tmp_path)


def test_a_dead_worker_is_replaced():
    with verify.Workers(1) as workers:
        assert workers.grade([(r"\boxed{x}", "x")]) == {(r"\boxed{x}", "x"): True}
        workers._idle[0].process.kill()
        workers._idle[0].process.join()
        pairs = [(rf"\boxed{{x+{i}}}", f"{i}+x") for i in range(4)]
        assert list(workers.grade(pairs).values()) == [True] * 4


def test_an_answer_that_kills_its_worker_has_no_verdict(monkeypatch):
    """Whatever the reason: the pair at hand has no verdict, those behind it have theirs, from another worker."""
    with verify.Workers(1) as workers:
        workers.grade([(r"\boxed{x}", "x")])
        put_to = workers._put_to

        def dying(share):
            worker = put_to(share)
            if len(share) == 4:
                worker.process.kill()
                worker.process.join()
            return worker

        monkeypatch.setattr(workers, "_put_to", dying)
        found = workers.grade([(rf"\boxed{{x+{i}}}", f"{i}+x") for i in range(4)])
    assert list(found.values()).count(True) + list(found.values()).count(None) == 4
    assert list(found.values()).count(None) <= 1  # none, where it had said everything before it died


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200), st.text(max_size=60), st.sampled_from(["gsm8k", "math"]))
def test_any_text_is_graded(text, gold, style):
    found = answers.grade(text, gold, style)
    assert found.correct in (True, False)
    assert found.answer is not None or not found.correct


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=r"0123456789xyz+-*/^(){}[]\frac sqrt.,=|!", max_size=120))
def test_any_expression_is_compared(text):
    assert expressions.same(text, text + "+") is False
    assert expressions.same(text, text) in (True, False)


@given(st.integers(-(10**12), 10**12))
def test_a_stated_integer_is_found_and_equal_to_itself(n):
    assert answers.grade(f"So we add. The answer is {n}.", str(n), "gsm8k").correct
    assert answers.grade(f"So we add. The answer is $\\boxed{{{n}}}$.", f"{n}", "math").correct
    assert verify.verdicts([(f"So we add. The answer is {n}.", str(n))]) == [True]
