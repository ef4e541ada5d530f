"""Where an answer ends that does not end with EOS: a base model goes on with another question, as its few-shot prompt does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from critical_tokens.prompts import decode, token_ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Tokens that are looked back at: more than any stop text has.
_TAIL = 16


class Stop:
    """The end of an answer at `text`, a line break and a word with a colon, e.g. "\\nQuestion:"."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text: str) -> None:
        self.text = text
        self._tokenizer = tokenizer
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        # Only these can complete the text, and few answers have many of them.
        self.closers = frozenset(i for i, name in enumerate(names) if text[-1] in name)

    def kept(self, before: Sequence[int], new: Sequence[int]) -> int | None:
        """How many of the `new` tokens behind `before` belong to the answer, if the last one completes the text; else None.

        The line break stays, so that whole tokens are kept where it is one with the full stop in front of it.
        """
        tail = [*before[-_TAIL:], *new][-_TAIL:]
        ends = token_ends(self._tokenizer, tail)
        place = decode(self._tokenizer, tail).rfind(self.text)
        if place < 0 or place + len(self.text) <= (ends[-2] if len(ends) > 1 else 0):
            return None  # not there, or there before the last token came
        behind = sum(end > place + 1 for end in ends)
        return max(0, len(new) - behind)

    def first(self, before: Sequence[int], new: Sequence[int]) -> int | None:
        """How many of the `new` tokens come before the first time that the text is completed; None where it never is."""
        for index, token in enumerate(new):
            if token in self.closers and (kept := self.kept(before, new[: index + 1])) is not None:
                return kept
        return None
