"""The key-value cache of continuous batching.

Rows are aligned on the right, so that all rows write the same column.
"""

from __future__ import annotations

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache


class KVCache:
    """Keys and values of all layers and rows, and which of the columns and rows are in use.

    active: number of alive rows, which are the first ones.
    column: the next column to write.
    first: the leftmost column that an alive row uses.
    cache: the layers in the form that the model takes.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.active = self.column = self.first = 0
        self.cache = Cache(layers=[])
        self._layers: list[_Layer] = []

    def move(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy rows `source` over rows `target`."""
        for layer in self._layers:
            for tensor in (layer.keys, layer.values):
                tensor[target, :, self.first : self.column] = tensor[source, :, self.first : self.column]

    def shift(self, to: int) -> None:
        """Move the used columns so that the next column to write is `to`."""
        width = self.column - self.first
        for layer in self._layers:
            for tensor in (layer.keys, layer.values):
                used = tensor[: self.active, :, self.first : self.column].clone()
                tensor[: self.active, :, to - width : to] = used
        self.first, self.column = to - width, to

    def admit(self, cache: DynamicCache, source: torch.Tensor, lengths: torch.Tensor, width: int) -> None:
        """Add rows that end at the next column.

        A row gets the first `lengths` (at most `width`) tokens of the path `source` of `cache`.
        """
        rows = slice(self.active, self.active + len(source))
        columns = slice(self.column - width, self.column)
        tokens = (torch.arange(width, device=lengths.device) - (width - lengths[:, None])).clamp_min(0)
        for index, filled in enumerate(cache.layers):
            # `architecture` tries each model, and does not use this cache if a layer has no keys.
            assert isinstance(filled, CacheLayerMixin)  # noqa: S101
            keys, values = filled.keys, filled.values
            assert keys is not None and values is not None  # noqa: S101
            if index == len(self._layers):
                self._layers.append(_Layer(self, keys, values))
                self.cache.layers.append(self._layers[index])
            layer = self._layers[index]
            layer.keys[rows, :, columns] = keys[source[:, None], :, tokens].transpose(1, 2)
            layer.values[rows, :, columns] = values[source[:, None], :, tokens].transpose(1, 2)
        self.active += len(source)
        self.first = min(self.first, self.column - width)


class _Layer(CacheLayerMixin):
    """One layer of a KVCache, with the methods that transformers' attention calls."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, kv: KVCache, *like: torch.Tensor) -> None:
        super().__init__()
        self._kv = kv
        # The width of values may differ from that of keys (DeepSeek's latent attention).
        self.keys, self.values = (t.new_zeros((kv.rows, t.shape[1], kv.columns, t.shape[3])) for t in like)
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        raise RuntimeError("layers are made at prefill")

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kv = self._kv
        self.keys[: kv.active, :, kv.column] = key_states[:, :, 0]
        self.values[: kv.active, :, kv.column] = value_states[:, :, 0]
        used = slice(kv.first, kv.column + 1)
        return self.keys[: kv.active, :, used], self.values[: kv.active, :, used]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._kv.column + 1 - self._kv.first, 0

    def get_seq_length(self) -> int:
        return self._kv.column - self._kv.first

    def get_max_length(self) -> int:
        return self._kv.columns
