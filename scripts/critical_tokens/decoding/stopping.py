"""Where an answer ends: at an EOS token, or at a text. A base model goes on with another question,
as its prompt does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from critical_tokens.core.records import Failure
from critical_tokens.data.prompts import decode, token_ends

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# Tokens that are looked back at: more than any stop text has.
_TAIL = 16
# A character has at most four bytes in UTF-8, and a token may hold one of them.
_BYTES = 4


class Stop:
    """The end of an answer at `text`, a line break and a word with a colon, e.g. "\\nQuestion:",
    the last character ASCII.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text: str) -> None:
        self.text = text
        self._tokenizer = tokenizer
        # Only these can complete the text, and few answers have many of them. A vocabulary may have
        # holes, and tokens that are named by their byte.
        byte = f"<0x{ord(text[-1]):02X}>"
        self.closers = frozenset(i for name, i in tokenizer.get_vocab().items() if text[-1] in name or name == byte)

    def kept(self, before: Sequence[int], new: Sequence[int]) -> int | None:
        """How many of the `new` tokens behind `before` belong to the answer, if the last one
        completes the text; else None.

        The line break stays, so that whole tokens are kept where it is one with the full stop in
        front of it.
        """
        tail = self._tail([*before[-_TAIL - _BYTES :], *new])
        ends = token_ends(self._tokenizer, tail)
        place = decode(self._tokenizer, tail).rfind(self.text)
        if place < 0 or place + len(self.text) <= (ends[-2] if len(ends) > 1 else 0):
            return None  # not there, or there before the last token came
        behind = sum(end > place + 1 for end in ends)
        return max(0, len(new) - behind)

    def _tail(self, tokens: Sequence[int]) -> Sequence[int]:
        """The last tokens, from the beginning of a character on: some tokenizers decode no byte
        behind a broken one.
        """
        tails = [tokens[-length:] for length in range(_TAIL, _TAIL + _BYTES)]
        whole = (tail for tail in tails if not decode(self._tokenizer, tail).startswith("\ufffd"))
        return next(whole, tails[0])

    def first(self, before: Sequence[int], new: Sequence[int]) -> int | None:
        """How many of the `new` tokens come before the first time that the text is completed; None
        where it never is.
        """
        for index, token in enumerate(new):
            if token in self.closers and (kept := self.kept(before, new[: index + 1])) is not None:
                return kept
        return None


def eos_set(eos: int | Collection[int] | None) -> frozenset[int]:
    """EOS ids as a set. Raises Failure where there is none: answers would run on to their limit."""
    ids = frozenset([eos] if isinstance(eos, int) else eos or ())
    if not ids or not all(isinstance(i, int) and i >= 0 for i in ids):
        raise Failure(f"the ids of the tokens that end an answer are {eos}, must be at least one token id")
    return ids


class Ends:
    """What ends an answer of a model: the token ids `ids` (of `vocabulary` in all), and `stop`
    unless it is None.
    """

    def __init__(self, ids: frozenset[int], stop: Stop | None, vocabulary: int, device: torch.device) -> None:
        self.ids, self.stop, self.vocabulary = ids, stop, vocabulary
        self.ending = _marked(ids, vocabulary, device)
        self._closing = _marked(stop.closers if stop else (), vocabulary, device)

    def kept(self, before: Sequence[int], new: Sequence[int]) -> int | None:
        """How many of the `new` tokens belong to the answer if the last one ends it; None if it
        goes on.
        """
        if new[-1] in self.ids:
            return len(new) - 1
        return self.stop.kept(before, new) if self.stop and new[-1] in self.stop.closers else None

    def candidates(self, drawn: torch.Tensor) -> list[int]:
        """Indices of the drawn tokens that may complete the stop text."""
        return self._closing[drawn].nonzero().squeeze(-1).tolist() if self.stop else []


def _marked(ids: Collection[int], vocabulary: int, device: torch.device) -> torch.Tensor:
    """A bool for each token id of the vocabulary."""
    import torch

    marked = torch.zeros(vocabulary, dtype=torch.bool, device=device)
    marked[torch.tensor(sorted(i for i in ids if i < vocabulary), dtype=torch.long, device=device)] = True
    return marked
