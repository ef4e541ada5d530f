"""The registry of engines: which ones there are, what each needs, and how it is opened.

A new engine is a class that satisfies `decoding.protocol.Engine`, a function that opens it, and an
entry of ENGINES.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from critical_tokens.core.records import Failure
from critical_tokens.decoding.protocol import Engine
from critical_tokens.decoding.stopping import Stop
from critical_tokens.models.checkpoints import ModelSource, load_config, load_model, load_tokenizer


@dataclass(frozen=True)
class EngineSettings:
    """An engine of the registry and its limits.

    max_batch_tokens: bound of the key-value cache, in tokens.
    name: a key of ENGINES.
    tensor_parallel: number of GPUs that share the model (vLLM only).
    context: longest prompt with answer, in tokens (vLLM only); None for the model's own.
    """

    max_batch_tokens: int
    name: str = "transformers"
    tensor_parallel: int = 1
    context: int | None = None


def _transformers(
    settings: EngineSettings,
    source: ModelSource,
    adapters: Sequence[Path],
    eos: int | Collection[int],
    stop: Stop | None,
) -> Engine:
    from critical_tokens.engines.transformers_engine import TransformersEngine

    return TransformersEngine(load_model(source, adapters), eos, settings.max_batch_tokens, stop)


def _vllm(
    settings: EngineSettings,
    source: ModelSource,
    adapters: Sequence[Path],
    eos: int | Collection[int],
    stop: Stop | None,
) -> Engine:
    """vLLM applies a single adapter itself. Several are merged into a temporary copy of the model,
    which is deleted once vLLM has loaded it.
    """
    from critical_tokens.engines.vllm_engine import VllmEngine
    from critical_tokens.models import adapter_files

    def opened(model: ModelSource, adapter: Path | None) -> Engine:
        parallel, context = settings.tensor_parallel, settings.context
        return VllmEngine(model, eos, settings.max_batch_tokens, adapter, parallel, context, stop)

    if len(adapters) <= 1:
        for adapter in adapters:
            adapter_files.check(adapter, load_config(source))
        return opened(source, adapters[0].parent if adapters else None)
    with tempfile.TemporaryDirectory(prefix="merged-") as folder:
        load_model(source, adapters).cpu().save_pretrained(folder, safe_serialization=True)
        load_tokenizer(source).save_pretrained(folder)
        return opened(ModelSource(folder, None, source.dtype), None)


@dataclass(frozen=True)
class EngineEntry:
    """An engine.

    description: a phrase for help texts, schemas and docs.
    package: the Python package that must be installed.
    environment: the file in envs/ that describes an environment with this package.
    opener: the function of the arguments of `open_engine` that returns the engine.
    folder: the folder of the project in which `make NAME` installs the package, where NAME is the
        engine's name; empty for an engine that runs in the environment of Snakemake itself.
    """

    description: str
    package: str
    environment: str
    opener: Callable[[EngineSettings, ModelSource, Sequence[Path], int | Collection[int], Stop | None], Engine]
    folder: str = ""


ENGINES: dict[str, EngineEntry] = {
    "transformers": EngineEntry("the library transformers, on CPU or GPU", "transformers", "train.yaml", _transformers),
    "vllm": EngineEntry("vLLM, fast on GPUs, in an environment of its own", "vllm", "vllm.yaml", _vllm, ".venv-vllm"),
}
NAMES = tuple(ENGINES)


def entry_of(name: str) -> EngineEntry:
    """The registry's entry of an engine. Raises Failure, listing the engines, for another."""
    if name not in ENGINES:
        raise Failure(f"the engine is {name!r}, must be one of {', '.join(ENGINES)}")
    return ENGINES[name]


def python_of(name: str, project: Path) -> Path | None:
    """The Python of an engine's own environment in a folder; None without such an environment.

    project: the folder of the Makefile. The Makefile writes the file `installed` last, so an
    environment without this file is incomplete and does not count.
    """
    own = entry_of(name).folder
    complete = bool(own) and (project / own / "installed").is_file()
    return project / own / "bin" / "python" if complete else None


def check_installed(name: str, project: Path | None = None) -> None:
    """Raise Failure for an engine that is unknown or not installed.

    Its package must be installed for the running Python or, if `project` is given, in the
    environment that `python_of` finds.
    """
    entry = entry_of(name)
    if find_spec(entry.package) is not None or (project is not None and python_of(name, project)):
        return
    where = f"the engine {name} is not installed for {sys.executable}"
    target = name if entry.folder else "environment"
    conda = f"`--sdm conda`, which makes the environment of envs/{entry.environment}"
    raise Failure(
        f"{where}: type `make {target}` in the Snakefile's folder, or add {conda}, or set `engine: transformers`"
    )


def open_engine(
    settings: EngineSettings,
    source: ModelSource,
    adapters: Sequence[Path],
    eos_token_id: int | Collection[int],
    stop: Stop | None = None,
) -> Engine:
    """An engine for a base model with adapters, the one nearest to the base first.

    Its answers end at an EOS id or, unless it is None, at `stop`. Raises Failure for an unknown
    engine and for one that is not installed.
    """
    check_installed(settings.name)
    return entry_of(settings.name).opener(settings, source, adapters, eos_token_id, stop)
