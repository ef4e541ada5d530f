"""Architectures: the engine decodes a model as transformers does, or refuses it by name."""

import random
import sys
from dataclasses import replace

import architectures
import pytest
import torch
from architectures import EOS, LONG, PLAIN, SHARED, config_of, random_model
from transformers import T5Config, T5ForConditionalGeneration

from critical_tokens.core.records import Failure
from critical_tokens.decoding.distributions import GREEDY, Nucleus
from critical_tokens.decoding.protocol import Request
from critical_tokens.engines import architecture
from critical_tokens.engines.architecture import config_reach, shared_reach
from critical_tokens.engines.transformers_engine import TransformersEngine
from critical_tokens.models.inference import Host

FAMILIES = {
    **{name: (*made, sys.maxsize) for name, made in SHARED.items()},
    **{name: (*made, 0) for name, made in PLAIN.items()},
    **LONG,
}
NEW = 12


def prefixes(lengths):
    rng = random.Random(1)
    return [tuple(rng.randrange(3, 100) for _ in range(length)) for length in lengths]


def generated(model, prefix):
    """Greedy tokens by transformers' own decoding, without EOS."""
    ids = torch.tensor([prefix])
    settings = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": EOS, "pad_token_id": 0}
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)[0, len(prefix) :].tolist()
    return tuple(out[: out.index(EOS)] if EOS in out else out)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_generate_and_of_the_request_alone(family):
    name, settings, reach = FAMILIES[family]
    model = random_model(name, settings)
    asked = prefixes((3, 9, 24, 24, 38, 60))
    engine = TransformersEngine(model, EOS, 4000)
    greedy = engine.generate([Request(p, 1, 0, NEW) for p in asked], GREEDY)
    assert [answers[0].token_ids for answers in greedy] == [generated(model, p) for p in asked]
    assert (
        len({token for answers in greedy for token in answers[0].token_ids}) > 2
    )  # the model does not only repeat itself
    drawn = [Request(p, 2, i, NEW) for i, p in enumerate(asked)]
    together = engine.generate(drawn, Nucleus(1.0, 0.9))
    assert [engine.generate([request], Nucleus(1.0, 0.9))[0] for request in drawn[::-1]] == together[::-1]
    assert shared_reach(Host(model))[0] == reach


def test_long_sequences_leave_the_shared_cache_and_short_ones_stay(monkeypatch, capsys):
    name, settings, reach = LONG["mistral, window 40"]
    model = random_model(name, settings)
    engine = TransformersEngine(model, EOS, 4000)
    sizes = []

    class Counting(architecture.Batch):
        def __init__(self, *given, **more):
            sizes.append([r.longest(engine.context) for r in given[3]])
            super().__init__(*given, **more)

    monkeypatch.setattr("critical_tokens.engines.transformers_engine.Batch", Counting)
    engine.generate([Request(p, 1, 0, NEW) for p in prefixes((reach - NEW + 1, 5, reach - NEW))], GREEDY)
    assert sizes == [[5 + NEW, reach]]
    engine.generate([Request(p, 1, 0, NEW) for p in prefixes((reach,))], GREEDY)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "MistralForCausalLM (mistral): sequences of more than 40 tokens are decoded by transformers' own generate, "
        "which is slower than continuous batching"
    ]


def test_a_window_that_the_config_hides_is_found_by_trying(monkeypatch):
    monkeypatch.setattr(architecture, "config_reach", lambda config: sys.maxsize)
    assert shared_reach(Host(random_model(*PLAIN["gemma 3"])))[0] == 0


# --- plain decoding against continuous batching


@pytest.fixture
def plain(tiny_model, monkeypatch):
    """A function that makes engines of the tiny model that only use plain decoding."""
    monkeypatch.setattr(architecture, "shared_reach", lambda host: (0, 100))
    return lambda *bounds: TransformersEngine(tiny_model, EOS, *bounds)


def asked(n=12):
    rng = random.Random(0)
    lengths = [rng.choice((1, 4, 4, 9, 30)) for _ in range(n)]
    return [Request(p, rng.randint(1, 5), i, rng.randint(1, 30)) for i, p in enumerate(prefixes(lengths))]


class Third:
    """A stop that ends an answer at its third token if that is even, and keeps one token."""

    closers = frozenset(range(0, 100, 2))

    def kept(self, before, new):
        return 1 if len(new) == 3 else None


@pytest.mark.parametrize("distribution", [GREEDY, Nucleus(0.7, 0.95)])
@pytest.mark.parametrize("bounds", [(50_000,), (64,), (50_000, Third())])
def test_both_ways_give_the_same_answers(tiny_model, plain, distribution, bounds):
    requests, told = asked(), []
    found = plain(*bounds).generate(requests, distribution, told.append)
    assert told == sorted(told)
    assert told[-1] == sum(r.n for r in requests)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architecture, "shared_reach", lambda host: (sys.maxsize, 100))
        expected = TransformersEngine(tiny_model, EOS, *bounds).generate(requests, distribution)
    assert found == expected


def test_the_plain_way_counts_its_tokens_and_weighs_equal_samples(plain):
    engine = plain()
    requests = [replace(r, n=r.n + 0.5) for r in asked()]
    results = engine.generate(requests, Nucleus(), weighted=True)
    for request, completions in zip(requests, results, strict=True):
        assert sum(c.weight for c in completions) == pytest.approx(request.n)
    assert engine.tokens_generated == sum(len(c.token_ids) + c.finished for answers in results for c in answers)


def test_a_generation_config_does_not_change_the_distribution(tiny_model, plain, monkeypatch):
    engine, requests = plain(), asked()
    expected = engine.generate(requests, GREEDY)
    stated = type(tiny_model.generation_config)(repetition_penalty=9.0, forced_eos_token_id=7, max_length=2)
    monkeypatch.setattr(tiny_model, "generation_config", stated)
    assert engine.generate(requests, GREEDY) == expected
    assert tiny_model.generation_config is stated


# --- refused models


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (("BertConfig", architectures._NAMED), r"BertLMHeadModel \(bert\) is not a causal .* depends on later tokens"),
        (
            ("XLNetConfig", {"vocab_size": 100, "d_model": 32, "n_layer": 1, "n_head": 4}),
            r"XLNetLMHeadModel \(xlnet\) is not",
        ),
        (
            ("RwkvConfig", {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 128}),
            r"RwkvForCausalLM \(rwkv\) cannot be decoded .* other logits than in one pass; take another model",
        ),
    ],
)
def test_models_that_cannot_be_decoded_are_refused_by_name(made, told):
    with pytest.raises(Failure, match=told):
        TransformersEngine(random_model(*made), EOS)


def test_encoders_with_decoders_are_refused():
    model = T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    with pytest.raises(Failure, match=r"T5ForConditionalGeneration \(t5\) is not a causal language model"):
        TransformersEngine(model, EOS)


def test_weights_that_are_no_numbers_are_refused():
    model = random_model(*SHARED["llama"])
    model.model.norm.weight.data[3] = torch.nan
    with pytest.raises(Failure, match=r"LlamaForCausalLM \(llama\) gives logits that are not numbers"):
        TransformersEngine(model, EOS)


@pytest.mark.parametrize("family", ["llama", "qwen3, experts"])
def test_rounding_of_half_precision_is_no_difference(family):
    assert shared_reach(Host(random_model(*SHARED[family]).bfloat16())) == (sys.maxsize, 100)


@pytest.mark.parametrize("family", ["gemma 3", "bloom", "mamba"])
def test_half_precision_hides_no_difference(family):
    assert shared_reach(Host(random_model(*PLAIN[family]).bfloat16())) == (0, 100)


# --- lengths

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "rope_theta": 1e4,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}


@pytest.mark.parametrize(
    ("name", "settings", "reach"),
    [
        ("LlamaConfig", {}, sys.maxsize),
        ("LlamaConfig", {"rope_parameters": LLAMA3}, sys.maxsize),
        ("Qwen2Config", {}, sys.maxsize),
        ("Qwen2MoeConfig", {}, sys.maxsize),
        ("MistralConfig", {}, 4096),
        ("MistralConfig", {"sliding_window": None}, sys.maxsize),
        ("Gemma3Config", {}, 4096),
        ("GptOssConfig", {}, 128),
        ("Llama4TextConfig", {}, 8192),
        ("ModernBertDecoderConfig", {"local_attention": 128}, 64),
    ],
)
def test_the_config_says_up_to_which_length_the_shared_cache_is_right(name, settings, reach):
    assert config_reach(config_of(name, settings)) == reach


@pytest.mark.parametrize(
    ("family", "context"),
    [("gpt-2", 128), ("mpt", 128), ("gemma 3 with images", 128), ("bloom", sys.maxsize), ("mamba", sys.maxsize)],
)
def test_the_context_is_found_under_its_other_names(family, context):
    assert TransformersEngine(random_model(*FAMILIES[family][:2]), EOS).context == context


def test_a_padding_row_of_the_positions_is_no_position():
    model = random_model("RobertaConfig", architectures._NAMED | {"is_decoder": True, "pad_token_id": 1})
    assert Host(model).context == 126
