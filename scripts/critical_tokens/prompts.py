"""How a question becomes token ids: the one place that decides it, for sampling, scoring, training and evaluation alike.

Prompt and answer are tokenised apart, so that their boundary is a token boundary, and token ids, not text, travel between
the stages. A prompt starts with exactly one BOS where the tokenizer has one; an answer ends with EOS where it is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from critical_tokens.records import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Zero-shot prompts of the released code (pipeline.py:154-158 for GSM8K, pipeline.py:301 for MATH).
STYLES = {
    "gsm8k": "Question: {question}\nAnswer: ",
    "math": "Problem: {question}\nSolution: ",
}


def prompt_text(question: str, style: str) -> str:
    """The prompt of a question in a style of STYLES."""
    return STYLES[style].format(question=question.strip())


def encode_prompts(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], style: str) -> list[list[int]]:
    """Token ids of the questions' prompts, one BOS first where the tokenizer has one."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    texts = [prompt_text(question, style) for question in questions]
    return [start + ids for ids in encode_texts(tokenizer, texts)]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts without any special token."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Text of token ids, special tokens left out, spaces untouched."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def prompts_by_problem(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], problems: Sequence[Row], style: str
) -> dict[str, list[int]]:
    """Prompt token ids of the problems that rows refer to."""
    wanted = {r["problem_id"] for r in rows}
    asked = [p for p in problems if p["problem_id"] in wanted]
    encoded = encode_prompts(tokenizer, [p["question"] for p in asked], style)
    return {p["problem_id"]: ids for p, ids in zip(asked, encoded, strict=True)}


def with_eos(ids: Sequence[int], finished: bool, eos_token_id: int) -> list[int]:
    """Answer token ids as they are trained on and scored: EOS at the end of a finished answer."""
    return [*ids, eos_token_id] if finished else list(ids)
