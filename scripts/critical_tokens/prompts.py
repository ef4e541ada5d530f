"""How a question becomes token ids: the one place that decides it, for sampling, scoring, training and evaluation alike.

Prompt and answer are tokenised apart, so that their boundary is a token boundary, and token ids, not text, travel between
the stages. A prompt starts with exactly one BOS where the tokenizer has one; an answer ends with EOS where it is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from critical_tokens.records import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = {
    # The released code's SFT and evaluation (train_sft.py:24-25, pipeline.py:301), and its few-shot block (prompt.py:28-57).
    "usual": {"gsm8k": "Question: {question}\nAnswer: ", "math": "Problem: {question}\nSolution: "},
    # Its sampled answers and pairs (pipeline.py:154-158): another form for MATH.
    "startup": {"gsm8k": "Question: {question}\nAnswer: ", "math": "Problem:\n{question}\n\nSolution:\n"},
}
STYLES = tuple(TEMPLATES["usual"])


class Shot(NamedTuple):
    """A worked example in front of a question."""

    question: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """How questions are asked: the style (gsm8k or math), one of TEMPLATES, and the shots in front."""

    style: str
    template: str = "usual"
    shots: tuple[Shot, ...] = ()

    def text(self, question: str) -> str:
        """The prompt of a question: the shots and it, a blank line between them.

        Shots have the usual form before any question: so has the released code's block (prompt.py:28-57).
        """
        usual, form = TEMPLATES["usual"][self.style], TEMPLATES[self.template][self.style]
        worked = [usual.format(question=shot.question.strip()) + shot.answer.strip() for shot in self.shots]
        return "\n\n".join([*worked, form.format(question=question.strip())])

    @property
    def stop(self) -> str:
        """What opens another question: an answer that goes on with it is over. Base models do, after few-shot prompts."""
        return "\n" + TEMPLATES[self.template][self.style].split(":")[0] + ":"


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


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Text of token ids, special tokens left out, spaces untouched."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def token_ends(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[int]:
    """ends[t]: length of the text of the tokens up to and including t."""
    return [len(decode(tokenizer, ids[: t + 1])) for t in range(len(ids))]


def prompts_by_problem(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], problems: Sequence[Row], prompt: Prompt
) -> dict[str, list[int]]:
    """Prompt token ids of the problems that rows refer to."""
    wanted = {r["problem_id"] for r in rows}
    asked = [p for p in problems if p["problem_id"] in wanted]
    encoded = encode_prompts(tokenizer, [p["question"] for p in asked], prompt)
    return {p["problem_id"]: ids for p, ids in zip(asked, encoded, strict=True)}


def with_eos(ids: Sequence[int], finished: bool, eos_token_id: int) -> list[int]:
    """Answer token ids as they are trained on and scored: EOS at the end of a finished answer."""
    return [*ids, eos_token_id] if finished else list(ids)
