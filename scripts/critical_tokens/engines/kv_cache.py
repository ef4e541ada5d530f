"""The key-value buffer of the transformers engine: rows aligned on the right, so that every row
writes the same column.
"""

from __future__ import annotations

import torch
from transformers.cache_utils import CacheLayerMixin, DynamicCache


class KVCache:
    """Keys and values of all layers and rows, and which of its columns and rows are in use."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.active = 0  # rows 0..active-1 are alive
        self.column = 0  # the next column to write
        self.first = 0  # the leftmost column that an alive row uses
        self.layers: list[_Layer] = []

    def move(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy rows `source` over rows `target`."""
        for layer in self.layers:
            for tensor in (layer.keys, layer.values):
                tensor[target, :, self.first : self.column] = tensor[source, :, self.first : self.column]

    def shift(self, to: int) -> None:
        """Move the used columns so that the next column to write is `to`."""
        width = self.column - self.first
        for layer in self.layers:
            for tensor in (layer.keys, layer.values):
                used = tensor[: self.active, :, self.first : self.column].clone()
                tensor[: self.active, :, to - width : to] = used
        self.first, self.column = to - width, to

    def admit(self, cache: DynamicCache, source: torch.Tensor, lengths: torch.Tensor, width: int) -> None:
        """Copy the first `lengths` (at most `width`) tokens of paths `source` to new rows, left of
        the next column.
        """
        rows = slice(self.active, self.active + len(source))
        columns = slice(self.column - width, self.column)
        tokens = (torch.arange(width, device=lengths.device) - (width - lengths[:, None])).clamp_min(0)
        for index, filled in enumerate(cache.layers):
            if index == len(self.layers):
                self.layers.append(_Layer(self, filled.keys, filled.values))
            layer = self.layers[index]
            layer.keys[rows, :, columns] = filled.keys[source[:, None], :, tokens].transpose(1, 2)
            layer.values[rows, :, columns] = filled.values[source[:, None], :, tokens].transpose(1, 2)
        self.active += len(source)
        self.first = min(self.first, self.column - width)


class _Layer(CacheLayerMixin):
    """One layer of the buffer, as the library's attention asks for it."""

    def __init__(self, buffer: KVCache, *like: torch.Tensor) -> None:
        super().__init__()
        self._buffer = buffer
        # Values may be of another width than keys (DeepSeek's latent attention).
        self.keys, self.values = (t.new_zeros((buffer.rows, t.shape[1], buffer.columns, t.shape[3])) for t in like)
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise RuntimeError("the buffer is made at prefill")

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object):
        b = self._buffer
        self.keys[: b.active, :, b.column] = key_states[:, :, 0]
        self.values[: b.active, :, b.column] = value_states[:, :, 0]
        used = slice(b.first, b.column + 1)
        return self.keys[: b.active, :, used], self.values[: b.active, :, used]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._buffer.column + 1 - self._buffer.first, 0

    def get_seq_length(self) -> int:
        return self._buffer.column - self._buffer.first

    def get_max_length(self) -> int:
        return self._buffer.columns
