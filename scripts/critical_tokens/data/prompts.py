"""How a question becomes token ids: the one place that decides it, for sampling, scoring, training
and evaluation alike.

Prompt and answer are tokenised apart, so that their boundary is a token boundary, and token ids,
not text, travel between the stages. A prompt starts with exactly one BOS where the tokenizer has
one; an answer ends with EOS where it is complete.
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
    # The released code's SFT and evaluation (train_sft.py:24-25, pipeline.py:301), and its few-shot
    # block (prompt.py:28-57).
    "usual": {"gsm8k": "Question: {question}\nAnswer: ", "math": "Problem: {question}\nSolution: "},
    # Its sampled answers and pairs (pipeline.py:154-158): another form for MATH.
    "startup": {"gsm8k": "Question: {question}\nAnswer: ", "math": "Problem:\n{question}\n\nSolution:\n"},
}
STYLES = tuple(TEMPLATES["usual"])
BLANKS = ("answer", "prompt")
"""Which side the blank between "Answer:" and the answer belongs to.

answer: The tokenizers of the paper's models (Llama 3, Qwen2.5) join a blank to the word behind it.
    A prompt that ended with the blank would end in a token that these models hardly ever saw there.
    The released code strips its prompts, too (sampling.py:79).
prompt: The pocket models were trained on prompts that end with the blank.
"""


class Shot(NamedTuple):
    """A worked example in front of a question."""

    question: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """How questions are asked: the style (gsm8k or math), one of TEMPLATES, the shots in front, and
    one of BLANKS.
    """

    style: str
    template: str = "usual"
    shots: tuple[Shot, ...] = ()
    blank: str = "answer"

    def text(self, question: str) -> str:
        """The prompt of a question: the shots and it, a blank line between them.

        Shots have the usual form before any question: so has the released code's block
        (prompt.py:28-57).
        """
        usual = TEMPLATES["usual"][self.style]
        worked = [usual.format(question=shot.question.strip()) + shot.answer.strip() for shot in self.shots]
        text = "\n\n".join([*worked, self.form.format(question=question.strip())])
        return text.removesuffix(self.lead)

    @property
    def form(self) -> str:
        """The template of a question, with the blank that parts it from the answer."""
        return TEMPLATES[self.template][self.style]

    @property
    def lead(self) -> str:
        """The blank that an answer begins with, where it belongs to the answer and the template has
        one.
        """
        return " " if self.blank == "answer" and self.form.endswith(" ") else ""

    @property
    def stop(self) -> str:
        """What opens another question: an answer that goes on with it is over. Base models do,
        after few-shot prompts.
        """
        return "\n" + self.form.split(":")[0] + ":"


def question_of(text: str, style: str) -> str | None:
    """The question of a zero-shot prompt in any template of a style; None for other texts."""
    for template in TEMPLATES.values():
        before, behind = template[style].split("{question}")
        # The released files may have lost the blank at the end.
        if text.startswith(before) and text.rstrip().endswith(behind.rstrip()):
            return text.rstrip()[len(before) :].removesuffix(behind.rstrip()).strip()
    return None


def encode_prompts(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], prompt: Prompt) -> list[list[int]]:
    """Token ids of the questions' prompts, one BOS first where the tokenizer has one."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [start + ids for ids in encode_texts(tokenizer, [prompt.text(question) for question in questions])]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts without any special token."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def encode_answers(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], prompt: Prompt) -> list[list[int]]:
    """Token ids of answers from elsewhere, as a model would write them behind this prompt.

    They include the blank in front of the answer where it belongs to the answer. Some tokenizers
    put a blank of their own in front of every text. So an answer is encoded together with the end
    of the prompt, unless that changes the tokens of the prompt.
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
    """Text of token ids, special tokens left out, spaces untouched."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def token_ends(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """ends[t]: how many characters of the whole text are complete with token t.

    A character of several tokens is complete with the last of them. Until then the text of the
    beginning ends with replacement characters, and some tokenizers put them in the place of all
    multi-byte characters in a row. So the characters count that a beginning has in common with the
    whole text, and later beginnings take none of them back.
    """
    whole, ends = decode(tokenizer, ids), []
    for t in range(len(ids)):
        text = decode(tokenizer, ids[: t + 1])
        same = takewhile(lambda pair: pair[0] == pair[1], zip(text, whole, strict=False))
        shared = len(text) if whole.startswith(text) else sum(1 for _ in same)
        ends.append(max(shared, ends[-1] if ends else 0))
    return ends


def prompts_by_problem(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], problems: Sequence[Row], prompt: Prompt
) -> dict[str, list[int]]:
    """Prompt token ids of the problems that rows refer to. Raises ArtifactError where one is not
    among the problems.
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
    """Answer token ids as they are trained on and scored: EOS at the end of a finished answer.

    Raises Failure where a finished answer needs an EOS and there is none.
    """
    if finished and eos_token_id is None:
        raise Failure(
            "the tokenizer has no EOS token, so a finished answer cannot end: set eos_token in tokenizer_config.json"
        )
    return [*ids, eos_token_id] if finished else list(ids)
