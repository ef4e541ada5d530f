"""Loading of base models, tokenizers and stacks of adapters. Remote code stays off, and weights are
safetensors only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from critical_tokens.core import hub
from critical_tokens.core.records import ArtifactError, Failure, expanded, read_object
from critical_tokens.models.model_files import CONTEXT_KEYS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# How far log-probabilities before and after merging an adapter may be apart on average (nats):
# rounding, and no more.
_MERGED_APART = {"float32": 0.01, "bfloat16": 0.5, "float16": 0.5}


@dataclass(frozen=True)
class ModelSource:
    """Where a base model comes from: a local folder or a hub id with a pinned revision, and the
    dtype to compute in.
    """

    path: str
    revision: str | None = None
    dtype: str = "float32"


def folder_of(source: ModelSource) -> Path:
    """Where the files of a base model lie: its folder, or the fetched snapshot of its hub
    repository.

    Raises HubError where there is neither.
    """
    folder = expanded(source.path)
    return folder if folder.is_dir() else hub.snapshot(hub.Repository("model", source.path, source.revision))


def device() -> str:
    """The accelerator if there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model, with an EOS token: the one that finished answers are trained
    and scored with.

    A tokenizer without one takes the model's first end, see `end_ids`. Raises Failure where there
    is none, and ArtifactError, naming the folder, where the tokenizer cannot be read.
    """
    from transformers import AutoTokenizer

    folder = folder_of(source)
    with _reading(folder, "its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        named = (tokenizer.convert_ids_to_tokens(i) for i in end_ids(source, tokenizer))
        tokenizer.eos_token = next((name for name in named if name is not None), None)
        if tokenizer.eos_token is None:
            raise _no_end(source)
    return tokenizer


def end_ids(source: ModelSource, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids of all tokens that end an answer: the tokenizer's EOS, then those of the generation
    config and of the config.

    Configs have the EOS of their class where nobody set one (2 for Llama's), and generation configs
    may be copies of them. So such an id counts only if it is a special token of the tokenizer.
    Raises Failure where none is left.
    """
    config = load_config(source)
    text = config.get_text_config(decoder=True)
    own = folder_of(source) / "generation_config.json"
    generation = read_object(own) if own.is_file() else {}
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


def _no_end(source: ModelSource) -> Failure:
    what = "neither its tokenizer nor its generation_config.json names a token of its vocabulary that ends an answer"
    return Failure(f"{source.path}: {what}; set eos_token in tokenizer_config.json")


def _ids(stated: object) -> list[int]:
    """Token ids of a config's entry: a number, a list of numbers, or nothing."""
    return [
        i for i in (stated if isinstance(stated, list) else [stated]) if isinstance(i, int) and not isinstance(i, bool)
    ]


def load_config(source: ModelSource) -> PreTrainedConfig:
    """The architecture of a base model. Raises ArtifactError, naming the folder, where it cannot be
    read.
    """
    from transformers import AutoConfig

    folder = folder_of(source)
    with _reading(folder, "its config.json"):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


@contextmanager
def _reading(folder: Path, what: str) -> Iterator[None]:
    """Turn what transformers raises of files that it cannot read into an ArtifactError that names
    the folder.
    """
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ArtifactError(f"{folder}: {what} cannot be loaded ({str(error)[:300]})") from error


def context_of(config: PreTrainedConfig) -> int | None:
    """The longest sequence of an architecture, in tokens; None where its config states none."""
    text = config.get_text_config(decoder=True)
    stated = (getattr(text, key, None) for key in CONTEXT_KEYS)
    return next((length for length in stated if isinstance(length, int) and length > 0), None)


def load_model(source: ModelSource, adapters: Sequence[Path] = ()) -> PreTrainedModel:
    """A base model with adapters merged into it one after the other (the first is nearest to the
    base).

    One process spreads the model over the GPUs that it sees, layer by layer; of several processes,
    each leaves it to the Trainer where the model goes. An adapter is named by its
    adapter_model.safetensors; its configuration lies beside it. Raises ArtifactError, naming the
    file, where weights or adapters are missing, incomplete, not finite or another model's.
    """
    import os

    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    shared = int(os.environ.get("WORLD_SIZE", "1")) > 1
    spread = torch.cuda.device_count() > 1 and not shared
    folder = folder_of(source)
    with _reading(folder, "its model"):
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, source.dtype),
            trust_remote_code=False,
            use_safetensors=True,
            device_map="auto" if spread else None,
            output_loading_info=True,
        )
    # Of processes that share a model one loads the weights.
    if not (shared and os.environ.get("LOCAL_RANK", "0") != "0"):
        _check_weights(model, folder, found["missing_keys"])
    if not (spread or shared):
        model = model.to(device())
    for adapter in adapters:
        model = merged(model, adapter)
    return model


def _check_weights(model: PreTrainedModel, folder: Path, missing: Collection[str]) -> None:
    """Raise ArtifactError where weights are missing, which transformers makes up, or are no
    numbers.
    """
    if missing:
        raise ArtifactError(
            f"{folder}: has no weights for {min(missing)} ({len(missing)} such) of {type(model).__name__}: "
            "the files are incomplete, or another model's"
        )
    name = _not_finite(model)
    if name:
        raise ArtifactError(f"{folder}: {name} holds numbers that are not finite; the files are broken")


def _not_finite(model: PreTrainedModel) -> str | None:
    """The name of a weight that has a nan or an infinity, if there is one."""
    import torch

    for name, value in model.named_parameters():
        if value.is_floating_point() and not value.is_meta and value.numel():
            low, high = value.detach().aminmax()  # a nan anywhere is both; no copy is made
            if not bool(torch.isfinite(low) & torch.isfinite(high)):
                return name
    return None


def merged(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """The model with an adapter merged into it, a few of whose log-probabilities are compared
    before and after.

    Raises ArtifactError, naming the file, of an adapter that is not a complete one for this model
    (see adapter_files.check), and where the merged model is another than the trained one.
    """
    from peft import PeftModel

    from critical_tokens.models import adapter_files
    from critical_tokens.models.lora import few_logits

    adapter_files.check(adapter, model.config)
    adapted = PeftModel.from_pretrained(model, adapter.parent).eval()
    expected = few_logits(adapted).log_softmax(-1)
    whole = adapted.merge_and_unload()
    name = _not_finite(whole)
    if name:
        raise ArtifactError(f"{adapter}: makes {name} larger than its numbers can be; train the adapter again")
    apart = float((few_logits(whole).log_softmax(-1) - expected).abs().mean()) if expected.numel() else 0.0
    if not apart <= _MERGED_APART[str(whole.dtype).removeprefix("torch.")]:
        raise ArtifactError(
            f"{adapter}: the model with this adapter merged differs from the model that was trained ({apart:.2g} on average, "
            "in log-probability); name fewer layers in lora.layers and train it again"
        )
    return whole
