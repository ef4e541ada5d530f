"""A stopped program goes on with the answers that it has, and with the same results."""

import json

import pytest
from test_engine import EOS, requests

from critical_tokens.decoding.distributions import GREEDY, Nucleus
from critical_tokens.decoding.unfinished import ResumingEngine
from critical_tokens.engines import architecture
from critical_tokens.engines.transformers_engine import TransformersEngine

DRAWN = Nucleus(1.0, 0.95)


class Stopped(Exception):
    """A program is killed."""


@pytest.fixture
def engines(tiny_model, tmp_path):
    """A function that makes engines which write at every answer; the tokens of each one's own."""

    def made(settings="same", bound=400):
        engine = TransformersEngine(tiny_model, EOS, bound)
        return engine, ResumingEngine(engine, tmp_path / "out" / "answers.unfinished", settings, interval=0.0)

    return made


def stop_after(n):
    def stop(index, completions):
        nonlocal n
        n -= 1
        if n <= 0:
            raise Stopped

    return stop


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_a_stopped_call_goes_on(engines, monkeypatch, plain, weighted):
    if plain:
        monkeypatch.setattr(architecture, "shared_reach", lambda host: (0, 100))
    asked = requests(20)
    engine, resuming = engines()
    with pytest.raises(Stopped):
        resuming.generate(asked, DRAWN, None, weighted, stop_after(9))
    after, resumed = engines()
    told = []
    found = resumed.generate(asked, DRAWN, told.append, weighted)
    alone, _ = engines("other")
    assert found == alone.generate(asked, DRAWN, None, weighted)
    assert 0 < after.tokens_generated < alone.tokens_generated
    assert told == sorted(told)
    assert told[-1] == sum(len(answers) for answers in found)
    assert resumed.tokens_generated <= engine.tokens_generated + after.tokens_generated


def test_answers_belong_to_their_request_distribution_and_settings(engines):
    asked = requests(6)
    _, resuming = engines()
    first = resuming.generate(asked, DRAWN)
    engine, again = engines()
    assert again.generate(asked[::-1], DRAWN) == first[::-1]
    assert engine.tokens_generated == 0
    again.generate(asked, GREEDY)
    spent = engine.tokens_generated
    assert spent > 0
    other, changed = engines("changed")
    assert changed.generate(asked, DRAWN) == first
    assert other.tokens_generated > 0


def test_a_line_that_was_cut_off_is_no_answer(engines, tmp_path):
    asked = requests(6)
    engine, resuming = engines()
    first = resuming.generate(asked, DRAWN)
    path = tmp_path / "out" / "answers.unfinished"
    path.write_bytes(path.read_bytes()[:-20])
    after, resumed = engines()
    assert resumed.generate(asked, DRAWN) == first
    assert 0 < after.tokens_generated < engine.tokens_generated
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len({json.loads(line)["key"] for line in lines[1:]}) == len(asked)
    resumed.remove()
    assert not path.exists()


def test_every_request_is_told_of_once(engines):
    engine, _ = engines()
    asked, told = requests(20), {}
    found = engine.generate(asked, DRAWN, on_answers=lambda index, answers: told.setdefault(index, []).append(answers))
    assert told == {i: [answers] for i, answers in enumerate(found)}


def test_a_short_program_writes_nothing(tiny_model, tmp_path):
    resuming = ResumingEngine(TransformersEngine(tiny_model, EOS), tmp_path / "x", "settings")
    assert len(resuming.generate(requests(3), DRAWN)) == 3
    assert not list(tmp_path.iterdir())
