"""The transformers engine: any causal language model of transformers, on CPU or GPU.

Most models are decoded by `continuous_batching`, over segments that rows share. Models for which
that would be wrong, and sequences longer than the window of a layer, are decoded by transformers'
own `generate` (`plain`), which is slower. `architecture` decides between them when the engine is
opened. The completions of a request do not depend on the other requests.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from critical_tokens.decoding.distributions import Distribution
from critical_tokens.decoding.prefix_tree import PrefixTree
from critical_tokens.decoding.protocol import Completion, OnAnswers, Request, check, check_path
from critical_tokens.decoding.stopping import Ends, Stop, eos_set
from critical_tokens.engines import architecture
from critical_tokens.engines.continuous_batching import Batch
from critical_tokens.engines.kv_cache import path_logits
from critical_tokens.engines.plain import Plain
from critical_tokens.engines.shared_attention import installed
from critical_tokens.models.inference import Host

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TransformersEngine:
    """Batched sampling with a transformers model.

    eos_token_id: one or several ids; an answer ends at each of them.
    max_tokens: bound of the key-value cache, in tokens; those that rows share count once.
    stop: a text at which answers end too, or None.

    Raises Failure without an EOS id, and for a model that cannot be decoded here.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: PreTrainedModel,
        eos_token_id: int | Collection[int],
        max_tokens: int = 24_576,
        stop: Stop | None = None,
    ) -> None:
        eos = eos_set(eos_token_id)
        self._host = Host(model)
        self._reach, vocabulary = architecture.shared_reach(self._host)
        self._ends = Ends(eos, stop, vocabulary, self._host.device)
        self._max_tokens, self._tree = max_tokens, PrefixTree()
        self._said = False
        self.context: int = self._host.context
        self.device = str(self._host.device)
        self.tokens_generated = 0

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        distribution: Distribution,
        on_progress: Callable[[int], None] | None = None,
        weighted: bool = False,
        on_answers: OnAnswers | None = None,
    ) -> list[list[Completion]]:
        """See decoding.protocol.Engine."""
        check(requests, self.context)
        results: list[list[Completion]] = [[] for _ in requests]
        done = 0
        for decoder, indices in self._ways(requests):
            own = [requests[i] for i in indices]
            way = decoder(self._host, self._ends, self._max_tokens, own, distribution, weighted)
            before = done

            def add_up(more: int, before: int = before) -> None:
                nonlocal done
                done = before + more
                if on_progress is not None:
                    on_progress(done)

            def hand_on(index: int, completions: list[Completion], indices: list[int] = indices) -> None:
                if on_answers is not None:
                    on_answers(indices[index], completions)

            for index, completions in zip(indices, way.run(add_up, hand_on), strict=True):
                results[index] = completions
            self.tokens_generated += way.tokens
        return results

    def _ways(self, requests: Sequence[Request]) -> list[tuple[Callable[..., Batch | Plain], list[int]]]:
        """The decoders and the indices of their requests.

        The length of a request decides its decoder, so its completions do not depend on other
        requests.
        """
        fits = [r.longest(self.context) <= self._reach for r in requests]
        shared = [i for i, fit in enumerate(fits) if fit]
        others = [i for i, fit in enumerate(fits) if not fit]
        if others and not self._said:
            self._said = True
            which = f"sequences of more than {self._reach} tokens are" if self._reach else "its sequences are"
            what = "decoded by transformers' own generate, which is slower than continuous batching"
            print(f"{self._host.name}: {which} {what}", file=sys.stderr, flush=True)
        ways = ((partial(Batch, tree=self._tree), shared), (Plain, others))
        return [(decoder, indices) for decoder, indices in ways if indices]

    @torch.inference_mode()
    def path_logits(self, prompt: Sequence[int], path: Sequence[int]) -> torch.Tensor:
        """See decoding.protocol.Engine."""
        check_path(prompt, path, self.context)
        read = (*prompt, *path[:-1])
        if len(read) > self._reach:
            ids = torch.tensor([read], device=self._host.device)
            return self._host.logits(len(path), input_ids=ids, use_cache=False)[0].float()
        with installed(self._host.model):
            logits = path_logits(self._host, self._tree, read, len(path))
        self._tree.forget(self._max_tokens)
        return logits.float()
