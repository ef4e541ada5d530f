"""Rollout scores by every procedure, on models small enough for exact probabilities."""

from dataclasses import replace

import pytest
import torch
from branches import DRAWS, EOS, RecordingEngine, correct, trajectories

from critical_tokens.data import prompts
from critical_tokens.decoding.distributions import GREEDY, Nucleus
from critical_tokens.decoding.protocol import Request
from critical_tokens.engines.opening import EngineSettings
from critical_tokens.engines.transformers_engine import TransformersEngine
from critical_tokens.rollouts import critical, scores
from critical_tokens.rollouts.branching import (
    BranchingError,
    Fork,
    GenerationSettings,
    Trajectory,
    keep_token,
    replace_token,
)
from critical_tokens.rollouts.scores import coupled, independent, score, stratified


@torch.inference_mode()
def exact_success(model, prompt, answer, max_new_tokens):
    """The probability that a rollout ends in a correct answer, from all continuations."""
    if len(answer) == max_new_tokens:
        return float(correct(answer))
    probabilities = DRAWS.probabilities(model(input_ids=torch.tensor([[*prompt, *answer]])).logits[:, -1])[0]
    total = 0.0
    for token in probabilities.nonzero().squeeze(-1).tolist():
        ending = (
            float(correct(answer)) if token == EOS else exact_success(model, prompt, (*answer, token), max_new_tokens)
        )
        total += float(probabilities[token]) * ending
    return total


def scores_of(model, chosen, planner, length):
    return score(TransformersEngine(model, EOS), chosen, planner, GenerationSettings(DRAWS, length, EOS))


@pytest.mark.parametrize("procedure", [independent, coupled, stratified])
def test_scores_converge_to_the_exact_probabilities(tiny_model, procedure):
    """The last positions of answers of four tokens have few enough continuations to enumerate."""
    chosen = trajectories(tiny_model)
    n = 4000
    for trajectory, of_it in zip(chosen, scores_of(tiny_model, chosen, procedure(n), 4), strict=True):
        assert [s.position for s in of_it] == [-1, 0, 1, 2, 3]
        for position in (1, 2, 3):
            exact = exact_success(tiny_model, trajectory.prompt, trajectory.answer[: position + 1], 4)
            # The error of a binomial with n continuations; stratified scores have a smaller one.
            assert abs(of_it[position + 1].score - exact) <= 4.5 * (exact * (1 - exact) / n) ** 0.5 + 1e-6


@pytest.mark.parametrize("branches", [0.3, 2.0])
@pytest.mark.workflow
def test_stratified_scores_are_unbiased_and_their_errors_on_the_large_side(tiny_model, branches):
    """Over many seeds; with 0.3 branches, most positions are sampled at random."""
    one = trajectories(tiny_model, n=1)[0]
    seeds = 1500
    chosen = [Trajectory(one.name, one.prompt, one.answer, one.grader, seed) for seed in range(seeds)]
    scored = scores_of(tiny_model, chosen, stratified(branches), 4)
    for position in (1, 2, 3):
        exact = exact_success(tiny_model, one.prompt, one.answer[: position + 1], 4)
        values = torch.tensor([of_it[position + 1].score for of_it in scored], dtype=torch.float64)
        errors = torch.tensor([of_it[position + 1].standard_error for of_it in scored], dtype=torch.float64)
        spread = float(values.std())
        assert abs(float(values.mean()) - exact) <= 4.5 * spread / seeds**0.5 + 1e-9
        assert spread <= 1.1 * float((errors**2).mean() ** 0.5)
    assert spread == 0.0  # nothing is random after the last token


@pytest.mark.workflow
def test_stratified_scores_are_better_than_as_many_coupled_samples(tiny_model):
    """By squared error over several answers; some tokens are much more likely than others."""
    sharp = Nucleus(0.2, 1.0)
    generation, engine = GenerationSettings(sharp, 5, EOS), TransformersEngine(tiny_model, EOS)
    answers = trajectories(tiny_model, n=4, distribution=sharp)

    def scored(planner, seeds=300):
        chosen = [replace(t, seed=seed) for t in answers for seed in range(seeds)]
        scores = [of_it[0].score for of_it in score(engine, chosen, planner, generation)]
        return torch.tensor(scores, dtype=torch.float64).view(4, seeds)

    exact = scored(coupled(64), seeds=60).mean(1, keepdim=True)
    assert ((exact > 0.02) & (exact < 0.98)).all()
    few, many = (((scored(planner) - exact) ** 2).mean() for planner in (stratified(8), coupled(8)))
    assert few < 0.85 * many


@pytest.mark.parametrize("planner", [independent(7), coupled(7), stratified(7)])
def test_an_answer_at_the_length_limit_counts_as_it_stands(tiny_model, planner):
    chosen = trajectories(tiny_model)
    for trajectory, of_it in zip(chosen, scores_of(tiny_model, chosen, planner, 4), strict=True):
        assert of_it[-1].score == correct(trajectory.answer)


@pytest.mark.parametrize("planner", [independent(5), coupled(5), stratified(5)])
def test_scoring_is_reproducible(tiny_model, planner):
    chosen = trajectories(tiny_model)
    generation = GenerationSettings(DRAWS, 8, EOS)
    first = score(TransformersEngine(tiny_model, EOS, 500), chosen, planner, generation)
    assert score(TransformersEngine(tiny_model, EOS, 50_000), chosen, planner, generation) == first


def test_coupled_samples_number_n_at_every_prefix(tiny_model):
    """If every answer is correct, all samples alive count: n of them at every prefix."""
    sampled = trajectories(tiny_model, n=5, length=12)
    chosen = [Trajectory(t.name, t.prompt, t.answer, lambda ids: True, t.seed) for t in sampled]
    for of_it in scores_of(tiny_model, chosen, coupled(33), 20):
        assert [s.correct for s in of_it] == [33] * 13


def test_different_places_draw_from_different_streams():
    engine = RecordingEngine()
    generation = GenerationSettings(DRAWS, 40, EOS)
    seeds = [2**31 - 1 - i for i in range(50)]
    chosen = [Trajectory("t", (5,), (30, 31, 40, 30, 31, 30) * 3, correct, seed) for seed in seeds]
    score(engine, chosen, independent(1), generation)
    score(engine, chosen, coupled(3), generation)
    keep_token(engine, chosen, [3] * 50, 1, generation)
    replace_token(engine, chosen, [3] * 50, 2, generation, DRAWS)
    seeds = [r.seed for r in engine.asked]
    assert len(set(seeds)) == len(seeds) > 1000
    assert max(seeds) < 2**63


# --- scores from the end backwards


@pytest.mark.parametrize("planner", [independent(16), coupled(16), stratified(4)])
@pytest.mark.parametrize("zero", [0.0, 0.2])
@pytest.mark.workflow
def test_scoring_backwards_finds_the_same_critical_token_with_fewer_tokens(tiny_model, planner, zero, monkeypatch):
    # Answers with the first 11 tokens of the trajectory are incorrect, about half of the others are
    # correct.
    def grader(own):
        return lambda ids: ids[:11] != own[:11] and sum(ids) % 2 == 0

    sampled = trajectories(tiny_model, n=12, length=20)
    chosen = [Trajectory(t.name, t.prompt, t.answer, grader(t.answer), t.seed) for t in sampled]
    generation = GenerationSettings(DRAWS, 24, EOS)
    engine = TransformersEngine(tiny_model, EOS)
    whole = score(engine, chosen, planner, generation)
    spent = engine.tokens_generated
    told = []
    monkeypatch.setattr(scores, "_CONTINUATIONS", 20)

    def settled(last):
        return critical.settled(last, 0.3, zero)

    partial = score(engine, chosen, planner, generation, lambda done, total: told.append((done, total)), settled)
    assert engine.tokens_generated - spent < spent
    stopped = 0
    for full, last in zip(whole, partial, strict=True):
        assert last == full[len(full) - len(last) :]
        stopped += len(last) < len(full)
        ours = critical.find_critical([s.score for s in last if s.position >= 0], 0.3, zero)
        theirs = critical.find_critical([s.score for s in full if s.position >= 0], 0.3, zero)
        assert (ours is None) == (theirs is None)
        if ours:
            first = max(last[0].position, 0)
            assert (ours.position + first, ours.zero_only) == (theirs.position, theirs.zero_only)
    assert stopped
    assert told == sorted(told)


def test_a_round_backwards_has_enough_continuations_for_a_batch():
    """It has more positions where trajectories are few, and ends where they begin."""

    class Of:
        def __init__(self, index):
            self.forks = [Fork(index, length, 5, 1.5, 1) for length in range(200)]

    plans = [Of(i) for i in range(100)]
    for count, positions in ((100, scores._ROUND), (50, 8), (2, 128)):
        starts, forks = scores._round(plans, dict.fromkeys(range(count), 200))
        assert set(starts.values()) == {200 - positions}
        assert len(forks) == count * positions
    starts, forks = scores._round(plans, {3: 70, 4: 9})
    assert starts == {3: 0, 4: 0} and len(forks) == 79
    assert {fork.length for fork in forks if fork.index == 4} == set(range(9))


def test_scores_are_settled_only_when_nothing_earlier_can_matter():
    assert not critical.settled([0.0, 0.0])  # an earlier zero may come first
    assert critical.settled([0.5, 0.0, 0.0])
    assert not critical.settled([0.0, 0.5, 0.2])  # no token meets both conditions, so the first zero counts
    assert not critical.settled([])


# --- bad input


@pytest.mark.parametrize("planner", [coupled(4), stratified(4)])
def test_a_token_from_other_settings_is_named(tiny_model, planner):
    prompt = (5, 6, 7)
    logits = tiny_model(input_ids=torch.tensor([prompt])).logits[0, -1]
    foreign = Trajectory("p7/2", prompt, (int(logits.argmin()), 8), correct, 0)
    for distribution in (GREEDY, Nucleus(1.0, 0.5)):
        with pytest.raises(
            BranchingError, match=r"trajectory p7/2, position 0: token \d+ is outside the sampling distribution"
        ):
            score(TransformersEngine(tiny_model, EOS), [foreign], planner, GenerationSettings(distribution, 8, EOS))
    assert score(TransformersEngine(tiny_model, EOS), [foreign], planner, GenerationSettings(Nucleus(), 8, EOS))


@pytest.mark.parametrize("planner", [independent(4), coupled(4), stratified(4)])
def test_a_trajectory_that_cannot_be_scored_is_named(tiny_model, planner):
    engine = TransformersEngine(tiny_model, EOS)
    with pytest.raises(BranchingError, match="trajectory p7/2: the answer has no tokens"):
        score(engine, [Trajectory("p7/2", (5,), (), correct, 0)], planner, GenerationSettings(DRAWS, 8, EOS))
    with pytest.raises(BranchingError, match=r"trajectory p7/2, position \d+: .* context of 128"):
        score(
            engine,
            [Trajectory("p7/2", (5,) * 100, (6,) * 60, correct, 0)],
            planner,
            GenerationSettings(Nucleus(), 80, EOS),
        )


# --- the pocket world


@pytest.mark.workflow
def test_coupled_and_independent_scores_agree_in_distribution(pocket_source, pocket_tokenizer):
    """On real trajectories of the pocket world, standardised differences have mean 0 and spread 1.

    Differences of one trajectory are correlated, so the mean must lie within 4 standard errors of
    the means of trajectories. The root mean square must be below 1.25.
    """
    from critical_tokens.data import sources
    from critical_tokens.rollouts import sampler

    source = sampler.Sampler(pocket_source, [], prompts.Prompt("gsm8k"), EngineSettings(60_000))
    problems = sources.generated("pocket-gsm", "train", 8, 0)
    generation, n = GenerationSettings(DRAWS, 96, source.tokenizer.eos_token_id), 32
    chosen = []
    for problem, ids in zip(problems, source.prompt_ids(problems), strict=True):
        completion = source.engine.generate([Request(tuple(ids), 1, 5, 96)], DRAWS)[0][0]
        grader = source.grader(problem["answer"])
        chosen.append(Trajectory(problem["problem_id"], tuple(ids), completion.token_ids, grader, len(chosen)))
    spent = source.engine.tokens_generated
    shared = score(source.engine, chosen, coupled(n), generation)
    few = source.engine.tokens_generated - spent
    fresh = score(source.engine, chosen, independent(n), generation)
    many = source.engine.tokens_generated - spent - few
    assert many > 4 * few
    means, squares = [], []
    for first, second in zip(shared, fresh, strict=True):
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
