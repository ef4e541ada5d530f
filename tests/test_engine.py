"""The transformers engine against the simplest possible decoder."""

import random
from dataclasses import replace

import pytest
import torch
from branches import MinP, RecordingEngine

from critical_tokens.core.records import Failure
from critical_tokens.decoding.distributions import GREEDY, Nucleus
from critical_tokens.decoding.protocol import Request, RequestError
from critical_tokens.decoding.random_streams import stream_keys, uniforms
from critical_tokens.engines import opening
from critical_tokens.engines.transformers_engine import TransformersEngine
from critical_tokens.models.checkpoints import ModelSource

EOS = 2


def requests(n=40, seed=0):
    rng = random.Random(seed)
    return [
        Request(
            tuple(rng.randrange(3, 100) for _ in range(rng.randint(1, 40))), rng.randint(1, 7), i, rng.randint(1, 50)
        )
        for i in range(n)
    ]


@torch.inference_mode()
def one_by_one(model, request, distribution):
    """Decode one sample after another, with the whole prefix recomputed for every token."""
    out = []
    for sample in range(request.n):
        key = stream_keys(torch.tensor([request.seed]), torch.tensor([sample]))
        ids, finished = list(request.prefix), False
        for step in range(request.max_new_tokens):
            logits = model(input_ids=torch.tensor([ids])).logits[:, -1]
            token = int(distribution.sample(logits, uniforms(key, torch.tensor([step])), torch.tensor([0]))[0])
            if token == EOS:
                finished = True
                break
            ids.append(token)
        out.append((tuple(ids[len(request.prefix) :]), finished))
    return out


@pytest.mark.parametrize("distribution", [GREEDY, Nucleus(1.0, 0.95), Nucleus(0.7, 1.0), MinP(0.1)])
@pytest.mark.parametrize("max_tokens", [150, 2000, 100_000])
def test_equals_decoding_one_by_one(tiny_model, distribution, max_tokens):
    asked = requests(12)
    engine = TransformersEngine(tiny_model, EOS, max_tokens)
    results = engine.generate(asked, distribution)
    for request, completions in zip(asked, results, strict=True):
        assert [(c.token_ids, c.finished) for c in completions] == one_by_one(tiny_model, request, distribution)
    # Common tokens of samples are decoded once, so each distinct prefix of completions counts once.
    decoded = 0
    for completions in results:
        decoded += len({c.token_ids[:t] for c in completions for t in range(len(c.token_ids) + c.finished)})
    assert engine.tokens_generated == decoded


@pytest.mark.parametrize("max_tokens", [150, 100_000])
def test_weighted_completions_weigh_what_they_are_worth(tiny_model, max_tokens):
    """Over many seeds, the mean weight of each likely answer is n times its exact probability."""
    distribution, n, seeds = Nucleus(0.2, 0.95), 20.5, 300
    prefix, steps = (5, 6, 7), 3

    @torch.inference_mode()
    def probability(ids, finished):
        path = [*ids, EOS] if finished else ids
        logits = tiny_model(input_ids=torch.tensor([[*prefix, *path[:-1]]])).logits[0, len(prefix) - 1 :]
        return float(distribution.probabilities(logits)[range(len(path)), path].double().prod())

    engine = TransformersEngine(tiny_model, EOS, max_tokens)
    results = engine.generate([Request(prefix, n, seed, steps) for seed in range(seeds)], distribution, weighted=True)
    found = {}
    for seed, completions in enumerate(results):
        answers = [(c.token_ids, c.finished) for c in completions]
        assert len(set(answers)) == len(answers)
        for answer, completion in zip(answers, completions, strict=True):
            assert completion.weight >= 1
            found.setdefault(answer, [0.0] * seeds)[seed] = completion.weight
    likely = lots = 0
    for answer, weights in found.items():
        expected = n * probability(*answer)
        weights = torch.tensor(weights, dtype=torch.float64)
        if expected > 0.05:
            likely += 1
            lots += float(weights.std()) > 1e-3
            assert abs(float(weights.mean()) - expected) <= 4.5 * float(weights.std()) / seeds**0.5 + 1e-4
    assert likely > lots > 3
    totals = torch.tensor([sum(c.weight for c in completions) for completions in results])
    assert abs(float(totals.mean()) - n) <= 4.5 * float(totals.std()) / seeds**0.5


def test_weighted_completions_do_not_depend_on_their_neighbours(tiny_model):
    asked = [replace(r, n=1.7 * r.n) for r in requests(12)]
    together = TransformersEngine(tiny_model, EOS, 100_000).generate(asked, Nucleus(0.5, 0.95), weighted=True)
    parts = TransformersEngine(tiny_model, EOS, 300).generate(asked, Nucleus(0.5, 0.95), weighted=True)
    for first, second in zip(together, parts, strict=True):
        assert [c.token_ids for c in first] == [c.token_ids for c in second]
        torch.testing.assert_close(torch.tensor([c.weight for c in first]), torch.tensor([c.weight for c in second]))
    assert TransformersEngine(tiny_model, EOS).generate(asked[:2], GREEDY, weighted=True)[0][0].weight == asked[0].n


def test_a_request_does_not_depend_on_its_neighbours(tiny_model):
    # Batches of other shapes round differently. With these requests no random number is so close to
    # the edge of a token's interval that rounding decides.
    asked = requests(seed=1)
    engine = TransformersEngine(tiny_model, EOS, 3000)
    together = engine.generate(asked, Nucleus())
    order = list(range(len(asked)))
    random.Random(1).shuffle(order)
    shuffled = engine.generate([asked[i] for i in order], Nucleus())
    alone = [engine.generate([r], Nucleus())[0] for r in asked]
    assert [shuffled[order.index(i)] for i in range(len(asked))] == together == alone


def test_seeds_decide_the_samples(tiny_model):
    engine = TransformersEngine(tiny_model, EOS)
    ask = lambda seed: engine.generate([Request((5, 6, 7), 20, seed, 10)], Nucleus())[0]  # noqa: E731
    assert ask(1) == ask(1)
    assert ask(1) != ask(2)
    assert len({c.token_ids for c in ask(1)}) > 10


def test_more_samples_than_rows_come_in_parts(tiny_model):
    request = Request((5, 6, 7), 50, 3, 8)
    whole = TransformersEngine(tiny_model, EOS, 100_000).generate([request], Nucleus())
    assert TransformersEngine(tiny_model, EOS, 80).generate([request], Nucleus()) == whole


def test_the_context_bounds_an_answer(tiny_model):
    prefix = tuple(random.Random(0).randrange(3, 100) for _ in range(120))
    completions = TransformersEngine(tiny_model, EOS).generate([Request(prefix, 5, 0, 50)], Nucleus())[0]
    assert max(len(c.token_ids) for c in completions) <= 8


def test_bad_requests_are_refused(tiny_model):
    engine = TransformersEngine(tiny_model, EOS)
    with pytest.raises(RequestError, match="empty prefix"):
        engine.generate([Request((), 1, 0, 5)], GREEDY)
    with pytest.raises(RequestError, match="a prefix of 128 tokens fills the model's context of 128"):
        engine.generate([Request((5,) * 128, 1, 0, 5)], GREEDY)
    with pytest.raises(RequestError, match="a prompt and an answer of 129 tokens exceed the model's context of 128"):
        engine.path_logits((5,) * 100, (6,) * 30)
    assert len(engine.path_logits((5,) * 100, (6,) * 29)) == 29
    assert engine.generate([], GREEDY) == []


def test_progress_counts_every_completion(tiny_model):
    told = []
    asked = requests(10)
    TransformersEngine(tiny_model, EOS, 2000).generate(asked, Nucleus(), told.append)
    assert told == sorted(told)
    assert told[-1] == sum(r.n for r in asked)


def test_path_logits_are_those_of_the_whole_sequence(tiny_model):
    logits = TransformersEngine(tiny_model, EOS).path_logits((5, 6, 7), (8, 9, 10, 2))
    whole = tiny_model(input_ids=torch.tensor([[5, 6, 7, 8, 9, 10, 2]])).logits[0].detach()
    torch.testing.assert_close(logits, whole[2:6])


def test_every_eos_id_ends_an_answer(tiny_model):
    request = Request((5, 6, 7), 30, 3, 12)
    alone = TransformersEngine(tiny_model, EOS).generate([request], Nucleus())[0]
    other = next(c.token_ids[2] for c in alone if len(c.token_ids) > 2)
    both = TransformersEngine(tiny_model, [EOS, other]).generate([request], Nucleus())[0]
    for before, after in zip(alone, both, strict=True):
        cut = other in before.token_ids
        kept = before.token_ids[: before.token_ids.index(other)] if cut else before.token_ids
        assert (after.token_ids, after.finished) == (kept, cut or before.finished)


@pytest.mark.parametrize("ends", [None, (), [None], -1])
def test_an_engine_without_an_end_is_refused(tiny_model, ends):
    with pytest.raises(Failure, match="must be at least one token id"):
        TransformersEngine(tiny_model, ends)


def test_an_engine_that_is_not_there_is_refused_in_words(monkeypatch):
    opening.check_installed("transformers")
    with pytest.raises(Failure, match="the engine is 'tgi', must be one of transformers, vllm"):
        opening.check_installed("tgi")
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(Failure, match=r"vllm is not installed for .*: type `make vllm` .*--sdm conda.*envs/vllm.yaml"):
        opening.check_installed("vllm")
    with pytest.raises(Failure, match="type `make environment` "):
        opening.check_installed("transformers")


def test_an_engine_may_have_an_environment_of_its_own(monkeypatch, tmp_path):
    """What `make` did not finish does not count; the other engines run with Snakemake's Python."""
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    (tmp_path / ".venv-vllm" / "bin").mkdir(parents=True)
    (tmp_path / "installed").touch()
    assert [opening.python_of(name, tmp_path) for name in opening.ENGINES] == [None, None]
    with pytest.raises(Failure, match="type `make vllm` "):
        opening.check_installed("vllm", tmp_path)
    (tmp_path / ".venv-vllm" / "installed").touch()
    assert opening.python_of("vllm", tmp_path) == tmp_path / ".venv-vllm" / "bin" / "python"
    assert opening.python_of("transformers", tmp_path) is None
    opening.check_installed("vllm", tmp_path)
    with pytest.raises(Failure, match="the engine transformers is not installed"):
        opening.check_installed("transformers", tmp_path)


def test_a_new_engine_is_a_function_and_an_entry(monkeypatch):
    """Its function gets all arguments; a missing package is refused with its environment."""
    opened = []

    def open_recording(*arguments):
        opened.append(arguments)
        return RecordingEngine()

    entry = opening.EngineEntry("records its requests", "json", "recording.yaml", open_recording)
    monkeypatch.setitem(opening.ENGINES, "recording", entry)
    settings, source = opening.EngineSettings(100, "recording"), ModelSource("somewhere")
    engine = opening.open_engine(settings, source, [], EOS)
    assert opened == [(settings, source, [], EOS, None)]
    assert engine.generate([Request((5,), 2, 0, 3)], GREEDY)[0][0].token_ids == (9,)
    monkeypatch.setitem(opening.ENGINES, "recording", replace(entry, package="no_such_package"))
    with pytest.raises(Failure, match=r"the engine recording is not installed for .* of envs/recording\.yaml"):
        opening.open_engine(settings, source, [], EOS)
