"""Which engine answers, and how it is opened: the one place that knows them all."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from critical_tokens.checkpoints import ModelSource, load_model, load_tokenizer
from critical_tokens.engines.protocol import Engine
from critical_tokens.engines.stopping import Stop

NAMES = ("transformers", "vllm")


@dataclass(frozen=True)
class EngineSettings:
    """An engine and its bounds. `tensor_parallel` and `context` (tokens; None: the model's own) are vLLM's."""

    max_batch_tokens: int
    name: str = "transformers"
    tensor_parallel: int = 1
    context: int | None = None


def open_engine(
    settings: EngineSettings,
    source: ModelSource,
    adapters: Sequence[Path],
    eos_token_id: int,
    stop: Stop | None = None,
) -> Engine:
    """An engine for a base model with adapters, the one nearest to the base first; answers end at EOS or at `stop`.

    vLLM applies a single adapter as it is; several are merged into a copy of the weights that is gone once they are loaded.
    """
    if settings.name == "transformers":
        from critical_tokens.engines.transformers import TransformersEngine

        return TransformersEngine(load_model(source, adapters), eos_token_id, settings.max_batch_tokens, stop)
    from critical_tokens.engines.vllm import VllmEngine

    own = {"tensor_parallel": settings.tensor_parallel, "context": settings.context, "stop": stop}
    if len(adapters) <= 1:
        adapter = adapters[0].parent if adapters else None
        return VllmEngine(source, eos_token_id, settings.max_batch_tokens, adapter=adapter, **own)
    with tempfile.TemporaryDirectory(prefix="merged-") as folder:
        load_model(source, adapters).cpu().save_pretrained(folder, safe_serialization=True)
        load_tokenizer(source).save_pretrained(folder)
        return VllmEngine(ModelSource(folder, None, source.dtype), eos_token_id, settings.max_batch_tokens, **own)
