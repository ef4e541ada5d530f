"""How a question becomes token ids, for sampling, scoring, training and evaluation alike.

Prompt and answer are tokenised separately, so that their boundary is a token boundary. Programs
pass token ids, not text, to each other. A prompt starts with exactly one BOS if the tokenizer has
one; a complete answer ends with EOS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
BLANKS = ("answer", "prompt")
"""Whether the blank between "Answer:" and the answer belongs to the answer or to the prompt.

answer: The tokenizers of the paper's models (Llama 3, Qwen2.5) join a blank to the word after it.
    A prompt that ended with the blank would end in a token that these models hardly ever saw there.
    The released code also strips its prompts (sampling.py:79).
prompt: The pocket models were trained on prompts that end with the blank.
"""


class Shot(NamedTuple):
    """A worked example in front of a question."""

    question: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """How questions are asked.

    style: gsm8k or math.
    template: one of TEMPLATES.
    shots: the worked examples in front of a question.
    blank: one of BLANKS.
    """

    style: str
    template: str = "usual"
    shots: tuple[Shot, ...] = ()
    blank: str = "answer"

    def text(self, question: str) -> str:
        """The prompt of a question: the shots and the question, separated by blank lines.

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
    def stop(self) -> str:
        """The text that opens another question; an answer is over where it begins.

        After few-shot prompts, base models go on with another question.
        """
        return "\n" + self.form.split(":")[0] + ":"


def question_of(text: str, style: str) -> str | None:
    """The question of a zero-shot prompt in any template of a style; None for other texts."""
    for template in TEMPLATES.values():
        before, behind = template[style].split("{question}")
        # The prompts in the authors' files may lack the blank at the end.
        if text.startswith(before) and text.rstrip().endswith(behind.rstrip()):
            return text.rstrip()[len(before) :].removesuffix(behind.rstrip()).strip()
    return None


def encode_prompts(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], prompt: Prompt) -> list[list[int]]:
    """Token ids of the questions' prompts, each with one BOS first if the tokenizer has one."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [start + ids for ids in encode_texts(tokenizer, [prompt.text(question) for question in questions])]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, without special tokens."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def encode_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], prompt: Prompt) -> list[list[int]]:
    """Token ids of answers from other sources, as a model would write them after this prompt.

    They include the blank before the answer if it belongs to the answer. Some tokenizers add a
    blank of their own in front of every text. To avoid it, an answer is encoded together with the
    end of the prompt, unless this changes the tokens of the prompt.
    """
    anchor = prompt.form.split("{question}")[1].removesuffix(prompt.lead)
    before = encode_texts(tokenizer, [anchor])[0]
    texts = [prompt.lead + answer.strip() for answer in answers]
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
