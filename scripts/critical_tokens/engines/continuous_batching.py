"""Continuous batching: rows that share segments of their prefixes are decoded together.

- Keys and values of all tokens of a prefix except the last are in segments of the prefix tree, each
  computed once (`kv_cache`). The first step of a row reads the last token. So prefixes that
  continue one another, and branches that differ from them in their last token, share segments.
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

import torch

from critical_tokens.decoding.distributions import Distribution
from critical_tokens.decoding.prefix_tree import Place, PrefixTree
from critical_tokens.decoding.protocol import Completion, OnAnswers, Request
from critical_tokens.decoding.random_streams import stream_keys, uniforms
from critical_tokens.decoding.samples import Part, Samples, whole
from critical_tokens.decoding.stopping import Ends
from critical_tokens.decoding.systematic import systematic_sample
from critical_tokens.engines.kv_cache import RowCache, compute
from critical_tokens.engines.shared_attention import installed, levels_of, running
from critical_tokens.models.inference import Host

# Number of rows that are kept free for the samples of a new request, which come to differ.
_SPREAD = 8


class Batch:
    """One call of `generate`: waiting parts, alive rows, their samples, finished completions.

    A row stands for all samples of a request that have drawn the same tokens so far. If they draw
    different tokens, the row splits. Samples for which no row is free wait as a part of their own.

    max_tokens: bound of the tokens whose keys and values are held, shared tokens counted once.
    tree: the prefixes of earlier calls, which is extended by those of this call.
    """

    def __init__(
        self,
        host: Host,
        ends: Ends,
        max_tokens: int,
        requests: Sequence[Request],
        distribution: Distribution,
        weighted: bool,
        tree: PrefixTree | None = None,
    ) -> None:
        self._host, self._ends, self._context, self._distribution = (host, ends, host.context, distribution)
        self._requests, self._weighted, self._max_tokens = requests, weighted, max_tokens
        self._device = host.device
        self._tree = PrefixTree() if tree is None else tree
        # The last token of a prefix is the first one that a row owns, so branches that differ in it
        # share the tokens in front of it.
        self._places = self._tree.insert([r.prefix[:-1] for r in requests])
        self._limits = [min(r.max_new_tokens, self._context - len(r.prefix)) for r in requests]
        rows, columns = self._size()
        self._kv = RowCache(rows, columns, self._device)
        self._waiting = deque(whole(i, requests[i], weighted) for i in range(len(requests)) if requests[i].n)
        self._results: list[list[tuple[int, Completion]]] = [[] for _ in requests]
        # The samples of each request that are not finished.
        self._open = torch.tensor([1 if weighted else int(r.n) for r in requests], device=self._device)
        self._on_answers: OnAnswers | None = None
        self._done = self.tokens = 0

        def column(length: int = rows) -> torch.Tensor:
            return torch.zeros(length, dtype=torch.long, device=self._device)

        # The prefixes that the alive rows continue. For each row: the index of its prefix among
        # them, index of its request, pending token, number of drawn tokens, number of its tokens in
        # the cache, position of the pending token, largest number of tokens, and the tokens.
        self._alive: list[Place] = []
        self._place, self._request, self._token, self._step = (column(), column(), column(), column())
        self._owned, self._position, self._limit = column(), column(), column()
        self._output = torch.zeros((rows, columns), dtype=torch.long, device=self._device)
        self._state = (
            self._place, self._request, self._token, self._step, self._owned, self._position, self._limit, self._output,
        )  # fmt: skip
        self._row = column(0)  # the row of each alive sample
        self._samples = Samples(column(0), column(0), column(0).double())

    def _size(self) -> tuple[int, int]:
        """The number of rows that fit into the bound on tokens, at least one, and of columns.

        A row needs a column for every token that it may draw, and its part of the segments that are
        not common to all requests.
        """
        columns = max(self._limits)
        segments = {segment: used for place in self._places for segment, used in place.path()}
        tokens = sum(len(segment.tokens) for segment in segments)
        first = [len(segment.tokens) for segment in segments if segment.level == 0]
        common = first[0] if len(first) == 1 else 0
        samples = sum(math.ceil(r.n) for r in self._requests)
        each = columns + (tokens - common) / samples
        return min(samples, max(1, int((self._max_tokens - common) / each))), columns

    def run(
        self, on_progress: Callable[[int], None] | None = None, on_answers: OnAnswers | None = None
    ) -> list[list[Completion]]:
        """The completions of each request, see protocol.Engine.generate."""
        done, self._on_answers = 0, on_answers
        with installed(self._host.model):
            while self._work_left():
                self._admit()
                self._step_all()
                if on_progress is not None and self._done != done:
                    done = self._done
                    on_progress(done)
        self._tree.forget(self._max_tokens)
        self._tree.prune()
        return [self._answers(index) for index in range(len(self._requests))]

    def _answers(self, index: int) -> list[Completion]:
        return [completion for _, completion in sorted(self._results[index])]

    def _work_left(self) -> bool:
        return bool(self._waiting) or self._kv.active > 0

    def _admit(self) -> None:
        """Put waiting parts into free rows if enough rows are free to be worth a prefill."""
        kv = self._kv
        free = kv.rows - kv.active
        if not self._waiting or (kv.active and free < kv.rows / 4):
            return
        held = {segment for place in self._alive_places() for segment, _ in place.path()}
        room = self._max_tokens - kv.rows * kv.columns - sum(len(s.tokens) for s in held)
        parts: list[Part] = []
        places: list[Place] = []
        while self._waiting and (reserve := min(self._waiting[0].most_rows(), _SPREAD, kv.rows)) <= free:
            place = self._place_of(self._waiting[0])
            new = [segment for segment, _ in place.path() if segment not in held]
            room -= sum(len(segment.tokens) for segment in new)
            if room < 0 and (parts or kv.active):
                break
            held.update(new)
            parts.append(self._waiting.popleft())
            places.append(place)
            free -= reserve
        if parts:
            self._prefill(parts, places)

    def _alive_places(self) -> list[Place]:
        """The prefixes that alive rows continue."""
        return [self._alive[i] for i in self._place[: self._kv.active].unique().tolist()]

    def _place_of(self, part: Part) -> Place:
        """The place of a part in the tree; tokens that it has drawn already are a segment, too."""
        if not part.generated:
            return self._places[part.request]
        return self._tree.insert([(self._requests[part.request].prefix + part.generated)[:-1]])[0]

    def _prefill(self, parts: list[Part], places: list[Place]) -> None:
        kv = self._kv
        asked = [self._requests[p.request] for p in parts]
        alive = dict.fromkeys([*self._alive_places(), *places])
        missing = self._tree.touch(alive)
        new = sum(len(segment.tokens) for segment in missing)
        self._tree.forget(self._max_tokens - kv.rows * kv.columns - new, alive)
        compute(self._host, missing)
        known = {place: i for i, place in enumerate(alive)}

        def column(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, device=self._device)

        first, rows = kv.active, slice(kv.active, kv.active + len(parts))
        before = self._place[: kv.active].tolist()
        self._place[: kv.active] = column([known[self._alive[i]] for i in before])
        self._place[rows] = column([known[place] for place in places])
        self._alive = list(known)
        kv.levels = levels_of(self._alive, self._device)
        self._request[rows] = column([p.request for p in parts])
        self._token[rows] = column([(r.prefix + p.generated)[-1] for r, p in zip(asked, parts, strict=True)])
        self._step[rows] = column([len(p.generated) for p in parts])
        self._owned[rows] = 0
        self._position[rows] = column([len(r.prefix) + len(p.generated) - 1 for r, p in zip(asked, parts, strict=True)])
        self._limit[rows] = column([self._limits[p.request] for p in parts])
        for row, part in enumerate(parts, first):
            self._output[row, : len(part.generated)] = column(list(part.generated))
        kv.active += len(parts)

        repeats = column([len(p.samples.number) for p in parts])
        added = torch.arange(first, first + len(parts), device=self._device).repeat_interleave(repeats)
        self._row = torch.cat([self._row, added])
        self._samples = self._samples.join([p.samples for p in parts])

    def _step_all(self) -> None:
        """Decode one token in every alive row."""
        kv = self._kv
        if not kv.active:
            return
        alive = slice(0, kv.active)
        kv.arrange(self._place[alive], self._owned[alive])
        with running(kv) as cache:
            logits = self._host.logits(
                1,
                input_ids=self._token[alive, None],
                position_ids=self._position[alive, None],
                past_key_values=cache,
                use_cache=True,
            )[:, -1]
        self._owned[alive] += 1
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
        probabilities, ids = self._distribution.support(logits)
        expected = samples.weight.unsqueeze(-1) * probabilities[row]
        taken = systematic_sample(expected, uniforms(samples.key, self._step[row]))
        parent, place = taken.nonzero(as_tuple=True)
        tokens = ids[row[parent], place]
        self._open.index_add_(0, self._request[row], torch.bincount(parent, minlength=len(row)) - 1)
        key = stream_keys(samples.key[parent], tokens)
        self._row = row[parent]
        self._samples = Samples(samples.number[parent], key, taken[parent, place])
        return tokens

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
        asked = self._request[rows]
        self._open.index_add_(0, asked, torch.full_like(asked, -1))
        if self._on_answers is not None:
            for request in asked.unique().tolist():
                if not self._open[request]:
                    self._on_answers(request, self._answers(request))
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
            self._waiting.appendleft(Part(int(self._request[row]), self._samples.take(group == index), generated))

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
