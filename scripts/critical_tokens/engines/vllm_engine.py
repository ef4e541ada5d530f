"""The vLLM engine, for GPUs and large models.

It runs with vLLM 0.32 for CUDA or with its CPU build, each in an environment of its own. It differs
from the transformers engine in two ways:
- Samples are drawn with vLLM's own random numbers. They have the same distribution, but not the
  same tokens.
- path_logits knows only the most probable tokens of each position, and refuses a position where
  these are not enough.
"""

from __future__ import annotations

import math
import os
import sys
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critical_tokens.core.records import Failure
from critical_tokens.decoding.distributions import Distribution
from critical_tokens.decoding.protocol import Completion, OnAnswers, Request, RequestError, check, check_path
from critical_tokens.decoding.stopping import Stop, eos_set
from critical_tokens.models.checkpoints import ModelSource, context_of, folder_of, load_config

if TYPE_CHECKING:
    from torch import Tensor

# Number of most probable tokens that are requested at each position of a path. A nucleus of 0.95 at
# temperature 1 hardly ever has more.
_KEPT = 1024
# The smallest probability mass that these tokens must have together.
_ENOUGH = 0.95
# Number of samples that wait in vLLM at a time, which bounds their memory.
_CALL = 8192
# On a CPU a block of the key-value cache is a multiple of 32 tokens. Only whole blocks of a prefix
# are shared.
_CPU_BLOCK = 32


class VllmEngine:
    """Sampling with vLLM.

    eos_token_id: one or several ids; an answer ends at each of them.
    max_tokens: size of the key-value cache on a CPU, in tokens; on a GPU it takes the free memory.
    adapter: folder of an adapter, which is applied without merging.
    tensor_parallel: number of GPUs that share the model.
    context: upper limit of the model's context, whose keys and values must fit into the cache.
    stop: a text at which answers end too, or None.

    Raises Failure without an EOS id or a context.
    """

    def __init__(
        self,
        source: ModelSource,
        eos_token_id: int | Collection[int],
        max_tokens: int,
        adapter: Path | None = None,
        tensor_parallel: int = 1,
        context: int | None = None,
        stop: Stop | None = None,
    ) -> None:
        import torch

        gpu = torch.cuda.is_available()
        # vLLM starts programs of its own environment, such as ninja. It need not be activated.
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        if not gpu:
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM

        config = load_config(source).get_text_config(decoder=True)
        self._vocabulary: int = config.vocab_size
        self._kept = min(self._vocabulary, _KEPT)
        self._eos, self._stop = eos_set(eos_token_id), stop
        self._adapter = adapter
        bounds = [bound for bound in (context_of(config), context) if bound]
        if not bounds:
            raise Failure(
                f"{source.path}: its config bounds no context; set `context` in the model's entry for engine vllm"
            )
        self.context: int = min(bounds)
        self.device = "cuda" if gpu else "cpu"
        self.tokens_generated = 0
        own: dict[str, Any] = (
            {"gpu_memory_utilization": 0.9} if gpu else _cpu_settings(config, source, max_tokens, self.context)
        )
        if adapter is not None:
            own |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(adapter)}
        self._llm = LLM(
            model=str(folder_of(source)),
            dtype=source.dtype,
            trust_remote_code=False,
            load_format="safetensors",
            tensor_parallel_size=tensor_parallel,
            max_model_len=self.context,
            max_logprobs=self._kept,
            enable_prefix_caching=True,
            skip_tokenizer_init=stop is None,
            **own,
        )
        self._close = weakref.finalize(self, self._llm.llm_engine.engine_core.shutdown)

    def close(self) -> None:
        """Stop vLLM's workers and free their memory."""
        self._close()

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
        greedy = distribution.parameters()["temperature"] == 0
        # vLLM refuses several greedy samples, so one is requested and repeated.
        counts = [1 if greedy else math.ceil(r.n) for r in requests]
        samples = [(index, i) for index, count in enumerate(counts) for i in range(count)]
        drawn: list[list[Completion | None]] = [[None] * count for count in counts]
        results: list[list[Completion]] = [[] for _ in requests]
        done, left = 0, counts.copy()
        for start in range(0, len(samples), _CALL):
            call = samples[start : start + _CALL]
            prefixes = [requests[index].prefix for index, _ in call]
            parameters = [self._parameters(requests[index], distribution, i) for index, i in call]
            for finished in self._steps(prefixes, parameters):
                for place, output in finished:
                    index, i = call[place]
                    request = requests[index]
                    drawn[index][i] = self._completion(request, output.outputs[0])
                    self.tokens_generated += len(output.outputs[0].token_ids)
                    done += math.ceil(request.n) if greedy else 1
                    left[index] -= 1
                    if not left[index]:
                        results[index] = _answers(drawn[index], request, weighted)
                        if on_answers is not None:
                            on_answers(index, results[index])
                if on_progress is not None:
                    on_progress(done)
        return results

    def _parameters(self, request: Request, distribution: Distribution, sample: int) -> Any:
        """The parameters of one sample of a request, which has a seed of its own."""
        from vllm import SamplingParams

        drawn_from = distribution.parameters()
        greedy = drawn_from["temperature"] == 0
        return SamplingParams(
            **drawn_from,
            seed=None if greedy else _spread(request.seed) + sample,
            max_tokens=min(request.max_new_tokens, self.context - len(request.prefix)),
            stop_token_ids=sorted(self._eos),
            stop=[self._stop.text] if self._stop else None,
            detokenize=self._stop is not None,
        )

    def _steps(self, prompts: Sequence[Sequence[int]], parameters: Any) -> Iterator[list[tuple[int, Any]]]:
        """The outputs that each step of vLLM finishes, with the places of their prompts."""
        from vllm.lora.request import LoRARequest

        lora = None if self._adapter is None else LoRARequest(str(self._adapter), 1, str(self._adapter))
        asked = [{"prompt_token_ids": list(p)} for p in prompts]
        named = self._llm.enqueue(asked, parameters, lora_request=lora, use_tqdm=False)
        # vLLM numbers its requests, and appends a random word to the number.
        first = int(named[0].partition("-")[0])
        engine = self._llm.llm_engine
        while engine.has_unfinished_requests():
            finished = [(int(output.request_id) - first, output) for output in engine.step() if output.finished]
            if finished:
                yield finished

    def _completion(self, request: Request, output: Any) -> Completion:
        ids = tuple(output.token_ids)
        ended = bool(ids) and ids[-1] in self._eos
        kept = self._stop.first(request.prefix, ids) if self._stop else None
        if kept is not None:
            return Completion(ids[:kept], True)
        return Completion(ids[:-1] if ended else ids, ended)

    def path_logits(self, prompt: Sequence[int], path: Sequence[int]) -> Tensor:
        """See decoding.protocol.Engine. The logits are log-probabilities.

        They are -inf for all but the most probable tokens. Also raises RequestError where these
        have less than 95 % of the probability mass, which is too little for a nucleus.
        """
        import torch
        from vllm import SamplingParams

        check_path(prompt, path, self.context)
        if self._adapter is not None:
            raise RequestError("path_logits with an adapter is not supported by vLLM's CPU build; merge the adapter")
        # The logits of the last token come from a sampled token, so that the path may end at the
        # end of the context.
        asked = SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=self._kept, logprobs=self._kept, detokenize=False
        )
        (((_, output),),) = self._steps([[*prompt, *path[:-1]]], asked)
        rows = [*output.prompt_logprobs[len(prompt) :], output.outputs[0].logprobs[0]]
        logits = torch.full((len(path), self._vocabulary), -torch.inf)
        for row, known in zip(logits, rows, strict=True):
            row[torch.tensor(list(known))] = torch.tensor([k.logprob for k in known.values()])
        least, position = logits.exp().sum(-1).min(0)
        if least < _ENOUGH:
            what = (
                f"the {self._kept} most probable tokens at position {int(position)} hold {float(least):.0%} of the mass"
            )
            raise RequestError(f"{what}: too flat for vLLM's path_logits, use the transformers engine")
        return logits


def _cpu_settings(config: Any, source: ModelSource, max_tokens: int, context: int) -> dict[str, Any]:
    """Settings of the CPU build: a cache of `max_tokens` tokens, and no chunked prefill.

    Chunked prefill does not work together with seeds in that build.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * size * (4 if source.dtype == "float32" else 2)
    blocks = max(max_tokens, context) // _CPU_BLOCK + 2
    return {
        "kv_cache_memory_bytes": blocks * _CPU_BLOCK * per_token,
        "block_size": _CPU_BLOCK,
        "enable_chunked_prefill": False,
        "enforce_eager": True,
    }


def _rank(adapter: Path) -> int:
    """The rank of an adapter, rounded up to a rank that vLLM has kernels for."""
    import json

    rank = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    return next(allowed for allowed in (8, 16, 32, 64, 128, 256, 320, 512) if allowed >= rank)


def _answers(drawn: Sequence[Completion | None], request: Request, weighted: bool) -> list[Completion]:
    """The completions of a request, of which all samples are drawn; a greedy one is repeated."""
    n = math.ceil(request.n)
    completions = [completion for completion in drawn if completion] * (n // len(drawn))
    return [replace(c, weight=request.n / n) for c in completions] if weighted else completions


def _spread(seed: int) -> int:
    """The seed of the first sample of a request, far from the seeds of other requests.

    Sample i has this seed + i, and vLLM gives equal seeds the same random numbers.
    """
    import torch

    from critical_tokens.decoding.random_streams import mix

    return int(mix(torch.tensor([seed]))[0]) & ((1 << 62) - 1)
