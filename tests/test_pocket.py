"""The pocket worlds: splits that share no problem, and a checker that is exact."""

import random
import re
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from critical_tokens.data import sources
from critical_tokens.grading import answers
from critical_tokens.pocket import language, worlds
from critical_tokens.pocket.problems import distinct_problems, draw_problems, split_of
from critical_tokens.rollouts.critical import first_wrong_token, token_at

WORLDS = sorted(worlds.WORLDS)


def problems(world, split="test", n=300):
    return distinct_problems(worlds.WORLDS[world].draw, split, 0, n)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.workflow
def test_no_test_problem_occurs_elsewhere_in_whatever_wording(world):
    test = {r["signature"] for r in sources.generated(world, "test", 1000, 0)}
    train = {r["signature"] for r in sources.generated(world, "train", 2000, 0)}
    validation = {r["signature"] for r in sources.generated(world, "validation", 300, 0)}
    pretrain = {p.signature for p in islice(draw_problems(worlds.WORLDS[world].draw, "pretrain", 0), 20_000)}
    assert (len(test), len(train), len(validation)) == (1000, 2000, 300)
    assert not test & (train | validation | pretrain)
    assert not train & (validation | pretrain)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.workflow
def test_problems_with_the_same_calculation_have_one_signature(world):
    """Names, units, phrasings and distractors do not enter it, so other wordings of a problem are
    in its split.
    """
    by_calculation = {}
    rng = random.Random(3)
    for problem in islice(filter(None, (worlds.WORLDS[world].draw(rng) for _ in iter(int, 1))), 20_000):
        start = re.search(r"\d+", problem.question).group()
        calculation = [s.wordings[0] for s in problem.solution.segments() if s.role not in ("lead", "wording")]
        by_calculation.setdefault((start, *calculation), []).append(problem)
    several = [group for group in by_calculation.values() if len({p.question for p in group}) > 1]
    assert len(several) >= 10
    assert all(len({p.signature for p in group}) == 1 for group in several)
    by_signature = {}
    for problem in (p for group in by_calculation.values() for p in group):
        by_signature.setdefault(problem.signature, set()).add(problem.answer)
    assert all(len(of_it) == 1 for of_it in by_signature.values())


@pytest.mark.parametrize("world", WORLDS)
def test_corpus_draws_from_its_own_split_and_misreads_at_the_stated_rate(world):
    misread = Counter()
    style = worlds.WORLDS[world].style
    stream = draw_problems(worlds.WORLDS[world].draw, "pretrain", 5)
    for (question, solution), problem in zip(worlds.documents(world, 5), islice(stream, 6000), strict=False):
        assert question == problem.question
        assert split_of(problem.signature) == "pretrain"
        if problem.trap:
            misread[problem.trap.rate, answers.grade(solution, problem.answer, style).correct] += 1
    for rate in {rate for rate, _ in misread}:
        n = misread[rate, True] + misread[rate, False]
        assert abs(misread[rate, False] / n - rate) < 4 * (rate * (1 - rate) / n) ** 0.5


@pytest.mark.parametrize("world", WORLDS)
def test_every_wording_of_a_correct_solution_is_accepted(world):
    shapes = worlds.sentence_shapes(world)
    rng = random.Random(0)
    for problem in problems(world):
        correct = problem.solution.segments()
        for _ in range(3):
            text = worlds.write(problem.solution, rng, misread=False)
            assert language.check(text, correct, shapes) == language.Verdict(None, None)
            assert answers.grade(text, problem.answer, worlds.WORLDS[world].style).correct
        assert language.language_from_json(problem.solution.to_json()) == correct


@pytest.mark.parametrize("world", WORLDS)
def test_a_misreading_is_found_where_it_parts_from_every_correct_solution(world):
    shapes = worlds.sentence_shapes(world)
    rng = random.Random(1)
    kinds = Counter()
    for problem in problems(world):
        if problem.misreading is None:
            continue
        correct = problem.solution.segments()
        text = worlds.write(problem.misreading, rng, misread=True)
        assert not answers.grade(text, problem.answer, worlds.WORLDS[world].style).correct
        verdict = language.check(text, correct, shapes)
        kinds[verdict.kind] += 1
        # Exactness: the text up to the wrong character can be completed correctly, with that
        # character it cannot.
        assert viable(text[: verdict.char], correct)
        assert not viable(through_word(text, verdict.char), correct)
    assert kinds["semantic"] > 0
    assert set(kinds) <= {"semantic", "missing_step"}


def through_word(text, char):
    """The text up to the end of the word (and one character more), or of the single other
    character, that starts at `char`.
    """
    return text[:char] + re.match(r"[a-zA-Z]+.?|.", text[char:], re.DOTALL).group()


def viable(prefix, segments):
    """Whether a prefix begins some correct solution, by brute force over all wordings: an oracle
    for the checker.
    """
    if not segments:
        return prefix == ""
    return any(
        wording.startswith(prefix)
        if len(prefix) < len(wording)
        else prefix.startswith(wording) and viable(prefix[len(wording) :], segments[1:])
        for wording in segments[0].accepted()
    )


@pytest.mark.parametrize(
    ("text", "char", "kind"),
    [
        ("First, 2 + 3 = 5 pens. Then, 5 * 4 = 20. The answer is 20.", None, None),
        ("So 2 + 3 = 6 pens. Then, 6 * 4 = 24. The answer is 24.", 11, "calculation"),
        ("So 2 - 3 = 1 pens.", 5, "semantic"),
        ("So 2 + 3 = 5. The answer is 5.", 14, "missing_step"),
        ("So 2 * 4 = 8. The answer is 8.", 5, "missing_step"),
        ("So 2 + 3 = 5. Now 5 * 4 = 20. The answer is 24.", 45, "calculation"),
        ("So 2 + 3 = 5. Banana", 14, "degeneration"),
        ("So 2 + 3 = 5.", 13, "missing_step"),
        ("So 2 + 3 = 5. Now 5 * 4 = 20. The answer is 20. So", 47, "degeneration"),
        ("", 0, "missing_step"),
    ],
)
def test_kinds_of_errors(text, char, kind):
    def step(a, op, b, c):
        body = [("running", a), ("operation", f" {op} "), ("operand", b), ("wording", " = "), ("result", c)]
        return language.Step(
            (*(language.Segment(r, (w,)) for r, w in body), language.Segment("wording", (" pens.", ".")))
        )

    closing = (language.Segment("wording", ("The answer is ",)), language.Segment("answer", ("20.",)))
    solution = language.Solution((step("2", "+", "3", "5"), step("5", "*", "4", "20")), closing)
    shapes = frozenset({"n o n = n.", "n o n = n pens.", "The answer is n."})
    assert language.check(text, solution.segments(), shapes) == language.Verdict(char, kind)


def test_a_solution_cut_off_by_the_length_limit_is_degeneration():
    solution = language.Solution((), (language.Segment("answer", ("The answer is 5.",)),))
    assert language.check("The ans", solution.segments(), frozenset(), ended=False) == language.Verdict(
        7, "degeneration"
    )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_checker_agrees_with_brute_force_on_damaged_solutions(data):
    world = data.draw(st.sampled_from(WORLDS))
    problem = data.draw(st.sampled_from(SOME[world]))
    correct = problem.solution.segments()
    text = worlds.write(problem.solution, random.Random(data.draw(st.integers(0, 99))), misread=False)
    at = data.draw(st.integers(0, len(text)))
    damaged = (
        text[:at]
        + data.draw(st.text(alphabet="0123456789+-*=. aSN$\\{}", max_size=4))
        + text[at + data.draw(st.integers(0, 3)) :]
    )
    verdict = language.check(damaged, correct, worlds.sentence_shapes(world))
    complete = next((n for n in range(len(damaged) + 1) if not viable(damaged[:n], correct)), None)
    if verdict.char is None:
        assert complete is None
    elif complete is not None:
        wrong = complete - 1
        assert verdict.char == wrong or (
            damaged[verdict.char : wrong].isalpha() and not damaged[: verdict.char][-1:].isalpha()
        )
    else:
        assert verdict.char == len(damaged)


SOME = {world: problems(world, n=40) for world in WORLDS}


def test_tokens_and_characters():
    assert [token_at(c, [3, 4, 8]) for c in (0, 2, 3, 4, 7, 8, 99)] == [0, 0, 1, 2, 2, 3, 3]


def test_first_wrong_token_of_a_completion(pocket_tokenizer):
    from critical_tokens.data import prompts

    problem = next(p for p in problems("pocket-gsm") if p.misreading)
    text = worlds.write(problem.misreading, random.Random(0), misread=True)
    ids = prompts.encode_texts(pocket_tokenizer, [text])[0]
    ends = prompts.token_ends(pocket_tokenizer, ids)
    shapes = worlds.sentence_shapes("pocket-gsm")
    position, kind = first_wrong_token(text, ends, True, problem.solution.segments(), shapes)
    char = language.check(text, problem.solution.segments(), shapes).char
    assert (ends[position - 1] if position else 0) <= char < ends[position]
    assert kind in language.ERROR_KINDS
