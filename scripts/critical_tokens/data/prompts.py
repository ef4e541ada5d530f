"""How a question becomes token ids, for sampling, scoring, training and evaluation alike.

Prompt and answer are tokenised separately, so that their boundary is a token boundary. Programs
pass token ids, not text, to each other. A prompt starts with exactly one BOS if the tokenizer has
one; a complete answer ends with EOS.

The text of a prompt is one of TEMPLATES, or a chat in the form of the model's own chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from critical_tokens.core.records import ArtifactError, Failure, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = {
    # For SFT and evaluation in the released code (train_sft.py:24-25, pipeline.py:301), and for its
    # few-shot block (prompt.py:28-57).
    "usual": {"gsm8k": "Question: {question}\nAnswer: ", "math": "Problem: {question}\nSolution: "},
    # For sampled answers and pairs in the released code (pipeline.py:154-158); MATH's differs.
    "startup": {"gsm8k": "Question: {question}\nAnswer: ", "math": "Problem:\n{question}\n\nSolution:\n"},
}
STYLES = tuple(TEMPLATES["usual"])
CHAT = "chat"
FORMS = (*TEMPLATES, CHAT)
"""What `template` may be: a text of TEMPLATES, or the chat template of the model's tokenizer."""
QUESTION = "{question}"
BLANKS = ("answer", "prompt")
"""Whether the blank between "Answer:" and the answer belongs to the answer or to the prompt.

answer: The tokenizers of the paper's models (Llama 3, Qwen2.5) join a blank to the word after it.
    A prompt that ended with the blank would end in a token that these models hardly ever saw there.
    The released code also strips its prompts (sampling.py:79).
prompt: The pocket models were trained on prompts that end with the blank.
"""


# Some chat templates (Llama 3.2's, for example) write the date. With today's date, the prompts of a
# stage would differ from those of a stage that runs a day later. This is the date that Llama 3.1's
# template has if it is given none.
_DATE = date(2024, 7, 26)
# A question and an answer that show what a chat template writes around an answer.
_ASKED, _ANSWERED = "What is 1 + 1?", "The-answer-is-2"


class Shot(NamedTuple):
    """A worked example in front of a question."""

    question: str
    answer: str


class Chat(NamedTuple):
    """What the messages of a chat say.

    message: the user's message, with {question} in the place of the question.
    system: the system message; None leaves it to the chat template, which may have one of its own.
    """

    message: str = QUESTION
    system: str | None = None


_CHAT = Chat()


class Turn(NamedTuple):
    """What a model writes around its answer.

    lead: the text between the prompt and the answer, such as a blank, or "".
    end: the token that ends the answer; None where this is the tokenizer's EOS.
    """

    lead: str
    end: int | None


@dataclass(frozen=True)
class Prompt:
    """How questions are asked.

    style: gsm8k or math.
    template: one of FORMS.
    shots: the worked examples in front of a question.
    blank: one of BLANKS; it has no effect in a chat.
    chat: what the messages of a chat say.
    """

    style: str
    template: str = "usual"
    shots: tuple[Shot, ...] = ()
    blank: str = "answer"
    chat: Chat = _CHAT

    def messages(self, question: str) -> list[dict[str, str]]:
        """The messages of a chat up to the question; shots are messages of user and assistant."""
        before, after = self.chat.message.split(QUESTION, 1)
        found = [] if self.chat.system is None else [{"role": "system", "content": self.chat.system}]
        for shot in self.shots:
            found.append({"role": "user", "content": before + shot.question.strip() + after})
            found.append({"role": "assistant", "content": shot.answer.strip()})
        return [*found, {"role": "user", "content": before + question.strip() + after}]

    def text(self, question: str) -> str:
        """The prompt of a question: the shots and the question, separated by blank lines.

        A chat has no such text, because its form depends on the tokenizer (see `text_of`).

        Shots always have the usual template, whichever template the question has. The few-shot
        block of the released code has it, too (prompt.py:28-57).
        """
        usual = TEMPLATES["usual"][self.style]
        worked = [usual.format(question=shot.question.strip()) + shot.answer.strip() for shot in self.shots]
        text = "\n\n".join([*worked, self.form.format(question=question.strip())])
        return text.removesuffix(self.lead)

    @property
    def form(self) -> str:
        """The template of a question, including the blank between it and the answer."""
        return TEMPLATES[self.template][self.style]

    @property
    def lead(self) -> str:
        """The blank with which an answer begins, or "".

        It is "" if the blank belongs to the prompt, or if the template ends with another character.
        """
        return " " if self.blank == "answer" and self.form.endswith(" ") else ""

    @property
    def stop(self) -> str | None:
        """The text that opens another question; an answer is over where it begins.

        After few-shot prompts, base models go on with another question. In a chat, a special token
        ends the answer, and an answer may have such a text, so there is no stop text.
        """
        return None if self.template == CHAT else "\n" + self.form.split(":")[0] + ":"


def question_of(text: str, style: str) -> str | None:
    """The question of a zero-shot prompt in any template of a style; None for other texts."""
    for template in TEMPLATES.values():
        before, behind = template[style].split(QUESTION)
        # The prompts in the authors' files may lack the blank at the end.
        if text.startswith(before) and text.rstrip().endswith(behind.rstrip()):
            return text.rstrip()[len(before) :].removesuffix(behind.rstrip()).strip()
    return None


def encode_prompts(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], prompt: Prompt) -> list[list[int]]:
    """Token ids of the questions' prompts, each with one BOS first if the tokenizer has one.

    Raises Failure where a chat is asked for and the tokenizer's chat template cannot write it.
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    encoded = encode_texts(tokenizer, [text_of(tokenizer, question, prompt) for question in questions])
    # Many chat templates write the BOS themselves.
    return [ids if start and ids[:1] == start else start + ids for ids in encoded]


def text_of(tokenizer: PreTrainedTokenizerBase, question: str, prompt: Prompt) -> str:
    """The text of a question's prompt; in a chat, up to where the assistant's answer begins.

    Raises Failure where the tokenizer's chat template cannot write the chat.
    """
    return _chat(tokenizer, prompt.messages(question)) if prompt.template == CHAT else prompt.text(question)


def turn_of(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> Turn:
    """What a model writes around its answer after this prompt.

    A chat template shows it in the messages of an assistant. There it may write a blank (Llama 2)
    or an empty thought (Qwen3) in front of the answer, and a special token behind it, which need
    not be the tokenizer's EOS (Gemma). If the template writes more than blanks in front, its end
    may be that of a part of the answer only, so the EOS counts. Raises Failure as `text_of` does.
    """
    if prompt.template != CHAT:
        return Turn(prompt.lead, None)
    asked = prompt.messages(_ASKED)
    before = _chat(tokenizer, asked)
    head, found, tail = _chat(tokenizer, [*asked, {"role": "assistant", "content": _ANSWERED}]).rpartition(_ANSWERED)
    lead = head[len(before) :] if found and head.startswith(before) else ""
    ids = encode_texts(tokenizer, [tail.lstrip()])[0][:1] if found and not lead.strip() else []
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return Turn(lead, next((i for i in ids if i in special), None))


def _chat(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    """The text of a chat in the tokenizer's chat template, up to where an answer begins or ends.

    A chat template is a Jinja program from the model's folder. transformers renders it in Jinja's
    ImmutableSandboxedEnvironment, which gives it neither attributes that lead out of the sandbox
    nor files, so it can run no other code.
    """
    where = f"the chat template of {tokenizer.name_or_path}"
    if not tokenizer.chat_template:
        what = "which prompts with template: chat need; name an instruct model, or set template: usual"
        raise Failure(f"the tokenizer of {tokenizer.name_or_path} has no chat template, {what}")
    try:
        text = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=messages[-1]["role"] == "user",
            strftime_now=_DATE.strftime,
        )
    except Exception as error:  # a program may raise any of them
        roles = ", ".join(dict.fromkeys(message["role"] for message in messages))
        remedy = "set chat: system to null if it takes no system message, or set template: usual"
        raise Failure(f"{where} cannot write messages of {roles} ({str(error)[:200]}); {remedy}") from error
    # str(): the declared type is also that of token ids, which tokenize=True returns.
    return str(text)


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, without special tokens."""
    # Not verbose: too long texts are refused later, by a message of ours.
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []


def encode_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], prompt: Prompt) -> list[list[int]]:
    """Token ids of answers from other sources, as a model would write them after this prompt.

    They include the text before the answer that the model itself writes (see `turn_of`). Some
    tokenizers add a blank of their own in front of every text. To avoid it, an answer is encoded
    together with the end of the prompt, unless this changes the tokens of the prompt.
    """
    lead = turn_of(tokenizer, prompt).lead
    question = prompt.messages(_ASKED)[-1]["content"] if prompt.template == CHAT else _ASKED
    anchor = text_of(tokenizer, _ASKED, replace(prompt, shots=())).rpartition(question)[2]
    before = encode_texts(tokenizer, [anchor])[0]
    texts = [lead + answer.strip() for answer in answers]
    joint = encode_texts(tokenizer, [anchor + text for text in texts])
    apart = encode_texts(tokenizer, texts)
    return [
        together[len(before) :] if together[: len(before)] == before else alone
        for together, alone in zip(joint, apart, strict=True)
    ]


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Text of token ids, without special tokens, and with all its spaces."""
    # str(): the declared type is also that of a batch, for which the tokenizer returns a list.
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def token_ends(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """The number of characters of the whole text that are complete after each token.

    A character of several tokens is complete after its last token. Before that, the decoded prefix
    ends with replacement characters, and some tokenizers put these in place of all adjacent
    multi-byte characters. So the number for a token counts the characters that the decoded prefix
    has in common with the whole text, and it never decreases from one token to the next.
    """
    whole = decode(tokenizer, ids)
    ends: list[int] = []
    for t in range(len(ids)):
        text = decode(tokenizer, ids[: t + 1])
        same = takewhile(lambda pair: pair[0] == pair[1], zip(text, whole, strict=False))
        shared = len(text) if whole.startswith(text) else sum(1 for _ in same)
        ends.append(max(shared, ends[-1] if ends else 0))
    return ends


def prompts_by_problem(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], problems: Sequence[Row], prompt: Prompt
) -> dict[str, list[int]]:
    """Prompt token ids, by problem id, of the problems that `rows` refer to.

    Raises ArtifactError where such a problem is not among `problems`.
    """
    wanted = {r["problem_id"] for r in rows}
    asked = [p for p in problems if p["problem_id"] in wanted]
    unknown = wanted - {p["problem_id"] for p in asked}
    if unknown:
        raise ArtifactError(
            f"problem {min(unknown)} is not among the problems ({len(unknown)} such): tables of different data"
        )
    encoded = encode_prompts(tokenizer, [p["question"] for p in asked], prompt)
    return {p["problem_id"]: ids for p, ids in zip(asked, encoded, strict=True)}


def with_eos(ids: Sequence[int], finished: bool, eos_token_id: int | None) -> list[int]:
    """Answer token ids for training and scoring: a finished answer ends with EOS.

    Raises Failure where a finished answer needs an EOS token and there is none.
    """
    if not finished:
        return list(ids)
    if eos_token_id is None:
        raise Failure(
            "the tokenizer has no EOS token, so a finished answer cannot end: set eos_token in tokenizer_config.json"
        )
    return [*ids, eos_token_id]
