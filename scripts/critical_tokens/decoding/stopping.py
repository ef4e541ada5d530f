"""Where an answer ends: at an EOS token or at a stop text.

The stop text is needed because a base model continues with another question, as its prompt does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from critical_tokens.core.records import Failure
from critical_tokens.data.prompts import decode, token_ends

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# Number of last tokens in which a stop text is searched. No stop text has as many tokens.
_TAIL = 16
# A character has at most four bytes in UTF-8, and a token may be a single byte.
_BYTES = 4


class Stop:
    """The end of an answer at a text.

    text: a line break and a word with a colon, e.g. "\\nQuestion:". Its last character is ASCII.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text: str) -> None:
        self.text = text
        self._tokenizer = tokenizer
        # The tokens that can complete the text. The text is searched only after one of them, which
        # saves time, because they are rare. Some tokenizers name a token by its byte, and the ids
        # of a vocabulary may have gaps.
        byte = f"<0x{ord(text[-1]):02X}>"
        self.closers = frozenset(i for name, i in tokenizer.get_vocab().items() if text[-1] in name or name == byte)

    def kept(self, before: Sequence[int], new: Sequence[int]) -> int | None:
        """Number of `new` tokens that belong to the answer if the last one completes the text.

        It is None if the last token does not complete the text. `before` are the tokens in front of
        the new ones. The line break counts as part of the answer, because one token may hold it
        together with the full stop in front of it.
        """
        tail = self._tail([*before[-_TAIL - _BYTES :], *new])
        ends = token_ends(self._tokenizer, tail)
        place = decode(self._tokenizer, tail).rfind(self.text)
        if place < 0 or place + len(self.text) <= (ends[-2] if len(ends) > 1 else 0):
            return None  # the text is missing, or an earlier token completes it
        behind = sum(end > place + 1 for end in ends)
        return max(0, len(new) - behind)

    def _tail(self, tokens: Sequence[int]) -> Sequence[int]:
        """The last tokens, beginning with a whole character.

        Some tokenizers cannot decode bytes that follow a broken character.
        """
        tails = [tokens[-length:] for length in range(_TAIL, _TAIL + _BYTES)]
        whole = (tail for tail in tails if not decode(self._tokenizer, tail).startswith("\ufffd"))
        return next(whole, tails[0])

    def first(self, before: Sequence[int], new: Sequence[int]) -> int | None:
        """Number of `new` tokens that belong to the answer; None if no token completes the text.

        See `kept`; here any of the new tokens may complete it.
        """
        for index, token in enumerate(new):
            if token in self.closers and (kept := self.kept(before, new[: index + 1])) is not None:
                return kept
        return None


def eos_set(eos: int | Collection[int] | None) -> frozenset[int]:
    """EOS ids as a set. Raises Failure if there are none: answers would run on to their limit."""
    ids = frozenset([eos] if isinstance(eos, int) else eos or ())
    if not ids or not all(isinstance(i, int) and i >= 0 for i in ids):
        raise Failure(f"the ids of the tokens that end an answer are {eos}, must be at least one token id")
    return ids


class Ends:
    """What ends an answer of a model.

    ids: the token ids that end it.
    stop: the text that ends it, or None.
    vocabulary: size of the vocabulary.
    ending: whether each token id is in `ids`, shape (vocabulary,).
    """

    def __init__(self, ids: frozenset[int], stop: Stop | None, vocabulary: int, device: torch.device) -> None:
        self.ids, self.stop, self.vocabulary = ids, stop, vocabulary
        self.ending = _marked(ids, vocabulary, device)
        self._closing = _marked(stop.closers if stop else (), vocabulary, device)

    def kept(self, before: Sequence[int], new: Sequence[int]) -> int | None:
        """Number of `new` tokens that belong to the answer if the last one ends it, else None."""
        if new[-1] in self.ids:
            return len(new) - 1
        return self.stop.kept(before, new) if self.stop and new[-1] in self.stop.closers else None

    def candidates(self, drawn: torch.Tensor) -> list[int]:
        """Indices of the drawn tokens that may complete the stop text."""
        return self._closing[drawn].nonzero().squeeze(-1).tolist() if self.stop else []


def _marked(ids: Collection[int], vocabulary: int, device: torch.device) -> torch.Tensor:
    """For each token id of the vocabulary, whether it is among `ids`."""
    import torch

    marked = torch.zeros(vocabulary, dtype=torch.bool, device=device)
    marked[torch.tensor(sorted(i for i in ids if i < vocabulary), dtype=torch.long, device=device)] = True
    return marked
