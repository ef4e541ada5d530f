"""Loading of base models, tokenizers and stacks of adapters. Remote code stays off, and weights are safetensors only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from critical_tokens import hub, records

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
    folder = Path(source.path).expanduser()
    return folder if folder.is_dir() else hub.snapshot(hub.Repository("model", source.path, source.revision))


def device() -> str:
    """The accelerator if there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model, with an EOS token: the one that finished answers are trained and scored with.

    A tokenizer without one takes the model's first end, see `end_ids`. Raises Failure where there is none.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder_of(source), trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        named = (tokenizer.convert_ids_to_tokens(i) for i in end_ids(source, tokenizer))
        tokenizer.eos_token = next((name for name in named if name is not None), None)
        if tokenizer.eos_token is None:
            raise _no_end(source)
    return tokenizer


def end_ids(source: ModelSource, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids of all tokens that end an answer: the tokenizer's EOS, then those of the generation config and of the config.

    Configs have the EOS of their class where nobody set one (2 for Llama's), and generation configs may be copies of them. So
    such an id counts only if it is a special token of the tokenizer. Raises Failure where none is left.
    """
    config = load_config(source)
    text = config.get_text_config(decoder=True)
    own = folder_of(source) / "generation_config.json"
    generation = records.read_json(own) if own.is_file() else {}
    stated = _ids(generation.get("eos_token_id"))
    copied = [*_ids(getattr(config, "eos_token_id", None)), *_ids(getattr(text, "eos_token_id", None))]
    if generation.get("_from_model_config"):
        stated, copied = [], [*stated, *copied]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    defaults = {i for c in (config, text) for i in _ids(getattr(type(c), "eos_token_id", None))}
    found = [*_ids(tokenizer.eos_token_id), *stated, *(i for i in copied if i in special or i not in defaults)]
    ends = tuple(dict.fromkeys(i for i in found if 0 <= i < text.vocab_size))
    if not ends:
        raise _no_end(source)
    return ends


def _no_end(source: ModelSource) -> records.Failure:
    what = "neither its tokenizer nor its generation_config.json names a token of its vocabulary that ends an answer"
    return records.Failure(f"{source.path}: {what}; set eos_token in tokenizer_config.json")


def _ids(stated: object) -> list[int]:
    """Token ids of a config's entry: a number, a list of numbers, or nothing."""
    return [i for i in (stated if isinstance(stated, list) else [stated]) if isinstance(i, int) and not isinstance(i, bool)]


def load_config(source: ModelSource) -> PreTrainedConfig:
    """The architecture of a base model."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder_of(source), trust_remote_code=False)


# Where configs state the longest sequence: most of them, then Whisper's and the like, MPT's, Bloom's.
_CONTEXT_KEYS = ("max_position_embeddings", "max_target_positions", "max_seq_len", "seq_length")


def context_of(config: PreTrainedConfig) -> int | None:
    """The longest sequence of an architecture, in tokens; None where its config states none."""
    text = config.get_text_config(decoder=True)
    stated = (getattr(text, key, None) for key in _CONTEXT_KEYS)
    return next((length for length in stated if isinstance(length, int) and length > 0), None)


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
