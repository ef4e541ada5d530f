"""Rollouts and replacements, on an engine whose every probability is known."""

import itertools

import pytest
import torch

from critical_tokens.branching import Trajectory, keep_token, replace_token, score_positions
from critical_tokens.engines.protocol import Completion
from critical_tokens.engines.transformers import TransformersEngine
from critical_tokens.sampling import Distribution

EOS = 2
DRAWS = Distribution(1.0, 0.95)


def correct(ids):
    """An arbitrary but smooth criterion on whole answers."""
    return sum(ids) % 3 == 0


def trajectories(model, n=3, length=4):
    engine = TransformersEngine(model, EOS)
    from critical_tokens.engines.protocol import Request

    sampled = engine.generate([Request((5, 6, 7), 50, 11, length)], DRAWS)[0]
    distinct = list(dict.fromkeys(c for c in sampled if len(c.token_ids) == length))[:n]
    return [Trajectory((5, 6, 7), c.token_ids, c.finished, correct, i) for i, c in enumerate(distinct)]


@torch.inference_mode()
def exact_success(model, prompt, answer, max_new_tokens):
    """The probability that a rollout ends in a correct answer, by walking the whole tree of continuations."""
    if len(answer) == max_new_tokens:
        return float(correct(answer))
    probabilities = DRAWS.probabilities(model(input_ids=torch.tensor([[*prompt, *answer]])).logits[:, -1])[0]
    total = 0.0
    for token in probabilities.nonzero().squeeze(-1).tolist():
        ending = float(correct(answer)) if token == EOS else exact_success(model, prompt, (*answer, token), max_new_tokens)
        total += float(probabilities[token]) * ending
    return total


def test_scores_converge_to_the_exact_probabilities(tiny_model):
    """A tree small enough to enumerate: the last two positions of answers of four tokens."""
    chosen = trajectories(tiny_model)
    n = 4000
    scores = score_positions(TransformersEngine(tiny_model, EOS), chosen, n, DRAWS, 4)
    for trajectory, of_it in zip(chosen, scores, strict=True):
        assert [s.position for s in of_it] == [-1, 0, 1, 2, 3]
        for position in (1, 2, 3):
            exact = exact_success(tiny_model, trajectory.prompt, trajectory.answer[: position + 1], 4)
            estimate = of_it[position + 1].correct / n
            assert abs(estimate - exact) <= 4.5 * (exact * (1 - exact) / n) ** 0.5 + 1e-9


def test_an_answer_at_the_length_limit_counts_as_it_stands(tiny_model):
    chosen = trajectories(tiny_model)
    for trajectory, of_it in zip(
        chosen, score_positions(TransformersEngine(tiny_model, EOS), chosen, 7, DRAWS, 4), strict=True
    ):
        assert of_it[-1].correct == (7 if correct(trajectory.answer) else 0)


class RecordingEngine:
    """Continues every prefix with one token 9 and draws replacements in turn."""

    def __init__(self):
        self.asked = []

    def generate(self, requests, distribution, on_progress=None):
        self.asked += requests
        return [[Completion((9,), True)] * r.n for r in requests]

    def draw_tokens(self, prefixes, banned, n, seeds, distribution):
        options = [[t for t in (EOS, 30, 31) if t != b] for b in banned]
        return [list(itertools.islice(itertools.cycle(o), n)) for o in options]


def test_replacement_continues_each_drawn_token_and_ends_where_eos_is_drawn():
    engine = RecordingEngine()
    trajectory = Trajectory((5, 6), (30, 40, 41), True, correct, 0)
    branches = replace_token(engine, [trajectory], [1], 6, DRAWS, DRAWS, 10, EOS)[0]
    assert len(branches) == 6
    assert {b.token_id for b in branches} == {EOS, 30, 31}
    assert {b.answer for b in branches} == {(30,), (30, 30, 9), (30, 31, 9)}
    assert all(b.correct == correct(b.answer) for b in branches)
    assert {r.prefix: (r.n, r.max_new_tokens) for r in engine.asked} == {(5, 6, 30, 30): (2, 8), (5, 6, 30, 31): (2, 8)}


def test_keeping_the_token_continues_from_the_trajectory_itself():
    engine = RecordingEngine()
    trajectory = Trajectory((5, 6), (30, 40, 41), True, correct, 0)
    branches = keep_token(engine, [trajectory], [1], 4, DRAWS, 10)[0]
    assert [b.answer for b in branches] == [(30, 40, 9)] * 4
    assert [(r.prefix, r.n, r.max_new_tokens) for r in engine.asked] == [((5, 6, 30, 40), 4, 8)]


def test_different_places_draw_from_different_streams():
    engine = RecordingEngine()
    chosen = [Trajectory((5,), tuple(range(10, 30)), True, correct, seed) for seed in range(50)]
    score_positions(engine, chosen, 1, DRAWS, 40)
    keep_token(engine, chosen, [3] * 50, 1, DRAWS, 40)
    replace_token(engine, chosen, [3] * 50, 2, DRAWS, DRAWS, 40, EOS)
    seeds = [r.seed for r in engine.asked]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 2**63


def test_replacements_never_repeat_the_replaced_token(tiny_model):
    chosen = trajectories(tiny_model)
    engine = TransformersEngine(tiny_model, EOS)
    for trajectory, branches in zip(
        chosen, replace_token(engine, chosen, [1] * len(chosen), 64, DRAWS, Distribution(), 4, EOS), strict=True
    ):
        assert len(branches) == 64
        assert all(b.token_id != trajectory.answer[1] for b in branches)
        assert all(b.answer[:1] == trajectory.answer[:1] for b in branches)


@pytest.mark.parametrize("n", [1, 5])
def test_scoring_is_reproducible(tiny_model, n):
    chosen = trajectories(tiny_model)
    first = score_positions(TransformersEngine(tiny_model, EOS, 500), chosen, n, DRAWS, 8)
    assert score_positions(TransformersEngine(tiny_model, EOS, 50_000), chosen, n, DRAWS, 8) == first
