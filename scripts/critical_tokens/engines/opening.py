"""Which engine answers, and how it is opened: the one place that knows them all."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from critical_tokens.core.records import Failure
from critical_tokens.decoding.protocol import Engine
from critical_tokens.decoding.stopping import Stop
from critical_tokens.models.checkpoints import ModelSource, load_config, load_model, load_tokenizer

NAMES = ("transformers", "vllm")


@dataclass(frozen=True)
class EngineSettings:
    """An engine and its bounds. `tensor_parallel` and `context` (tokens; None: the model's own) are
    vLLM's.
    """

    max_batch_tokens: int
    name: str = "transformers"
    tensor_parallel: int = 1
    context: int | None = None


def check_installed(name: str) -> None:
    """Raise Failure for an engine that is unknown, or whose package the running Python does not
    have.
    """
    if name not in NAMES:
        raise Failure(f"the engine is {name!r}, must be one of {', '.join(NAMES)}")
    if find_spec(name) is None:
        raise Failure(
            f"the engine {name} is not installed for {sys.executable}: type `snakemake --sdm conda …`, which makes the "
            f"environment of envs/{name}.yaml, or set `engine: transformers`"
        )


def open_engine(
    settings: EngineSettings,
    source: ModelSource,
    adapters: Sequence[Path],
    eos_token_id: int | Collection[int],
    stop: Stop | None = None,
) -> Engine:
    """An engine for a base model with adapters, the one nearest to the base first; answers end at
    an EOS id or at `stop`.

    vLLM applies a single adapter as it is; several are merged into a copy of the weights that is
    gone once they are loaded. Raises Failure for an unknown engine, or one that is not installed.
    """
    check_installed(settings.name)
    if settings.name == "transformers":
        from critical_tokens.engines.transformers_engine import TransformersEngine

        return TransformersEngine(load_model(source, adapters), eos_token_id, settings.max_batch_tokens, stop)
    from critical_tokens.engines.vllm_engine import VllmEngine
    from critical_tokens.models import adapter_files

    own = {"tensor_parallel": settings.tensor_parallel, "context": settings.context, "stop": stop}
    if len(adapters) <= 1:
        for adapter in adapters:
            adapter_files.check(adapter, load_config(source))
        adapter = adapters[0].parent if adapters else None
        return VllmEngine(source, eos_token_id, settings.max_batch_tokens, adapter=adapter, **own)
    with tempfile.TemporaryDirectory(prefix="merged-") as folder:
        load_model(source, adapters).cpu().save_pretrained(folder, safe_serialization=True)
        load_tokenizer(source).save_pretrained(folder)
        return VllmEngine(ModelSource(folder, None, source.dtype), eos_token_id, settings.max_batch_tokens, **own)
