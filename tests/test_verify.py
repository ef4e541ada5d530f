"""The workers of math_verify: what cannot start, dies or reaches a limit, and that no verdict
depends on another.
"""

import pytest

from critical_tokens.grading import verify


def _library(folder, monkeypatch, verify_body):
    """A library of that name whose `parse` gives the text back."""
    body = "".join(f"    {line}\n" for line in verify_body.splitlines())
    text = f"graded = 0\n\ndef parse(text, **options):\n    return text\n\ndef verify(gold, answer, **options):\n{body}"
    (folder / "math_verify.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize("rows", [1, 5000])
@pytest.mark.parametrize("broken", ["raise ImportError('another antlr4 runtime')", "import os; os._exit(1)"])
def test_a_library_that_cannot_be_used_is_no_missing_verdict(tmp_path, monkeypatch, broken, rows):
    """However much waits to be graded: more than a pipe holds, too."""
    (tmp_path / "math_verify.py").write_text(broken, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(verify.GraderError, match="cannot start"):
        verify.verdicts([(rf"so we add and find \boxed{{x+{i}}}", "1+x") for i in range(rows)])


def test_a_library_that_finds_nothing_equal_cannot_be_used(tmp_path, monkeypatch):
    _library(tmp_path, monkeypatch, "return False")
    with pytest.raises(verify.GraderError, match=r"1/2 equal to 0\.5"):
        verify.verdicts([(r"so \boxed{x+1}", "1+x")])


def test_a_process_that_cannot_be_started_is_told(monkeypatch):
    workers = verify.Workers(1)

    def refused(process):
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(workers._context.Process, "start", refused)
    with pytest.raises(verify.GraderError, match="temporarily unavailable"):
        workers.grade([("x", "y")])


def test_a_verdict_does_not_depend_on_the_answers_before_it(tmp_path, monkeypatch):
    """Here only the first answer of a worker ends, so that every other one reaches its limit and
    needs a new worker.
    """
    counted = "global graded\ngraded += answer.startswith('answer')\nwhile graded > 1:\n    pass\nreturn True"
    _library(tmp_path, monkeypatch, counted)
    pairs = [(f"answer {i}", "x") for i in range(3)]
    with verify.Workers(1, seconds=0.2) as workers:
        assert workers.grade(pairs) == dict.fromkeys(pairs, True)


def test_an_answer_that_reaches_its_limit_in_a_new_worker_has_no_verdict(tmp_path, monkeypatch, capfd):
    _library(tmp_path, monkeypatch, "while answer == 'endless':\n    pass\nreturn True")
    pairs = [("before", "x"), ("endless", "x"), ("after", "x")]
    with verify.Workers(1, seconds=0.2) as workers:
        assert list(workers.grade(pairs).values()) == [True, None, True]
    assert capfd.readouterr().err == ""  # the worker that was stopped says nothing more, and needs nobody who listens


def test_all_workers_go_through_sets_in_the_same_order(tmp_path, monkeypatch):
    """sympy does, over names, so the steps and the time of an answer would be another run's."""
    _library(tmp_path, monkeypatch, "return gold.startswith('$\\\\frac') or hash(answer) % 2 == 0")
    pairs = [(f"answer {i}", "x") for i in range(64)]
    found = []
    for _ in range(2):
        with verify.Workers(1) as workers:
            found.append(workers.grade(pairs))
    assert found[0] == found[1]
    assert set(found[0].values()) == {True, False}


@pytest.mark.workflow
def test_a_gold_answer_without_end_costs_no_answer_its_verdict():
    """A gold answer's parsing has a limit of its own, and what a worker pays once is no answer's
    time.
    """
    with verify.Workers(1, seconds=1.0) as workers:
        found = workers.grade([(r"\boxed{x+1}", "9^{9^{9^{9^9}}}"), (r"\boxed{x+1}", "1+x")])
    assert found[r"\boxed{x+1}", "1+x"] is True
    assert not found[r"\boxed{x+1}", "9^{9^{9^{9^9}}}"]


def test_a_dead_worker_is_replaced():
    with verify.Workers(1) as workers:
        assert workers.grade([(r"\boxed{x}", "x")]) == {(r"\boxed{x}", "x"): True}
        workers._idle[0].process.kill()
        workers._idle[0].process.join()
        pairs = [(rf"\boxed{{x+{i}}}", f"{i}+x") for i in range(4)]
        assert list(workers.grade(pairs).values()) == [True] * 4


def test_an_answer_that_kills_its_worker_has_no_verdict(tmp_path, monkeypatch):
    """Those before and behind it have theirs, from other workers."""
    _library(tmp_path, monkeypatch, "import os\nif answer == 'deadly':\n    os._exit(1)\nreturn True")
    pairs = [("before", "x"), ("deadly", "x"), ("after", "x")]
    with verify.Workers(1) as workers:
        assert list(workers.grade(pairs).values()) == [True, None, True]
