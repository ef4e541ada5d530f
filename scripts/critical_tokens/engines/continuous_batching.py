"""Continuous batching: all rows in one key-value cache, decoded together under one mask.

- Rows are aligned on the right, so that all rows write the same column in a step.
- Prefill computes keys and values of all tokens of a prefix except the last, which the first step
  of the row reads. So prefixes that continue one another, and branches that differ from them in
  their last token, share the prefill of the longest one.
- Samples of a request share a row as long as they have drawn the same tokens, so that common tokens
  are decoded once. Each sample draws from its own random stream.
- A weighted row stands for any number of samples, and splits if more than one token is selected.
- A finished row is overwritten by the last row at once. Waiting requests are added when a quarter
  of the rows is free.

`architecture` decides which models can be decoded in this way.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from transformers.cache_utils import DynamicCache

from critical_tokens.decoding.distributions import Distribution
from critical_tokens.decoding.protocol import Completion, Request
from critical_tokens.decoding.random_streams import stream_keys, uniforms
from critical_tokens.decoding.stopping import Ends
from critical_tokens.decoding.systematic import systematic_sample
from critical_tokens.engines.host import Host
from critical_tokens.engines.kv_cache import KVCache

# Number of rows that are kept free for the samples of a new request, which come to differ.
_SPREAD = 8
# Number of spare columns. When they are used up, all rows are moved to the left.
_SLACK = 64


class _Samples(NamedTuple):
    """Samples: their numbers in their requests, keys of their random streams, and weights."""

    number: torch.Tensor
    key: torch.Tensor
    weight: torch.Tensor

    def take(self, which: torch.Tensor) -> _Samples:
        return _Samples(*(tensor[which] for tensor in self))

    def join(self, others: Sequence[_Samples]) -> _Samples:
        """These samples followed by others, on the device of these."""
        return _Samples(
            *(torch.cat([t.to(self.number.device) for t in tensors]) for tensors in zip(self, *others, strict=True))
        )


class _Part(NamedTuple):
    """Samples of a request that have drawn the same tokens and wait for a row."""

    request: int
    samples: _Samples
    generated: tuple[int, ...]

    def most_rows(self) -> int:
        """The largest number of rows that these samples may need later."""
        return math.ceil(float(self.samples.weight.sum()))


def _whole(index: int, request: Request, weighted: bool) -> _Part:
    """All samples of a request, before anything is generated."""
    if weighted:
        number, weight = (torch.zeros(1, dtype=torch.long), torch.tensor([request.n], dtype=torch.float64))
    else:
        number = torch.arange(int(request.n))
        weight = torch.ones(len(number), dtype=torch.float64)
    key = stream_keys(torch.full_like(number, request.seed), number)
    return _Part(index, _Samples(number, key, weight), ())


class Batch:
    """One call of `generate`: waiting parts, alive rows, their samples, finished completions.

    A row stands for all samples of a request that have drawn the same tokens so far. If they draw
    different tokens, the row splits. Samples for which no row is free wait as a part of their own.
    """

    def __init__(
        self,
        host: Host,
        ends: Ends,
        max_tokens: int,
        requests: Sequence[Request],
        distribution: Distribution,
        weighted: bool,
    ) -> None:
        self._host, self._ends, self._context, self._distribution = (host, ends, host.context, distribution)
        self._requests, self._weighted = requests, weighted
        self._device = host.device
        longest = max(r.longest(self._context) for r in requests)
        rows = min(sum(math.ceil(r.n) for r in requests), max(1, max_tokens // (longest + _SLACK)))
        self._kv = KVCache(rows, longest + _SLACK)
        order: Sequence[int] = range(len(requests))
        if len(_cover([r.prefix[:-1] for r in requests])[0]) == len(requests):
            # No two requests share a prefill, so they need not be neighbours. If rows have similar
            # lengths, fewer columns are wasted.
            order = sorted(order, key=lambda i: -len(requests[i].prefix))
        self._waiting = deque(_whole(i, requests[i], weighted) for i in order if requests[i].n)
        self._results: list[list[tuple[int, Completion]]] = [[] for _ in requests]
        self._done = self.tokens = 0

        def column(length: int = rows) -> torch.Tensor:
            return torch.zeros(length, dtype=torch.long, device=self._device)

        # For each row: index of its request, pending token, number of drawn tokens, position of the
        # pending token, leftmost column, largest number of tokens, and the tokens.
        self._request, self._token, self._step, self._position = (column(), column(), column(), column())
        self._start, self._limit = column(), column()
        self._output = torch.zeros(
            (rows, max(r.max_new_tokens for r in requests)), dtype=torch.long, device=self._device
        )
        self._state = (
            self._request, self._token, self._step, self._position, self._start, self._limit, self._output,
        )  # fmt: skip
        self._row = column(0)  # the row of each alive sample
        self._samples = _Samples(column(0), column(0), column(0).double())

    def run(self, on_progress: Callable[[int], None] | None = None) -> list[list[Completion]]:
        """Completions of each request, in the order of its samples.

        on_progress: called with the number of completions that are done.
        """
        done = 0
        while self._work_left():
            self._admit()
            self._step_all()
            if on_progress is not None and self._done != done:
                done = self._done
                on_progress(done)
        return [[completion for _, completion in sorted(found)] for found in self._results]

    def _work_left(self) -> bool:
        return bool(self._waiting) or self._kv.active > 0

    def _admit(self) -> None:
        """Put waiting parts into free rows if enough rows are free to be worth a prefill."""
        kv = self._kv
        free = kv.rows - kv.active
        if not self._waiting or (kv.active and free < kv.rows / 4):
            return
        parts = []
        while self._waiting and (reserve := min(self._waiting[0].most_rows(), _SPREAD, kv.rows)) <= free:
            parts.append(self._waiting.popleft())
            free -= reserve
        if parts:
            self._prefill(parts)

    def _prefill(self, parts: list[_Part]) -> None:
        kv = self._kv
        asked = [self._requests[p.request] for p in parts]
        prefixes = [r.prefix + p.generated for r, p in zip(asked, parts, strict=True)]
        paths, source, lengths = _cover([p[:-1] for p in prefixes])
        ids = torch.zeros((len(paths), max(1, *map(len, paths))), dtype=torch.long)
        for row, path in enumerate(paths):
            ids[row, : len(path)] = torch.tensor(path)
        cache = DynamicCache()
        self._host.logits(1, input_ids=ids.to(self._device), past_key_values=cache, use_cache=True)
        width = max(lengths)
        if not kv.active:
            kv.first = kv.column = width
        elif kv.column < width:
            self._shift(width)

        def column(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, device=self._device)

        first, rows = kv.active, slice(kv.active, kv.active + len(parts))
        self._request[rows] = column([p.request for p in parts])
        self._token[rows] = column([p[-1] for p in prefixes])
        self._step[rows] = column([len(p.generated) for p in parts])
        self._position[rows] = column(lengths)
        self._start[rows] = kv.column - self._position[rows]
        self._limit[rows] = column([min(r.max_new_tokens, self._context - len(r.prefix)) for r in asked])
        for row, part in enumerate(parts, first):
            self._output[row, : len(part.generated)] = column(list(part.generated))
        kv.admit(cache, column(source), self._position[rows], width)

        repeats = column([len(p.samples.number) for p in parts])
        added = torch.arange(first, first + len(parts), device=self._device).repeat_interleave(repeats)
        self._row = torch.cat([self._row, added])
        self._samples = self._samples.join([p.samples for p in parts])

    def _step_all(self) -> None:
        """Decode one token in every alive row."""
        kv = self._kv
        if not kv.active:
            return
        if kv.column == kv.columns:
            self._shift(kv.column - kv.first)
        alive = slice(0, kv.active)
        columns = torch.arange(kv.first, kv.column + 1, device=self._device)
        # The mask is added to attention scores. Every layer would convert a boolean mask into this
        # form again.
        mask = torch.zeros((kv.active, len(columns)), dtype=self._host.dtype, device=self._device)
        mask = mask.masked_fill_(columns < self._start[alive, None], -torch.inf)[:, None, None]
        logits = self._host.logits(
            1,
            input_ids=self._token[alive, None],
            attention_mask=mask,
            position_ids=self._position[alive, None],
            past_key_values=kv.cache,
            use_cache=True,
        )[:, -1]
        kv.column += 1
        self._position[alive] += 1
        self.tokens += kv.active
        self._split(self._finish(self._divide(logits) if self._weighted else self._draw(logits)))

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        """Draw a token for every sample."""
        numbers = uniforms(self._samples.key, self._step[self._row])
        return self._distribution.sample(logits, numbers, self._row)

    def _divide(self, logits: torch.Tensor) -> torch.Tensor:
        """Divide the one weighted sample of each row among selected tokens; returns the tokens."""
        row, samples = self._row, self._samples
        expected = samples.weight.unsqueeze(-1) * self._distribution.probabilities(logits)[row]
        taken = systematic_sample(expected, uniforms(samples.key, self._step[row]))
        parent, tokens = taken.nonzero(as_tuple=True)
        key = stream_keys(samples.key[parent], tokens)
        self._row = row[parent]
        self._samples = _Samples(samples.number[parent], key, taken[parent, tokens])
        return tokens

    def _shift(self, to: int) -> None:
        self._start[: self._kv.active] += to - self._kv.column
        self._kv.shift(to)

    def _finish(self, drawn: torch.Tensor) -> torch.Tensor:
        """Complete the samples that end with their drawn tokens; returns the others' tokens."""
        leaving = self._ends.ending[drawn] | (self._step[self._row] + 1 >= self._limit[self._row])
        stopped = self._stopped(drawn)
        for place in stopped:
            leaving[place] = True
        if not bool(leaving.any()):
            return drawn
        rows = self._row[leaving]
        left = self._samples.take(leaving)
        places = leaving.nonzero().squeeze(-1)
        columns = (
            places, self._request[rows], left.number, left.weight, self._step[rows], self._output[rows], drawn[leaving],
        )  # fmt: skip
        for place, request, number, weight, step, output, token in zip(*(c.tolist() for c in columns), strict=True):
            kept = step if token in self._ends.ids else stopped.get(place)
            ids = [*output[:step], token][:kept]
            self._results[request].append((number, Completion(tuple(ids), kept is not None, weight)))
        self._done += len(rows)
        self._row, self._samples = self._row[~leaving], self._samples.take(~leaving)
        return drawn[~leaving]

    def _stopped(self, drawn: torch.Tensor) -> dict[int, int]:
        """The places of tokens that complete the stop text, and the kept lengths of the answers."""
        found = {}
        for place in self._ends.candidates(drawn):
            row = int(self._row[place])
            generated = [*self._output[row, : int(self._step[row])].tolist(), int(drawn[place])]
            kept = self._ends.kept(self._requests[int(self._request[row])].prefix, generated)
            if kept is not None:
                found[place] = kept
        return found

    def _split(self, drawn: torch.Tensor) -> None:
        """Give each group of samples with the same row and token its own row, and close gaps."""
        kv = self._kv
        size = self._ends.vocabulary
        groups, group = torch.unique(self._row * size + drawn, return_inverse=True)
        rows, tokens = groups // size, groups % size
        stays = torch.ones_like(rows, dtype=torch.bool)  # the first group of a row keeps it
        stays[1:] = rows[1:] != rows[:-1]
        empty = torch.ones(kv.rows, dtype=torch.bool, device=self._device)
        empty[rows] = False
        free = empty.nonzero().squeeze(-1)  # those within the alive rows come first
        moving = (~stays).nonzero().squeeze(-1)
        self._park(moving[len(free) :], rows, tokens, group)
        moving = moving[: len(free)]
        place = torch.where(stays, rows, -1)
        place[moving] = free[: len(moving)]
        if len(moving):
            self._copy(place[moving], rows[moving])
        seated = place >= 0
        self._output[place[seated], self._step[place[seated]]] = tokens[seated]
        self._token[place[seated]] = tokens[seated]
        self._step[place[seated]] += 1
        kept = seated[group]
        self._row, self._samples = place[group[kept]], self._samples.take(kept)
        self._close_gaps(place[seated])

    def _park(self, parked: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor, group: torch.Tensor) -> None:
        """Put groups for which no row is free to the front of the waiting parts."""
        for index in parked.tolist():
            row = int(rows[index])
            generated = (*self._output[row, : int(self._step[row])].tolist(), int(tokens[index]))
            self._waiting.appendleft(_Part(int(self._request[row]), self._samples.take(group == index), generated))

    def _copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self._kv.move(target, source)
        for tensor in self._state:
            tensor[target] = tensor[source]

    def _close_gaps(self, used: torch.Tensor) -> None:
        """Move the last rows into gaps, so that the alive rows are the first ones."""
        kv = self._kv
        kv.active = len(used)
        beyond = used[used >= kv.active]
        if len(beyond):
            empty = torch.ones(kv.active, dtype=torch.bool, device=self._device)
            empty[used[used < kv.active]] = False
            gaps = empty.nonzero().squeeze(-1)
            self._copy(gaps, beyond)
            moved = torch.arange(kv.rows, device=self._device)
            moved[beyond] = gaps
            self._row = moved[self._row]
        if kv.active:
            kv.first = int(self._start[: kv.active].min())


def _cover(prefixes: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[int], list[int]]:
    """The prefixes that no other continues, which of them covers each prefix, and all lengths."""
    order = sorted(range(len(prefixes)), key=lambda i: prefixes[i], reverse=True)
    paths: list[tuple[int, ...]] = []
    source = [0] * len(prefixes)
    # In this order a prefix directly follows the prefixes that continue it.
    for i in order:
        if not paths or paths[-1][: len(prefixes[i])] != prefixes[i]:
            paths.append(prefixes[i])
        source[i] = len(paths) - 1
    return paths, source, [len(p) for p in prefixes]
