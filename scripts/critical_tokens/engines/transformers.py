"""The transformers engine: continuous batching over any causal language model of the library, on CPU or GPU.

Rows are right-aligned in one key-value buffer, so that every row writes the same column at a step, whatever the length of
its prefix. A prefix is the keys and values of all its tokens but the last, and that last token, which the row's first step
reads. So prefixes that continue one another, and branches that differ in one token from them, share one prefill: of the
longest, which the others are slices of. A finished row is overwritten by the last one at once, and waiting requests are let
in when a quarter of the rows is free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from critical_tokens.engines.protocol import Completion, Request, check
from critical_tokens.sampling import Distribution, stream_keys, uniforms

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Spare columns of the buffer: rows move to the left together when they are used up.
_SLACK = 64


class _Buffer:
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
            layer.keys[target] = layer.keys[source]
            layer.values[target] = layer.values[source]

    def shift(self, to: int) -> None:
        """Move the used columns so that the next column to write is `to`."""
        width = self.column - self.first
        for layer in self.layers:
            for tensor in (layer.keys, layer.values):
                used = tensor[: self.active, :, self.first : self.column].clone()
                tensor[: self.active, :, to - width : to] = used
        self.first, self.column = to - width, to

    def admit(self, cache: DynamicCache, source: torch.Tensor, lengths: torch.Tensor, width: int) -> None:
        """Copy the first `lengths` (at most `width`) tokens of paths `source` to new rows, left of the next column."""
        rows = slice(self.active, self.active + len(source))
        columns = slice(self.column - width, self.column)
        tokens = (torch.arange(width, device=lengths.device) - (width - lengths[:, None])).clamp_min(0)
        for index, filled in enumerate(cache.layers):
            if index == len(self.layers):
                self.layers.append(_Layer(self, filled.keys))
            layer = self.layers[index]
            layer.keys[rows, :, columns] = filled.keys[source[:, None], :, tokens].transpose(1, 2)
            layer.values[rows, :, columns] = filled.values[source[:, None], :, tokens].transpose(1, 2)
        self.active += len(source)
        self.first = min(self.first, self.column - width)


class _Layer(CacheLayerMixin):
    """One layer of the buffer, as the library's attention asks for it."""

    def __init__(self, buffer: _Buffer, like: torch.Tensor) -> None:
        super().__init__()
        self._buffer = buffer
        _, heads, _, size = like.shape
        self.keys = like.new_zeros((buffer.rows, heads, buffer.columns, size))
        self.values = torch.zeros_like(self.keys)
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


class TransformersEngine:
    """Batched sampling with a transformers model. `max_tokens` bounds the key-value buffer, in tokens over all rows."""

    def __init__(self, model: PreTrainedModel, eos_token_id: int, max_tokens: int = 24_576) -> None:
        self._model = model.eval()
        self._eos = eos_token_id
        self._max_tokens = max_tokens
        self.context: int = model.config.max_position_embeddings
        self.device = str(model.device)
        self.tokens_generated = 0

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        distribution: Distribution,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        """See engines.protocol.Engine."""
        check(requests, self.context)
        if not requests:
            return []
        batch = _Batch(self._model, self._eos, self._max_tokens, self.context, requests, distribution)
        done = 0
        while batch.work_left():
            batch.admit()
            batch.step()
            if on_progress is not None and batch.done != done:
                done = batch.done
                on_progress(done)
        self.tokens_generated += batch.tokens
        return batch.results

    @torch.inference_mode()
    def path_logits(self, prompt: Sequence[int], path: Sequence[int]) -> torch.Tensor:
        """See engines.protocol.Engine."""
        ids = torch.tensor([[*prompt, *path[:-1]]], device=self._model.device)
        return self._model(input_ids=ids, logits_to_keep=len(path)).logits[0].float()


class _Batch:
    """One call of `generate`: the waiting requests, the alive rows and the finished completions."""

    def __init__(
        self,
        model: PreTrainedModel,
        eos: int,
        max_tokens: int,
        context: int,
        requests: Sequence[Request],
        distribution: Distribution,
    ) -> None:
        self._model, self._eos, self._context, self._distribution = model, eos, context, distribution
        self._requests = requests
        self._device = model.device
        longest = max(min(len(r.prefix) + r.max_new_tokens, context) for r in requests)
        total = sum(r.n for r in requests)
        rows = min(total, max(1, max_tokens // (longest + _SLACK)))
        self._buffer = _Buffer(rows, longest + _SLACK)
        self._cache = Cache(layers=self._buffer.layers)
        order: Sequence[int] = range(len(requests))
        if len(_cover([r.prefix[:-1] for r in requests])[0]) == len(requests):
            # Nothing is shared that neighbours would share: rows of like length waste fewer columns.
            order = sorted(order, key=lambda i: -len(requests[i].prefix))
        # (request, first sample, number of samples): requests with more samples than rows come in parts.
        self._waiting = deque((i, s, min(rows, requests[i].n - s)) for i in order for s in range(0, requests[i].n, rows))
        self.results: list[list[Completion]] = [[Completion((), False)] * r.n for r in requests]
        self.done = self.tokens = 0

        def column(dtype: torch.dtype = torch.long) -> torch.Tensor:
            return torch.zeros(rows, dtype=dtype, device=self._device)

        self._request, self._sample, self._key = column(), column(), column()
        self._token, self._step, self._position, self._start = column(), column(), column(), column()
        self._limit = column()
        self._output = torch.zeros((rows, max(r.max_new_tokens for r in requests)), dtype=torch.int32, device=self._device)
        self._state = (
            self._request, self._sample, self._key, self._token, self._step, self._position, self._start, self._limit,
            self._output,
        )  # fmt: skip

    def work_left(self) -> bool:
        return bool(self._waiting) or self._buffer.active > 0

    def admit(self) -> None:
        """Prefill waiting requests into free rows, once enough rows are free to be worth it."""
        b = self._buffer
        free = b.rows - b.active
        if not self._waiting or (b.active and free < b.rows / 4):
            return
        parts = []
        while self._waiting and self._waiting[0][2] <= free:
            parts.append(self._waiting.popleft())
            free -= parts[-1][2]
        if parts:
            self._prefill(parts)

    def _prefill(self, parts: list[tuple[int, int, int]]) -> None:
        b = self._buffer
        paths, source, lengths = _cover([self._requests[i].prefix[:-1] for i, _, _ in parts])
        ids = torch.zeros((len(paths), max(1, *map(len, paths))), dtype=torch.long)
        for row, path in enumerate(paths):
            ids[row, : len(path)] = torch.tensor(path)
        cache = DynamicCache()
        self._model(input_ids=ids.to(self._device), past_key_values=cache, use_cache=True, logits_to_keep=1)
        width = max(lengths)
        if not b.active:
            b.first = b.column = width
        elif b.column < width:
            self._shift(width)
        rows = slice(b.active, b.active + sum(n for _, _, n in parts))
        repeats = torch.tensor([n for _, _, n in parts])

        def by_row(values: list[int]) -> torch.Tensor:
            return torch.tensor(values).repeat_interleave(repeats).to(self._device)

        asked = [self._requests[i] for i, _, _ in parts]
        self._request[rows] = by_row([i for i, _, _ in parts])
        self._sample[rows] = torch.tensor([s + k for _, s, n in parts for k in range(n)], device=self._device)
        self._key[rows] = stream_keys(by_row([r.seed for r in asked]), self._sample[rows])
        self._token[rows] = by_row([r.prefix[-1] for r in asked])
        self._position[rows] = by_row(lengths)
        self._start[rows] = b.column - self._position[rows]
        self._limit[rows] = by_row([min(r.max_new_tokens, self._context - len(r.prefix)) for r in asked])
        self._step[rows] = 0
        b.admit(cache, by_row(source), self._position[rows], width)

    def step(self) -> None:
        """One token for every alive row."""
        b = self._buffer
        if not b.active:
            return
        if b.column == b.columns:
            self._shift(b.column - b.first)
        alive = slice(0, b.active)
        columns = torch.arange(b.first, b.column + 1, device=self._device)
        # Added to the attention's scores; a mask of booleans would be turned into this once more in every layer.
        mask = torch.zeros((b.active, len(columns)), dtype=self._model.dtype, device=self._device)
        mask = mask.masked_fill_(columns < self._start[alive, None], -torch.inf)[:, None, None]
        logits = self._model(
            input_ids=self._token[alive, None],
            attention_mask=mask,
            position_ids=self._position[alive, None],
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]
        b.column += 1
        self._position[alive] += 1
        self._take(logits)

    def _shift(self, to: int) -> None:
        self._start[: self._buffer.active] += to - self._buffer.column
        self._buffer.shift(to)

    def _take(self, logits: torch.Tensor) -> None:
        """Draw the next token of every alive row, and let go of the rows that it finishes."""
        alive = slice(0, self._buffer.active)
        drawn = self._distribution.sample(logits, uniforms(self._key[alive], self._step[alive]))
        self._token[alive] = drawn
        self._output[torch.arange(len(drawn), device=self._device), self._step[alive]] = drawn.int()
        self._step[alive] += 1
        self.tokens += len(drawn)
        ended = drawn == self._eos
        leaving = (ended | (self._step[alive] >= self._limit[alive])).nonzero().squeeze(-1)
        if len(leaving):
            self._finish(leaving.tolist(), ended[leaving].tolist())

    def _finish(self, leaving: list[int], ended: list[bool]) -> None:
        index = torch.tensor(leaving, device=self._device)
        requests, samples = self._request[index].tolist(), self._sample[index].tolist()
        steps, outputs = self._step[index].tolist(), self._output[index].tolist()
        for request, sample, steps_taken, output, by_eos in zip(requests, samples, steps, outputs, ended, strict=True):
            ids = tuple(output[: steps_taken - 1 if by_eos else steps_taken])
            self.results[request][sample] = Completion(ids, by_eos)
        self.done += len(leaving)

        b = self._buffer
        left = b.active - len(leaving)
        gone = set(leaving)
        target = [row for row in leaving if row < left]
        source = [row for row in range(left, b.active) if row not in gone]
        b.active = left
        if target:
            to, of = torch.tensor(target, device=self._device), torch.tensor(source, device=self._device)
            b.move(to, of)
            for tensor in self._state:
                tensor[to] = tensor[of]
        if left:
            b.first = int(self._start[:left].min())


def _cover(prefixes: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[int], list[int]]:
    """The fewest of the prefixes that all others are slices of, which of them covers each prefix, and every length."""
    order = sorted(range(len(prefixes)), key=lambda i: prefixes[i], reverse=True)
    paths: list[tuple[int, ...]] = []
    source = [0] * len(prefixes)
    # In this order a prefix comes right behind the last of those that continue it.
    for i in order:
        if not paths or paths[-1][: len(prefixes[i])] != prefixes[i]:
            paths.append(prefixes[i])
        source[i] = len(paths) - 1
    return paths, source, [len(p) for p in prefixes]
