"""Branches: a token kept or replaced, counterfactuals by rank, and first tokens."""

from types import SimpleNamespace

import pytest
import torch
from branches import DRAWS, EOS, RecordingEngine, correct, trajectories

from critical_tokens.core.records import ArtifactError
from critical_tokens.decoding.distributions import GREEDY, Nucleus
from critical_tokens.decoding.protocol import Completion, Request
from critical_tokens.engines.transformers_engine import TransformersEngine
from critical_tokens.rollouts import examination
from critical_tokens.rollouts.branching import (
    BranchingError,
    Fork,
    GenerationSettings,
    Trajectory,
    branch,
    counterfactuals,
    first_tokens,
    keep_token,
    replace_token,
)


def test_replacement_continues_each_drawn_token_and_ends_where_eos_is_drawn():
    engine = RecordingEngine()
    trajectory = Trajectory("t", (5, 6), (30, 40, 41), correct, 0)
    branches = replace_token(engine, [trajectory], [1], 60, GenerationSettings(DRAWS, 10, EOS), DRAWS)[0]
    assert len(branches) == 60
    assert {b.token_id for b in branches} == {EOS, 30, 31}
    assert {b.answer for b in branches} == {(30,), (30, 30, 9), (30, 31, 9)}
    assert all(b.correct == correct(b.answer) for b in branches)
    assert {r.prefix: r.max_new_tokens for r in engine.asked} == {(5, 6, 30, 30): 8, (5, 6, 30, 31): 8}
    assert sum(r.n for r in engine.asked) == sum(b.token_id != EOS for b in branches)


def test_keeping_the_token_continues_from_the_trajectory_itself():
    engine = RecordingEngine()
    trajectory = Trajectory("t", (5, 6), (30, 40, 41), correct, 0)
    branches = keep_token(engine, [trajectory], [1], 4, GenerationSettings(DRAWS, 10, EOS))[0]
    assert [b.answer for b in branches] == [(30, 40, 9)] * 4
    assert [(r.prefix, r.n, r.max_new_tokens) for r in engine.asked] == [((5, 6, 30, 40), 4, 8)]


def test_replacements_never_repeat_the_replaced_token(tiny_model):
    chosen = trajectories(tiny_model)
    engine = TransformersEngine(tiny_model, EOS)
    told = []
    settings = GenerationSettings(DRAWS, 4, EOS)
    results = replace_token(engine, chosen, [1] * len(chosen), 64, settings, Nucleus(), told.append)
    assert told == sorted(told)
    assert told[-1] == sum(b.token_id != EOS for branches in results for b in branches)
    for trajectory, branches in zip(chosen, results, strict=True):
        assert len(branches) == 64
        assert all(b.token_id != trajectory.answer[1] for b in branches)
        assert all(b.answer[:1] == trajectory.answer[:1] for b in branches)


def test_replacements_follow_the_masked_distribution(tiny_model):
    trajectory = trajectories(tiny_model)[0]
    engine = TransformersEngine(tiny_model, EOS)
    branches = replace_token(engine, [trajectory], [1], 20_000, GenerationSettings(DRAWS, 4, EOS), Nucleus())[0]
    logits = tiny_model(input_ids=torch.tensor([trajectory.prompt + trajectory.answer[:1]])).logits[0, -1].detach()
    logits[trajectory.answer[1]] = -torch.inf
    expected = torch.softmax(logits, -1) * 20_000
    observed = torch.bincount(torch.tensor([b.token_id for b in branches]), minlength=100).float()
    common = expected >= 5
    degrees = common.sum()
    assert ((observed - expected)[common] ** 2 / expected[common]).sum() < degrees + 4 * (2 * degrees) ** 0.5


def greedily(model, prefix, room):
    """The greedy completion of a prefix."""
    return TransformersEngine(model, EOS).generate([Request(tuple(prefix), 1, 0, room)], GREEDY)[0][0]


def test_counterfactuals_substitute_the_tokens_of_a_rank(tiny_model):
    prompt = (5, 6, 7)
    own = greedily(tiny_model, prompt, 6).token_ids
    sampled = trajectories(tiny_model, n=1, length=6)[0]
    chosen = [Trajectory("greedy", prompt, own, correct, 0), sampled]
    results = counterfactuals(TransformersEngine(tiny_model, EOS), chosen, GenerationSettings(DRAWS, 12, EOS))
    for trajectory, of_it in zip(chosen, results, strict=True):
        assert len(of_it) == len(trajectory.answer)
        for position, branches in enumerate(of_it):
            kept = trajectory.answer[:position]
            logits = tiny_model(input_ids=torch.tensor([[*prompt, *kept]])).logits[0, -1].detach()
            order = [t for t in logits.argsort(descending=True).tolist() if t != trajectory.answer[position]]
            assert [b.token_id for b in branches] == order[:2]
            for b in branches:
                start = kept if b.token_id == EOS else (*kept, b.token_id)
                room = 12 - len(start)
                rest = () if b.token_id == EOS else greedily(tiny_model, (*prompt, *start), room).token_ids
                assert b.answer == start + rest
                assert b.correct == correct(b.answer)


def test_first_tokens_are_the_most_probable_ones_with_their_confidence(tiny_model):
    prompt = (5, 6, 7)
    paths = first_tokens(TransformersEngine(tiny_model, EOS), [prompt], 10, GenerationSettings(DRAWS, 8, EOS))[0]
    probabilities = tiny_model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1).detach()
    firsts = [p.token_ids[0] if p.token_ids else EOS for p in paths]
    assert firsts == probabilities.argsort(descending=True)[:10].tolist()
    assert paths[0].token_ids == greedily(tiny_model, prompt, 8).token_ids
    for path in paths:
        assert len(path.token_ids) <= 8
        gaps = []
        for t in range(len(path.token_ids)):
            top = (
                tiny_model(input_ids=torch.tensor([[*prompt, *path.token_ids[:t]]]))
                .logits[0, -1]
                .detach()
                .softmax(-1)
                .topk(2)
            )
            gaps.append(float(top.values[0] - top.values[1]))
        assert path.confidence() == pytest.approx(sum(gaps) / max(1, len(gaps)), abs=1e-5)
        assert path.confidence(slice(0, 1)) == pytest.approx(gaps[0] if gaps else 0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("trajectory", "fork", "message"),
    [
        (Trajectory("p1/3", (5,), (), correct, 0), Fork(0, 0, None, 2, 0), "trajectory p1/3: the answer has no tokens"),
        (
            Trajectory("p1/3", (5,) * 100, (6,) * 60, correct, 0),
            Fork(0, 40, None, 2, 0),
            "trajectory p1/3, position 39: a prefix of 140 tokens fills the model's context of 128",
        ),
    ],
)
def test_what_cannot_be_branched_is_named(tiny_model, trajectory, fork, message):
    with pytest.raises(BranchingError, match=message):
        branch(TransformersEngine(tiny_model, EOS), [trajectory], [fork], GenerationSettings(DRAWS, 200, EOS))


def test_an_engine_that_returns_too_little_is_named():
    class Lazy(RecordingEngine):
        def generate(self, requests, distribution, on_progress=None, weighted=False):
            return [[Completion((9,), True)] * (r.n - 1) for r in requests]

    trajectory = Trajectory("p2/0", (5, 6), (30, 40), correct, 0)
    with pytest.raises(BranchingError, match="trajectory p2/0, position 0: the engine returned 4 of 5 continuations"):
        branch(Lazy(), [trajectory], [Fork(0, 1, None, 5, 0)], GenerationSettings(DRAWS, 10, EOS))


class StubSampler:
    """A sampler whose prompts are all the same and whose gold answers are never compared."""

    def __init__(self, model):
        self.engine = TransformersEngine(model, EOS)
        self.tokenizer = SimpleNamespace(eos_token_id=EOS)
        self.ends = (EOS,)

    def prompt_ids(self, problems):
        return [[5, 6, 7] for _ in problems]

    def grader(self, gold):
        return correct


def test_an_excluded_token_gives_way_to_the_most_probable_other_one(tiny_model):
    sampler = StubSampler(tiny_model)
    sampled = greedily(tiny_model, (5, 6, 7), 8).token_ids
    answers = [{"problem_id": "p", "sample_id": 3, "token_ids": list(sampled)}]
    rows = examination.exclusion_rows(sampler, answers, [{"problem_id": "p", "answer": "1"}], [2], 8, 1)
    logits = tiny_model(input_ids=torch.tensor([[5, 6, 7, *sampled[:2]]])).logits[0, -1]
    second = logits.topk(2).indices.tolist()[1]
    other = (*sampled[:2], second, *greedily(tiny_model, (5, 6, 7, *sampled[:2], second), 5).token_ids)
    name = {"problem_id": "p", "sample_id": 3, "draw": 0}
    assert rows == [
        name | {"arm": "kept", "token_id": sampled[2], "answer": list(sampled), "correct": correct(sampled)},
        name | {"arm": "excluded", "token_id": second, "answer": list(other), "correct": correct(other)},
    ]
    with pytest.raises(ArtifactError, match="the table of problems: has no problem p"):
        examination.answer_trajectories(sampler, answers, [], 1)
