"""Loading of base models, tokenizers and stacks of adapters. Remote code stays off, and weights are safetensors only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from critical_tokens import hub

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class ModelSource:
    """Where a base model comes from: a local folder or a hub id with a pinned revision, and the dtype to compute in."""

    path: str
    revision: str | None = None
    dtype: str = "float32"


def folder_of(source: ModelSource) -> Path:
    """Where the files of a base model lie: its folder, or the fetched snapshot of its hub repository.

    Raises HubError where there is neither.
    """
    folder = Path(source.path)
    return folder if folder.is_dir() else hub.snapshot(hub.Repository("model", source.path, source.revision))


def device() -> str:
    """The accelerator if there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder_of(source), trust_remote_code=False)


def load_config(source: ModelSource) -> PreTrainedConfig:
    """The architecture of a base model."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder_of(source), trust_remote_code=False)


def load_model(source: ModelSource, adapters: Sequence[Path] = ()) -> PreTrainedModel:
    """A base model with adapters merged into it one after the other (the first is nearest to the base).

    One process spreads the model over the GPUs that it sees, layer by layer; of several processes, each leaves it to the
    Trainer where the model goes. An adapter is named by its adapter_model.safetensors; its configuration lies beside it.
    """
    import os

    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    shared = int(os.environ.get("WORLD_SIZE", "1")) > 1
    spread = torch.cuda.device_count() > 1 and not shared
    model = AutoModelForCausalLM.from_pretrained(
        folder_of(source),
        dtype=getattr(torch, source.dtype),
        trust_remote_code=False,
        use_safetensors=True,
        device_map="auto" if spread else None,
    )
    if not (spread or shared):
        model = model.to(device())
    for adapter in adapters:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter.parent).merge_and_unload()
    return model
