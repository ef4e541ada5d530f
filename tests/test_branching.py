"""Rollouts and replacements, on an engine whose every probability is known."""

import pytest
import torch

from critical_tokens.branching import Budget, Trajectory, keep_token, replace_token, score_coupled, score_independently
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
    return [Trajectory((5, 6, 7), c.token_ids, correct, i) for i, c in enumerate(distinct)]


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


BOTH = pytest.mark.parametrize("score", [score_independently, score_coupled])


@BOTH
def test_scores_converge_to_the_exact_probabilities(tiny_model, score):
    """A tree small enough to enumerate: the last two positions of answers of four tokens."""
    chosen = trajectories(tiny_model)
    n = 4000
    scores = score(TransformersEngine(tiny_model, EOS), chosen, n, Budget(DRAWS, 4, EOS))
    for trajectory, of_it in zip(chosen, scores, strict=True):
        assert [s.position for s in of_it] == [-1, 0, 1, 2, 3]
        for position in (1, 2, 3):
            exact = exact_success(tiny_model, trajectory.prompt, trajectory.answer[: position + 1], 4)
            estimate = of_it[position + 1].correct / n
            assert abs(estimate - exact) <= 4.5 * (exact * (1 - exact) / n) ** 0.5 + 1e-9


@BOTH
def test_an_answer_at_the_length_limit_counts_as_it_stands(tiny_model, score):
    chosen = trajectories(tiny_model)
    scores = score(TransformersEngine(tiny_model, EOS), chosen, 7, Budget(DRAWS, 4, EOS))
    for trajectory, of_it in zip(chosen, scores, strict=True):
        assert of_it[-1].correct == (7 if correct(trajectory.answer) else 0)


class RecordingEngine:
    """Continues every prefix with one token 9 and draws replacements in turn."""

    def __init__(self):
        self.asked = []

    def generate(self, requests, distribution, on_progress=None):
        self.asked += requests
        return [[Completion((9,), True)] * r.n for r in requests]

    def path_logits(self, prompt, path):
        logits = torch.full((len(path), 50), -torch.inf)
        logits[:, [EOS, 30, 31, 40]] = 0.0
        return logits


def test_replacement_continues_each_drawn_token_and_ends_where_eos_is_drawn():
    engine = RecordingEngine()
    trajectory = Trajectory((5, 6), (30, 40, 41), correct, 0)
    branches = replace_token(engine, [trajectory], [1], 60, Budget(DRAWS, 10, EOS), DRAWS)[0]
    assert len(branches) == 60
    assert {b.token_id for b in branches} == {EOS, 30, 31}
    assert {b.answer for b in branches} == {(30,), (30, 30, 9), (30, 31, 9)}
    assert all(b.correct == correct(b.answer) for b in branches)
    assert {r.prefix: r.max_new_tokens for r in engine.asked} == {(5, 6, 30, 30): 8, (5, 6, 30, 31): 8}
    assert sum(r.n for r in engine.asked) == sum(b.token_id != EOS for b in branches)


def test_keeping_the_token_continues_from_the_trajectory_itself():
    engine = RecordingEngine()
    trajectory = Trajectory((5, 6), (30, 40, 41), correct, 0)
    branches = keep_token(engine, [trajectory], [1], 4, Budget(DRAWS, 10, EOS))[0]
    assert [b.answer for b in branches] == [(30, 40, 9)] * 4
    assert [(r.prefix, r.n, r.max_new_tokens) for r in engine.asked] == [((5, 6, 30, 40), 4, 8)]


def test_different_places_draw_from_different_streams():
    engine = RecordingEngine()
    budget = Budget(DRAWS, 40, EOS)
    seeds = [2**31 - 1 - i for i in range(50)]
    chosen = [Trajectory((5,), (30, 31, 40, 30, 31, 30) * 3, correct, seed) for seed in seeds]
    score_independently(engine, chosen, 1, budget)
    score_coupled(engine, chosen, 3, budget)
    keep_token(engine, chosen, [3] * 50, 1, budget)
    replace_token(engine, chosen, [3] * 50, 2, budget, DRAWS)
    seeds = [r.seed for r in engine.asked]
    assert len(set(seeds)) == len(seeds) > 1000
    assert max(seeds) < 2**63


def test_replacements_never_repeat_the_replaced_token(tiny_model):
    chosen = trajectories(tiny_model)
    engine = TransformersEngine(tiny_model, EOS)
    results = replace_token(engine, chosen, [1] * len(chosen), 64, Budget(DRAWS, 4, EOS), Distribution())
    for trajectory, branches in zip(chosen, results, strict=True):
        assert len(branches) == 64
        assert all(b.token_id != trajectory.answer[1] for b in branches)
        assert all(b.answer[:1] == trajectory.answer[:1] for b in branches)


def test_replacements_follow_the_masked_distribution(tiny_model):
    trajectory = trajectories(tiny_model)[0]
    engine = TransformersEngine(tiny_model, EOS)
    branches = replace_token(engine, [trajectory], [1], 20_000, Budget(DRAWS, 4, EOS), Distribution())[0]
    logits = tiny_model(input_ids=torch.tensor([trajectory.prefix(1)])).logits[0, -1].detach()
    logits[trajectory.answer[1]] = -torch.inf
    expected = torch.softmax(logits, -1) * 20_000
    observed = torch.bincount(torch.tensor([b.token_id for b in branches]), minlength=100).float()
    common = expected >= 5
    degrees = common.sum()
    assert ((observed - expected)[common] ** 2 / expected[common]).sum() < degrees + 4 * (2 * degrees) ** 0.5


@BOTH
def test_scoring_is_reproducible(tiny_model, score):
    chosen = trajectories(tiny_model)
    budget = Budget(DRAWS, 8, EOS)
    first = score(TransformersEngine(tiny_model, EOS, 500), chosen, 5, budget)
    assert score(TransformersEngine(tiny_model, EOS, 50_000), chosen, 5, budget) == first


def test_coupled_samples_number_n_at_every_prefix(tiny_model):
    """An answer that is always right counts every sample alive: n of them, everywhere."""
    sampled = trajectories(tiny_model, n=5, length=12)
    chosen = [Trajectory(t.prompt, t.answer, lambda ids: True, t.seed) for t in sampled]
    for of_it in score_coupled(TransformersEngine(tiny_model, EOS), chosen, 33, Budget(DRAWS, 20, EOS)):
        assert [s.correct for s in of_it] == [33] * 13


def test_coupled_and_independent_scores_agree_in_distribution(pocket_source, pocket_tokenizer):
    """On many positions of real trajectories of the pocket world: standardised differences have mean 0 and spread 1.

    Level: the mean of m standardised differences, of which those of one trajectory are correlated, within 4 standard errors
    of the trajectory means; their root mean square below 1.25.
    """
    from critical_tokens import datasets, sampler
    from critical_tokens.engines.protocol import Request

    source = sampler.Sampler(pocket_source, [], "gsm8k", 60_000)
    problems = datasets.generated("pocket-gsm", "train", 8, 0)
    budget, n = Budget(DRAWS, 96, source.tokenizer.eos_token_id), 32
    chosen = []
    for problem, ids in zip(problems, source.prompt_ids(problems), strict=True):
        completion = source.engine.generate([Request(tuple(ids), 1, 5, 96)], DRAWS)[0][0]
        grader = source.grader(problem["answer"])
        chosen.append(Trajectory(tuple(ids), completion.token_ids, grader, len(chosen)))
    spent = source.engine.tokens_generated
    coupled = score_coupled(source.engine, chosen, n, budget)
    few = source.engine.tokens_generated - spent
    independent = score_independently(source.engine, chosen, n, budget)
    many = source.engine.tokens_generated - spent - few
    assert many > 4 * few
    means, squares = [], []
    for first, second in zip(coupled, independent, strict=True):
        z = []
        for a, b in zip(first, second, strict=True):
            share = (a.correct + b.correct) / (2 * n)
            if 0.05 < share < 0.95:
                z.append((a.correct - b.correct) / (2 * n * share * (1 - share)) ** 0.5)
        if z:
            means.append(sum(z) / len(z))
            squares += [x * x for x in z]
    assert len(squares) > 40
    spread = (sum(m * m for m in means) / len(means) / len(means)) ** 0.5
    assert abs(sum(means) / len(means)) < 4 * spread
    assert 0.6 < (sum(squares) / len(squares)) ** 0.5 < 1.25
