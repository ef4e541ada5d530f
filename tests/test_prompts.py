"""Prompts: templates, shots, one BOS, and where an answer ends that goes on to another question."""

import json

import pytest
from branches import EOS

from critical_tokens.core.records import ArtifactError
from critical_tokens.data import prompts, shots
from critical_tokens.data.prompts import Prompt, Shot
from critical_tokens.decoding.distributions import GREEDY
from critical_tokens.decoding.protocol import Request
from critical_tokens.decoding.stopping import Stop
from critical_tokens.engines.transformers_engine import TransformersEngine


def test_a_prompt_is_its_shots_and_the_question():
    assert Prompt("gsm8k").text(" Why? ") == "Question: Why?\nAnswer:"
    assert Prompt("gsm8k", blank="prompt").text(" Why? ") == "Question: Why?\nAnswer: "
    assert Prompt("math", "startup").text("Why?") == "Problem:\nWhy?\n\nSolution:\n"
    few = Prompt("math", shots=(Shot("One?", "1."), Shot("Two?", "2.")))
    assert few.text("Three?") == (
        "Problem: One?\nSolution: 1.\n\nProblem: Two?\nSolution: 2.\n\nProblem: Three?\nSolution:"
    )
    mixed = Prompt("math", "startup", few.shots[:1])
    assert mixed.text("Three?") == "Problem: One?\nSolution: 1.\n\nProblem:\nThree?\n\nSolution:\n"


@pytest.mark.parametrize("template", prompts.TEMPLATES)
@pytest.mark.parametrize("style", prompts.STYLES)
def test_a_question_is_found_in_its_prompt(template, style):
    text = Prompt(style, template).text("What is $1 + 1$?\nAnswer briefly.")
    assert prompts.question_of(text, style) == "What is $1 + 1$?\nAnswer briefly."
    assert prompts.question_of(text.rstrip(), style) == "What is $1 + 1$?\nAnswer briefly."
    assert prompts.question_of("Q: " + text, style) is None


def test_ids_have_one_bos_and_shots_in_front(pocket_tokenizer):
    few = Prompt("gsm8k", shots=(Shot("Mia has 2 pens.", "The answer is 2."),))
    (zero,), (ids,) = (prompts.encode_prompts(pocket_tokenizer, ["Tom has 3 pens."], p) for p in (Prompt("gsm8k"), few))
    bos = pocket_tokenizer.bos_token_id
    assert (ids[0], ids.count(bos), zero.count(bos)) == (bos, 1, 1)
    assert ids[-len(zero) + 1 :] == zero[1:]
    assert pocket_tokenizer.decode(ids[1:]).startswith(
        "Question: Mia has 2 pens.\nAnswer: The answer is 2.\n\nQuestion: Tom"
    )


@pytest.fixture(scope="module", params=["byte-level", "metaspace"])
def word_tokenizer(request):
    """Tokenizers that join a blank to the word behind it, as Llama 3's and Qwen's do, and as Llama
    2's and Mistral's do.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    if request.param == "byte-level":
        made.pre_tokenizer, made.decoder = (pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel())
    else:
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    texts = [
        "Question: What is it?\nAnswer: There are 15 trees. The answer is 15.\n\nProblem: Why?\nSolution: Because. \n"
    ]
    made.train_from_iterator(
        texts * 9, trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )
    return PreTrainedTokenizerFast(tokenizer_object=made)


@pytest.mark.parametrize("template", prompts.TEMPLATES)
@pytest.mark.parametrize("style", prompts.STYLES)
def test_prompt_and_answer_have_the_tokens_of_the_whole(word_tokenizer, style, template):
    """A model goes on from the tokens that it saw, and an answer from elsewhere has the tokens that
    it would write.
    """
    prompt, answer = Prompt(style, template, (Shot("Why?", "Because."),)), "There are 15 trees."
    (ids,), (own,) = (
        prompts.encode_prompts(word_tokenizer, ["What is it?"], prompt),
        prompts.encode_answers(word_tokenizer, [answer], prompt),
    )
    text = prompt.text("What is it?")
    whole = prompts.encode_texts(word_tokenizer, [f"{text}{prompt.lead}{answer}"])[0]
    assert ids + own == whole
    assert not text.endswith(" ")
    assert prompts.decode(word_tokenizer, whole).endswith(answer)


def test_pocket_models_have_the_blank_in_the_prompt(pocket_tokenizer):
    prompt = Prompt("gsm8k", blank="prompt")
    (ids,), (own,) = (
        prompts.encode_prompts(pocket_tokenizer, ["Why?"], prompt),
        prompts.encode_answers(pocket_tokenizer, ["So"], prompt),
    )
    assert pocket_tokenizer.decode(ids[-1:]) == " "
    assert own == prompts.encode_texts(pocket_tokenizer, ["So"])[0]


# --- shots


def test_the_papers_shots_come_from_lm_eval():
    gsm8k, math = shots.from_task("gsm8k_cot"), shots.from_task("minerva_math")
    assert (len(gsm8k), len(math)) == (8, 4)
    # Both graders' extraction rests on these forms.
    assert all("he answer is " in shot.answer for shot in gsm8k)
    assert all("Final Answer:" in shot.answer for shot in math)
    assert not any(shot.answer in shot.question for shot in [*gsm8k, *math])


def test_shots_are_written_and_read(tmp_path):
    path = tmp_path / "shots.json"
    own = [Shot("a", "1"), Shot("b", "2")]
    shots.write(path, own, 2)
    assert shots.read(path) == tuple(own)
    with pytest.raises(shots.ShotsError, match="3 shots are asked for, there are 2"):
        shots.write(path, own, 3)
    path.write_text(json.dumps({"question": "a"}))
    with pytest.raises(ArtifactError, match="no list of worked examples"):
        shots.read(path)


# --- the end of an answer


@pytest.fixture(scope="module")
def stop(pocket_tokenizer):
    return Stop(pocket_tokenizer, Prompt("gsm8k").stop)


def encode(tokenizer, text):
    return prompts.encode_texts(tokenizer, [text])[0]


def test_an_answer_ends_where_another_question_begins(pocket_tokenizer, stop):
    answer, rest = "The answer is 12.\n\n", "Question: Mia has 2 pens.\nQuestion: again"
    ids = encode(pocket_tokenizer, answer + rest)
    before = encode(pocket_tokenizer, Prompt("gsm8k").text("Tom has 3 pens."))
    kept = stop.first(before, ids)
    assert prompts.decode(pocket_tokenizer, ids[:kept]) == answer  # the line breaks stay, nothing of the question does
    assert stop.first(before, encode(pocket_tokenizer, "A Question: of 3: or 4.")) is None
    # Only the last token can complete it, and what the prompt holds is not of the answer.
    assert stop.kept(before, ids[: kept + 1]) is None
    assert stop.first([], encode(pocket_tokenizer, "12.")) is None
    shown = encode(pocket_tokenizer, "2.\n\nQuestion: Tom?\nAnswer: ")
    assert len(shown) < 14  # all of it, and the two that follow, is looked back at
    assert stop.first(shown, encode(pocket_tokenizer, "3:")) is None


def test_a_word_of_many_tokens_is_left_out_whole(pocket_tokenizer):
    ids = encode(pocket_tokenizer, "It is 12.\nZqxv: 3")
    kept = Stop(pocket_tokenizer, "\nZqxv:").first([], ids)
    assert prompts.decode(pocket_tokenizer, ids[:kept]) == "It is 12.\n"


def test_a_stop_may_begin_in_the_prefix(pocket_tokenizer, stop):
    ids = encode(pocket_tokenizer, "It is 12.\n\nQuestion: Mia")
    kept = stop.first([], ids)
    assert stop.first(ids[: kept + 1], ids[kept + 1 :]) == 0


def test_the_engine_stops_and_says_so(pocket_tokenizer, tiny_model):
    """A stop text that the model is bound to write: the answer is what came before, finished, and
    others stay as they are.
    """
    engine = TransformersEngine(tiny_model, EOS)
    asked = [Request((5, 6, 7), 1, 0, 24), Request((9, 8), 1, 0, 24)]
    free = [found[0] for found in engine.generate(asked, GREEDY)]

    class Fourth:
        """Ends an answer with its fourth token, if that is the first answer's."""

        closers = frozenset({free[0].token_ids[3]})

        def kept(self, before, new):
            return 2 if len(new) == 4 and tuple(before) == (5, 6, 7) else None

    stopped = [found[0] for found in TransformersEngine(tiny_model, EOS, stop=Fourth()).generate(asked, GREEDY)]
    assert (stopped[0].token_ids, stopped[0].finished) == (free[0].token_ids[:2], True)
    assert stopped[1] == free[1]
