"""The vLLM engine against the transformers engine. Runs where vLLM is installed: `make test-vllm`
(its CPU build).
"""

import os
from dataclasses import replace

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

from critical_tokens.core.hub import HubError
from critical_tokens.data import prompts, sources
from critical_tokens.decoding.distributions import GREEDY, Nucleus
from critical_tokens.decoding.protocol import Request, RequestError
from critical_tokens.decoding.stopping import Stop
from critical_tokens.engines import vllm_engine
from critical_tokens.engines.opening import EngineSettings, open_engine
from critical_tokens.engines.transformers_engine import TransformersEngine
from critical_tokens.models.checkpoints import ModelSource, load_model
from critical_tokens.rollouts.branching import GenerationSettings, Trajectory
from critical_tokens.rollouts.scores import coupled, score, stratified

DRAWS = Nucleus(0.8, 0.9)
TOKENS = 40_000


@pytest.fixture(scope="module")
def eos(pocket_tokenizer):
    return pocket_tokenizer.eos_token_id


@pytest.fixture(scope="module")
def asked(pocket_tokenizer):
    questions = [p["question"] for p in sources.generated("pocket-gsm", "test", 24, 0)]
    return [
        tuple(ids)
        for ids in prompts.encode_prompts(pocket_tokenizer, questions, prompts.Prompt("gsm8k", blank="prompt"))
    ]


@pytest.fixture(scope="module")
def ours(pocket_source, eos):
    return TransformersEngine(load_model(pocket_source), eos, TOKENS)


@pytest.fixture(scope="module")
def vllm(pocket_source, eos):
    engine = open_engine(EngineSettings(TOKENS, "vllm"), pocket_source, [], eos)
    yield engine
    engine.close()


def test_greedy_answers_are_the_same(ours, vllm, asked):
    requests = [Request(p, 2, i, 96) for i, p in enumerate(asked)]
    told = []
    assert vllm.generate(requests, GREEDY, told.append) == ours.generate(requests, GREEDY)
    assert told[-1] == 2 * len(asked)


def test_an_answer_stops_at_its_limit(ours, vllm, asked):
    requests = [Request(p, 1, 0, limit) for limit, p in enumerate(asked, 1)]
    assert vllm.generate(requests, GREEDY) == ours.generate(requests, GREEDY)


def test_samples_follow_the_same_distribution(ours, vllm, asked, eos):
    """Chi-square of the next token where the most of them are possible."""
    distribution = Nucleus(2.0, 0.95)
    answers = ours.generate([Request(p, 1, 0, 60) for p in asked], GREEDY)
    places = []
    for prompt, (answer,) in zip(asked, answers, strict=True):
        chances = distribution.probabilities(ours.path_logits(prompt, answer.token_ids))
        widest = int((chances > 0.01).sum(-1).argmax())
        places.append(((*prompt, *answer.token_ids[:widest]), chances[widest]))
    prefix, probabilities = max(places, key=lambda place: int((place[1] > 0.01).sum()))
    n = 4000
    drawn = vllm.generate([Request(prefix, n, 7, 1)], distribution)[0]
    counts = torch.zeros(len(probabilities))
    for completion in drawn:
        counts[completion.token_ids[0] if completion.token_ids else eos] += 1
    assert counts[probabilities == 0].sum() <= n / 1000  # the edge of the nucleus, by rounding
    common = probabilities * n >= 5
    degrees = int(common.sum()) - 1
    assert degrees >= 3
    chi2 = ((counts - probabilities * n)[common] ** 2 / (probabilities * n)[common]).sum()
    assert chi2 < degrees + 5 * (2 * degrees) ** 0.5


def test_a_request_does_not_depend_on_its_neighbours(vllm, asked):
    requests = [Request(p, 3, 100 + i, 30) for i, p in enumerate(asked)]
    together = vllm.generate(requests, DRAWS)
    assert vllm.generate(requests[::-1], DRAWS)[::-1] == together
    assert [vllm.generate([r], DRAWS)[0] for r in requests[:3]] == together[:3]
    neighbours = [Request(asked[0], 3, 100 + i, 30) for i in range(5)]
    answers = [c.token_ids for of_it in vllm.generate(neighbours, Nucleus()) for c in of_it]
    assert len(set(answers)) > 10  # seeds next to each other do not share samples


def test_progress_is_told_as_answers_finish(vllm, asked):
    """At least once for each of the different lengths, and the answers are those of one plain call
    in which a request has all of its samples.
    """
    from vllm import SamplingParams

    limits = [4, 8, 12, 16, 20, 24]
    requests = [Request(p, 3, 50 + i, limit) for i, (p, limit) in enumerate(zip(asked, limits, strict=False))]
    told = []
    kept = {}
    ours = vllm.generate(requests, DRAWS, told.append, on_answers=kept.__setitem__)
    assert [kept[i] for i in range(len(requests))] == ours
    assert told == sorted(set(told))
    assert len(told) >= len(limits)
    assert told[-1] == 3 * len(limits)
    greedy = []
    vllm.generate([replace(r, n=i % 2 + 1) for i, r in enumerate(requests)], GREEDY, greedy.append)
    assert greedy == sorted(greedy)
    assert greedy[-1] == 9
    plain = [
        SamplingParams(
            **DRAWS.parameters(),
            n=3,
            seed=vllm_engine._spread(r.seed),
            max_tokens=r.max_new_tokens,
            stop_token_ids=sorted(vllm._eos),
            detokenize=False,
        )
        for r in requests
    ]
    prompts_of = [{"prompt_token_ids": list(r.prefix)} for r in requests]
    outputs = vllm._llm.generate(prompts_of, plain, use_tqdm=False)
    assert [
        [vllm._completion(r, o) for o in output.outputs] for r, output in zip(requests, outputs, strict=True)
    ] == ours


def test_more_samples_than_a_call_keep_their_order(vllm, asked, monkeypatch):
    requests = [Request(p, 3, i, 12) for i, p in enumerate(asked[:6])]
    whole, told = vllm.generate(requests, DRAWS), []
    monkeypatch.setattr(vllm_engine, "_CALL", 4)
    assert vllm.generate(requests, DRAWS, told.append) == whole
    assert told == sorted(set(told))
    assert told[-1] == 18


def test_path_logits_are_log_probabilities(ours, vllm, asked):
    path = ours.generate([Request(asked[1], 1, 0, 40)], GREEDY)[0][0].token_ids
    theirs = vllm.path_logits(asked[1], path)
    torch.testing.assert_close(theirs, ours.path_logits(asked[1], path).log_softmax(-1), atol=2e-4, rtol=0)


def test_positions_too_flat_are_refused(vllm, asked, monkeypatch):
    monkeypatch.setattr(vllm, "_kept", 1)
    with pytest.raises(RequestError, match=r"the 1 most probable tokens at position \d+ hold \d+% of the mass"):
        vllm.path_logits(asked[0], (5, 6, 7))


@pytest.mark.parametrize("planner", [coupled, stratified])
def test_scores_agree(ours, vllm, asked, eos, planner):
    """Planted: an answer is right if it has an even number of tokens. Paired over positions, within
    five standard errors.
    """
    generation = GenerationSettings(DRAWS, 60, eos)
    sampled = ours.generate([Request(p, 1, 3, 60) for p in asked[:6]], DRAWS)
    chosen = [
        Trajectory(f"t{i}", p, s[0].token_ids, lambda ids: len(ids) % 2 == 0, i)
        for i, (p, s) in enumerate(zip(asked, sampled, strict=False))
    ]
    n = 48
    scores = [score(engine, chosen, planner(n), generation) for engine in (ours, vllm)]
    differences = []
    for first, second in zip(*scores, strict=True):
        # Neighbouring positions share samples: one mean per trajectory.
        gaps = [a.score - b.score for a, b in zip(first, second, strict=True)]
        differences.append(sum(gaps) / len(gaps))
    assert max(abs(d) for d in differences) < 5 * (2 * 0.25 / n) ** 0.5


def test_bad_requests_are_refused(vllm):
    with pytest.raises(RequestError, match="empty prefix"):
        vllm.generate([Request((), 1, 0, 5)], GREEDY)
    with pytest.raises(RequestError, match=f"fills the model's context of {vllm.context}"):
        vllm.generate([Request((5,) * vllm.context, 1, 0, 5)], GREEDY)
    assert vllm.generate([], GREEDY) == []


def test_prefixes_are_cached(vllm, asked):
    """The second of two requests reads whole blocks of the first one's prefix."""
    from vllm import SamplingParams

    prefix = (*asked[0], *asked[1])
    parameters = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False)
    list(vllm._steps([prefix], parameters))
    (((_, output),),) = vllm._steps([(*prefix, 7, 8)], parameters)
    assert output.num_cached_tokens >= 32


def adapter(source, folder, seed):
    """A LoRA adapter with random weights."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(load_model(source), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    return folder / "adapter_model.safetensors"


# Those below close engines of their own, and with them what the engine above shares: they come
# last.


def test_every_eos_id_ends_an_answer(pocket_source, eos, vllm, asked, monkeypatch):
    requests = [Request(p, 1, i, 40) for i, p in enumerate(asked[:6])]
    other = vllm.generate(requests, GREEDY)[0][0].token_ids[3]
    expected = TransformersEngine(load_model(pocket_source), [eos, other], TOKENS).generate(requests, GREEDY)
    monkeypatch.setattr(vllm, "_eos", frozenset([eos, other]))
    assert vllm.generate(requests, GREEDY) == expected
    assert expected[0][0].finished


def test_an_answer_ends_at_the_stop_text(pocket_source, pocket_tokenizer, eos, asked):
    """Both engines keep the same tokens before a text that every answer has, and say that the
    answer is finished.
    """
    stop = Stop(pocket_tokenizer, " answer is")
    requests = [Request(p, 1, i, 96) for i, p in enumerate(asked)]
    expected = TransformersEngine(load_model(pocket_source), eos, TOKENS, stop).generate(requests, GREEDY)
    engine = open_engine(EngineSettings(TOKENS, "vllm"), pocket_source, [], eos, stop)
    found = engine.generate(requests, GREEDY)
    engine.close()
    assert found == expected
    assert all(answer.finished for (answer,) in found)
    texts = {prompts.decode(pocket_tokenizer, answer.token_ids).rsplit(" ", 2)[-1].strip() for (answer,) in found}
    assert texts == {"The"}


@pytest.mark.parametrize("count", [1, 2])
def test_adapters_are_applied(pocket_source, pocket_tokenizer, ours, asked, eos, tmp_path, count):
    """One is handed to vLLM as it is, two are merged; both give the greedy answers of the merged
    model.
    """
    adapters = [adapter(pocket_source, tmp_path / str(i), i) for i in range(count)]
    merged = TransformersEngine(load_model(pocket_source, adapters), eos, TOKENS)
    requests = [Request(p, 1, 0, 60) for p in asked]
    stop = Stop(pocket_tokenizer, prompts.Prompt("gsm8k").stop)
    engine = open_engine(EngineSettings(TOKENS, "vllm", context=200), pocket_source, adapters, eos, stop)
    try:
        expected = merged.generate(requests, GREEDY)
        assert expected != ours.generate(requests, GREEDY)
        assert engine.generate(requests, GREEDY) == expected
    finally:
        engine.close()


def test_no_weights_are_a_plain_error(eos, tmp_path):
    with pytest.raises(HubError, match=r"nowhere at main is no local folder"):
        open_engine(EngineSettings(TOKENS, "vllm"), ModelSource(str(tmp_path / "nowhere")), [], eos)
