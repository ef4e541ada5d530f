"""Plain decoding: transformers' own `generate` with the model's own cache, masks and positions.

It is correct for every model that `generate` can run, with attention windows, recurrent layers or
position biases. It is slower than `continuous_batching`: only prefixes of equal length share a
batch, samples share nothing, and a batch lasts as long as its longest row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedModel

from critical_tokens.decoding.distributions import Distribution
from critical_tokens.decoding.protocol import Completion, OnAnswers, Request
from critical_tokens.decoding.random_streams import stream_keys, uniforms
from critical_tokens.decoding.stopping import Ends
from critical_tokens.models.inference import Host


class Place(NamedTuple):
    """A sample, by the index of its request and its number among the samples of the request."""

    request: int
    number: int


class Plain:
    """One call of the engine's `generate`.

    Samples draw from the same random streams as in `continuous_batching`. Weighted completions all
    have the same weight.
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
        self._host, self._ends, self._max_tokens, self._distribution = (host, ends, max_tokens, distribution)
        self._requests, self._weighted = requests, weighted
        self.tokens = 0

    @property
    def device(self) -> torch.device:
        """The device of the model's inputs."""
        return self._host.device

    def run(
        self, on_progress: Callable[[int], None] | None = None, on_answers: OnAnswers | None = None
    ) -> list[list[Completion]]:
        """The completions of each request, see protocol.Engine.generate."""
        found: dict[Place, Completion] = {}
        for places in self._batches():
            rows = _Rows(self, places, [self._requests[p.request] for p in places], self._ends, self._host.context)
            with _own_settings(self._host.model):
                self._host.model.generate(**rows.inputs())
            found |= zip(places, rows.completions(), strict=True)
            self.tokens += sum(map(len, rows.generated))
            if on_progress is not None:
                on_progress(len(found))
            if on_answers is not None:
                for index in {place.request for place in places}:
                    if (answers := self._answers(index, found)) is not None:
                        on_answers(index, answers)
        return [self._answers(index, found) or [] for index in range(len(self._requests))]

    def _answers(self, index: int, found: Mapping[Place, Completion]) -> list[Completion] | None:
        """The completions of a request, None if some are not there yet."""
        request = self._requests[index]
        places = [Place(index, number) for number in range(math.ceil(request.n))]
        return [self._weighed(found[p], request) for p in places] if all(p in found for p in places) else None

    def _weighed(self, completion: Completion, request: Request) -> Completion:
        return replace(completion, weight=request.n / math.ceil(request.n)) if self._weighted else completion

    def _batches(self) -> Iterator[list[Place]]:
        """Samples with prefixes of equal length, as many as the bound on tokens allows, or one."""
        order = sorted(range(len(self._requests)), key=lambda i: len(self._requests[i].prefix))
        for _, group in groupby(order, key=lambda i: len(self._requests[i].prefix)):
            alike = list(group)
            places = [Place(i, number) for i in alike for number in range(math.ceil(self._requests[i].n))]
            longest = max(self._requests[i].longest(self._host.context) for i in alike)
            size = max(1, self._max_tokens // longest)
            yield from (places[start : start + size] for start in range(0, len(places), size))

    def draw(self, logits: torch.Tensor, places: Sequence[Place], step: int) -> torch.Tensor:
        """The next token of every sample, from logits (samples, vocabulary)."""
        seeds = torch.tensor([self._requests[p.request].seed for p in places], device=logits.device)
        numbers = torch.tensor([p.number for p in places], device=logits.device)
        draws = uniforms(stream_keys(seeds, numbers), torch.full_like(numbers, step))
        return self._distribution.sample(logits, draws, torch.arange(len(places), device=logits.device))


class _Rows:
    """The rows of one batch and their tokens."""

    def __init__(
        self, plain: Plain, places: Sequence[Place], requests: Sequence[Request], ends: Ends, context: int
    ) -> None:
        self._plain, self._places, self._requests, self._ends = plain, places, requests, ends
        self._width = len(requests[0].prefix)
        self._limits = [r.longest(context) - self._width for r in requests]
        self._kept: list[int | None] = [None] * len(requests)
        self._done = [False] * len(requests)
        self.generated: list[list[int]] = [[] for _ in requests]

    def inputs(self) -> dict[str, object]:
        """Arguments of transformers' `generate`."""
        ids = torch.tensor([r.prefix for r in self._requests], device=self._plain.device)
        settings = GenerationConfig(max_new_tokens=max(self._limits), do_sample=False, use_cache=True, pad_token_id=0)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "generation_config": settings,
            "logits_processor": [self._choose],
            "stopping_criteria": [self._finished],
        }

    def completions(self) -> list[Completion]:
        """The completion of every row."""
        rows = zip(self.generated, self._kept, strict=True)
        return [Completion(tuple(ids[:kept]), kept is not None) for ids, kept in rows]

    def _choose(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Scores that allow only the drawn token of each row."""
        drawn = self._plain.draw(logits, self._places, ids.shape[1] - self._width)
        for row, token in enumerate(drawn.tolist()):
            if not self._done[row]:
                self._add(row, token)
        return torch.full_like(logits, -torch.inf).scatter_(1, drawn.unsqueeze(1), 0.0)

    def _add(self, row: int, token: int) -> None:
        generated = self.generated[row]
        generated.append(token)
        self._kept[row] = self._ends.kept(self._requests[row].prefix, generated)
        self._done[row] = self._kept[row] is not None or len(generated) >= self._limits[row]

    def _finished(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self._done, device=ids.device)


@contextmanager
def _own_settings(model: PreTrainedModel) -> Iterator[None]:
    """Ignore the checkpoint's generation config, such as a repetition penalty and its EOS ids."""
    stated, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = stated
