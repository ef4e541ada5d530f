"""Where answers end: EOS ids, characters of several tokens, stop texts, too long prompts."""

import json
from pathlib import Path

import made_tokenizers
import pytest
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from critical_tokens.core.records import Failure
from critical_tokens.data import prompts
from critical_tokens.data.prompts import Prompt
from critical_tokens.decoding.distributions import GREEDY
from critical_tokens.decoding.protocol import RequestError
from critical_tokens.decoding.stopping import Stop
from critical_tokens.engines.opening import EngineSettings
from critical_tokens.models.checkpoints import ModelSource, end_ids, load_tokenizer
from critical_tokens.rollouts import critical
from critical_tokens.rollouts.branching import Fork, GenerationSettings, Trajectory, branch
from critical_tokens.rollouts.sampler import Sampler

QUESTION = [{"problem_id": "a", "question": "What is 1+1?", "answer": "2"}]


@pytest.fixture
def written(tmp_path):
    """A function that writes a model with a tokenizer and returns its source.

    The model always predicts the same token.
    """

    def write(tokenizer, says, generation=None, vocabulary=None, **config):
        size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        vocabulary = vocabulary or len(tokenizer)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, max_position_embeddings=256, **size, **config))
        for parameter in model.parameters():
            parameter.data.zero_()
        model.model.embed_tokens.weight.data[:, 0] = 1
        model.model.norm.weight.data.fill_(1)
        model.lm_head.weight.data[says, 0] = 5
        if generation is not None:
            model.generation_config = GenerationConfig(eos_token_id=generation)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return ModelSource(str(tmp_path))

    return write


def sample(source, problems=QUESTION):
    return Sampler(source, [], Prompt("gsm8k"), EngineSettings(2000)).sample(problems, 1, GREEDY, 8, 0, "x")[0]


# --- EOS ids


@pytest.mark.parametrize(
    ("eos", "generation", "config", "found"),
    [
        ("<|end|>", None, {}, (0,)),  # The 2 of Llama's config.json, and of a copy of it, is an ordinary token here.
        ("<|end|>", [0, 1], {}, (0, 1)),
        ("<|end|>", 1, {}, (0, 1)),
        ("<|end|>", 5, {}, (0, 5)),  # The ids in a generation_config.json of its own are used.
        ("<|end|>", [0, 7_000_000], {}, (0,)),
        ("<|turn|>", 0, {}, (1, 0)),
        ("<|end|>", None, {"eos_token_id": [0, 1]}, (0, 1)),
        ("<|end|>", 0, {"eos_token_id": 1}, (0, 1)),
        ("<|end|>", None, {"eos_token_id": [0, 300]}, (0, 300)),
        (None, [1, 0], {}, (1, 0)),
        (None, None, {"eos_token_id": 1}, (1,)),
    ],
)
def test_all_ends_of_a_model_are_found(written, eos, generation, config, found):
    source = written(made_tokenizers.byte_level(eos=eos), 1, generation, **config)
    tokenizer = load_tokenizer(source)
    assert end_ids(source, tokenizer) == found
    assert tokenizer.eos_token_id == found[0]  # This id ends finished answers in training and scoring.
    row = sample(source)
    assert (row["token_ids"], row["finished"]) == (([], True) if 1 in found else ([1] * 8, False))


def test_ends_of_a_text_config_are_found(written):
    source = written(made_tokenizers.byte_level(), 1)
    path = Path(source.path, "config.json")
    config = json.loads(path.read_text())
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": config["vocab_size"], "eos_token_id": [1, 0], "model_type": "gemma3_text"}
    whole = {"model_type": "gemma3", "text_config": text, "vision_config": vision, "eos_token_id": None}
    path.write_text(json.dumps(whole))
    path.with_name("generation_config.json").unlink()
    assert end_ids(source, load_tokenizer(source)) == (0, 1)


def test_a_model_without_an_end_is_refused(written):
    source = written(made_tokenizers.byte_level(eos=None), 1)
    with pytest.raises(
        Failure, match=r"neither its tokenizer nor .* ends an answer; set eos_token in tokenizer_config.json"
    ):
        load_tokenizer(source)


def test_a_finished_answer_needs_an_end():
    assert prompts.with_eos([5, 6], True, 2) == [5, 6, 2]
    assert prompts.with_eos([5, 6], False, None) == [5, 6]
    with pytest.raises(Failure, match="the tokenizer has no EOS token"):
        prompts.with_eos([5, 6], True, None)


def test_a_branch_ends_at_any_end():
    class Engine:
        context = 100

        def generate(self, requests, *rest):
            assert not requests
            return []

    trajectory = Trajectory("t", (5,), (8, 9), lambda ids: True, 0)
    generation = GenerationSettings(GREEDY, 10, 2, frozenset([2, 3]))
    found = branch(Engine(), [trajectory], [Fork(0, 1, 2, 4, 0), Fork(0, 1, 3, 4, 0)], generation)
    assert [[c.answer for c in continuations] for continuations in found] == [[(8,)] * 4] * 2


# --- characters of several tokens


@pytest.fixture(scope="module", params=["byte_level", "byte_fallback"])
def tokenizer(request):
    return getattr(made_tokenizers, request.param)()


def encoded(tokenizer, text):
    return prompts.encode_texts(tokenizer, [text])[0]


@pytest.mark.parametrize("text", ["It is 5.", "So 6 😀😀😀\nQuestion: x", "答案是五。", "naïve “x” is 5", "😀"])
def test_a_token_ends_where_its_characters_are_complete(tokenizer, text):
    ids = encoded(tokenizer, text)
    ends = prompts.token_ends(tokenizer, ids)
    assert prompts.decode(tokenizer, ids) == text
    assert ends == sorted(ends)
    assert ends[-1] == len(text)
    for place, end in enumerate(ends):
        beginning = prompts.decode(tokenizer, ids[: place + 1])
        assert beginning.rstrip("\ufffd") == text[: len(beginning.rstrip("\ufffd"))]
        assert text[:end].startswith(beginning.rstrip("\ufffd"))
    # A character belongs to the token that completes it: decoding up to this token shows it.
    for place, character in enumerate(text):
        token = critical.token_at(place, ends)
        assert prompts.decode(tokenizer, ids[: token + 1])[place] == character
        assert prompts.decode(tokenizer, ids[:token])[place : place + 1] != character


def test_an_answer_that_breaks_off_within_a_character_has_ends(tokenizer):
    ids = encoded(tokenizer, "So 6 😀😀")[:-2]
    ends = prompts.token_ends(tokenizer, ids)
    assert ends == sorted(ends)
    assert ends[-1] == len(prompts.decode(tokenizer, ids))


@pytest.mark.parametrize("answer", ["So 6 😀😀😀", "答案是六。答案是六。", "It is “6”", "6"])
def test_a_stop_text_cuts_behind_the_last_character(tokenizer, answer):
    ids = encoded(tokenizer, answer + "\nQuestion: What now")
    kept = Stop(tokenizer, "\nQuestion:").first([], ids)
    assert prompts.decode(tokenizer, ids[:kept]) == answer + "\n"
    assert prompts.decode(tokenizer, ids[: kept + 1]) != answer + "\n"


def test_a_stop_text_of_bytes_is_found():
    """Two colons that complete the text: one that is a byte token, one within a longer token."""
    tokenizer = made_tokenizers.byte_fallback()
    ids = [*encoded(tokenizer, "6"), *encoded(tokenizer, "\nQuestion")[1:], tokenizer.convert_tokens_to_ids("<0x3A>")]
    kept = Stop(tokenizer, "\nQuestion:").first([], ids)
    assert prompts.decode(tokenizer, ids[:kept]) == "6\n"
    longer = made_tokenizers.byte_level()
    longer.add_tokens([":**"])
    ids = encoded(longer, "6\nQuestion:** a")
    assert longer.convert_tokens_to_ids(":**") in ids
    assert prompts.decode(longer, ids[: Stop(longer, "\nQuestion:").first([], ids)]) == "6\n"


def test_a_vocabulary_may_have_holes_and_be_longer_than_the_tokenizers(written):
    tokenizer = made_tokenizers.with_hole()
    last = max(tokenizer.get_vocab().values())
    assert tokenizer.convert_ids_to_tokens(last - 2) is None
    assert sample(written(tokenizer, last, vocabulary=last + 60))["token_ids"] == [last] * 8
    assert sample(written(tokenizer, last + 50, vocabulary=last + 60))["text"] == ""
    assert not sample(written(tokenizer, last - 2, vocabulary=last + 1))["finished"]


# --- prompts that are too long


def test_a_problem_beyond_the_context_is_refused_before_anything_runs(written, monkeypatch):
    sampler = Sampler(written(made_tokenizers.byte_level(), 5), [], Prompt("gsm8k"), EngineSettings(2000))
    monkeypatch.setattr(sampler.engine, "generate", lambda *given: pytest.fail("sampled"))
    long = {"problem_id": "train-7", "question": "What is 1+1? " * 400, "answer": "2"}
    with pytest.raises(
        RequestError,
        match=r"problem train-7: a prefix of \d{4} tokens fills the model's context of 256; leave the problem",
    ):
        sampler.sample([*QUESTION, long], 1, GREEDY, 8, 0, "x")
