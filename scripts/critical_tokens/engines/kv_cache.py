"""Keys and values: those of shared segments, computed when they are needed, and those of rows.

A row owns the keys and values of the tokens that it has drawn. All other tokens are in segments of
the prefix tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import torch

from critical_tokens.decoding.prefix_tree import Place, PrefixTree, Segment
from critical_tokens.engines.shared_attention import Level, levels_of, running
from critical_tokens.models.inference import Host

# Number of tokens, padding included, that one forward pass computes of new segments at most, unless
# a segment is longer. It bounds the memory that attention scores take.
_COMPUTED = 2048


def compute(host: Host, segments: Sequence[Segment], keep: int = 1) -> torch.Tensor:
    """Compute keys and values of segments; returns the last logits (segments, keep, vocabulary).

    The logits are those of the last forward pass, which is the only one if there is one segment.
    Parents are computed before their children, which are in the same list.
    """
    logits = torch.empty(0)
    for batch in _batches(segments):
        width = max(len(s.tokens) for s in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        for row, segment in zip(ids, batch, strict=True):
            row[: len(segment.tokens)] = torch.tensor(segment.tokens)
        starts = torch.tensor([s.start for s in batch])
        forward = _Filling(batch, width, host.device)
        with running(forward) as cache:
            logits = host.logits(
                keep,
                input_ids=ids.to(host.device),
                position_ids=(starts[:, None] + torch.arange(width)).to(host.device),
                past_key_values=cache,
                use_cache=True,
            )
        forward.deliver()
    return logits


def path_logits(host: Host, tree: PrefixTree, read: tuple[int, ...], keep: int) -> torch.Tensor:
    """Logits (keep, vocabulary) that follow the last `keep` tokens of a sequence.

    Keys and values of the sequence stay in the tree, so that branches of it find them.
    """
    before, whole = tree.insert([read[:-keep]])[0], tree.insert([read])[0]
    compute(host, tree.touch([before]))
    segment = whole.segment
    if segment is None or segment.computed or len(segment.tokens) != keep:
        segment = Segment(before.segment, before.used, read[-keep:])  # computed again for its logits
    tree.touch([whole])
    return compute(host, [segment], keep)[0]


def _batches(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Segments of one level and of similar lengths, as many as one forward pass computes."""
    for _, alike in groupby(sorted(segments, key=lambda s: (s.level, len(s.tokens))), key=lambda s: s.level):
        batch: list[Segment] = []
        for segment in alike:
            if batch and len(segment.tokens) * (len(batch) + 1) > _COMPUTED:
                yield batch
                batch = []
            batch.append(segment)
        yield batch


class _Filling:
    """A pass over the tokens of new segments of one level, see shared_attention.Pass."""

    def __init__(self, segments: Sequence[Segment], width: int, device: torch.device) -> None:
        self._segments = segments
        places = [Place(s.parent, s.offset) for s in segments]
        self.levels = levels_of(places, device)
        rows = torch.arange(len(segments), device=device)
        causal = torch.ones((width, width), dtype=torch.bool, device=device).triu(1)
        self.hidden = [*_for_tokens(level.arrange(rows) for level in self.levels), causal[None]]
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See shared_attention.Pass."""
        if layer != len(self._kept):
            raise NotImplementedError("layers that share keys and values")
        self._kept.append((keys, values))
        return keys, values

    def deliver(self) -> None:
        """Give each segment its keys and values: views of the batch, whose padding is small."""
        for row, segment in enumerate(self._segments):
            length = len(segment.tokens)
            segment.keys = [keys[row, :, :length] for keys, _ in self._kept]
            segment.values = [values[row, :, :length] for _, values in self._kept]


def _for_tokens(hidden: Iterable[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """Hidden columns of rows (rows, columns) in the form for all their new tokens."""
    return [None if columns is None else columns[:, None] for columns in hidden]


class RowCache:
    """A pass that decodes one token in every row, see shared_attention.Pass.

    rows, columns: the largest numbers of rows and of tokens that a row owns.
    active: the number of alive rows, which are the first ones.
    """

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        self.rows, self.columns, self.active = rows, columns, 0
        self.levels: Sequence[Level] = ()
        self.hidden: Sequence[torch.Tensor | None] = ()
        self._column = torch.zeros(0, dtype=torch.long, device=device)
        self._width = 0
        self._where: dict[int, torch.Tensor] = {}
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def arrange(self, places: torch.Tensor, column: torch.Tensor) -> None:
        """Prepare a step of the alive rows.

        places: the index of each row's place among those that the levels were made of.
        column: the number of tokens that each row owns so far.
        """
        self._column, self._width = column, int(column.max()) + 1
        own = torch.arange(self._width, device=column.device) > column[:, None]
        self.hidden = _for_tokens([*(level.arrange(places) for level in self.levels), own])
        self._where.clear()

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See shared_attention.Pass."""
        if layer == len(self._layers):
            # The width of values may differ from that of keys (DeepSeek's latent attention).
            like = (t.new_zeros((self.rows, t.shape[1], self.columns, t.shape[3])) for t in (keys, values))
            self._layers.append((next(like), next(like)))
        found = []
        for buffer, new in zip(self._layers[layer], (keys, values), strict=True):
            buffer.view(-1, buffer.shape[3]).index_copy_(0, self._written(buffer.shape[1]), new.flatten(0, 2))
            found.append(buffer[: self.active, :, : self._width])
        return found[0], found[1]

    def _written(self, heads: int) -> torch.Tensor:
        """Where each row and head writes in this step: the index of a column among all columns.

        One index for each is faster than an index of rows and columns with a slice of heads.
        """
        if heads not in self._where:
            head = torch.arange(heads, device=self._column.device)
            row = torch.arange(self.active, device=self._column.device)[:, None]
            self._where[heads] = ((row * heads + head) * self.columns + self._column[:, None]).flatten()
        return self._where[heads]

    def move(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy what rows `source` own over rows `target`."""
        for buffers in self._layers:
            for buffer in buffers:
                buffer[target, :, : self._width] = buffer[source, :, : self._width]
