"""Loading of base models, tokenizers and adapters: only safetensors weights, and no remote code."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critical_tokens.core import hub
from critical_tokens.core.records import ArtifactError, Failure, read_object
from critical_tokens.data.prompts import Prompt, turn_of
from critical_tokens.models.model_files import CONTEXT_KEYS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# The largest mean difference between log-probabilities before and after merging an adapter (nats).
# It allows for rounding errors only.
_MERGED_APART = {"float32": 0.01, "bfloat16": 0.5, "float16": 0.5}


@dataclass(frozen=True)
class ModelSource:
    """Where a base model comes from.

    path: a local folder or a hub id.
    revision: the pinned revision of a hub id.
    dtype: the type of the numbers to compute with.
    """

    path: str
    revision: str | None = None
    dtype: str = "float32"


def folder_of(source: ModelSource) -> Path:
    """The folder of a base model: the local folder, or the snapshot of its hub repository.

    Raises HubError where there is neither.
    """
    return hub.folder("model", source.path, source.revision)


def files_state(source: ModelSource) -> list[tuple[str, int, int]]:
    """Names, sizes and times (ns) of a base model's files, which change if a file is replaced."""
    files = sorted(path for path in folder_of(source).iterdir() if path.is_file())
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def device() -> str:
    """The accelerator if there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_tokenizer(source: ModelSource, prompt: Prompt | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model, which always has an EOS token.

    Finished answers are trained and scored with this token. If the tokenizer has none, it is the
    first token of `end_ids`. After the prompts of a chat, it is the token with which the chat
    template ends an answer. Raises Failure where no token ends an answer or where there is no chat
    template, and ArtifactError, naming the folder, where the tokenizer cannot be read.

    prompt: how questions are asked, if answers are sampled, scored or trained.
    """
    from transformers import AutoTokenizer

    folder = folder_of(source)
    with reading(folder, "its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        named = (tokenizer.convert_ids_to_tokens(i) for i in end_ids(source, tokenizer))
        tokenizer.eos_token = next((name for name in named if name is not None), None)
        if tokenizer.eos_token is None:
            raise _no_end(source)
    end = None if prompt is None else turn_of(tokenizer, prompt).end
    if end is not None:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    return tokenizer


def end_ids(source: ModelSource, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids of all tokens that end an answer.

    The EOS of the tokenizer comes first, then the one in its files, which is another one where a
    chat ends its answers, then those of the generation config and of the config.
    If nobody set an EOS in a config, it has the default of its class (2 for Llama's), and the
    generation config may be a copy of it. So such a default counts only if it is a special token of
    the tokenizer. Raises Failure where no id is left.
    """
    config = load_config(source)
    text = config.get_text_config(decoder=True)
    path = folder_of(source) / "generation_config.json"
    generation = read_object(path) if path.is_file() else {}
    stated = _ids(generation.get("eos_token_id"))
    copied = [*_ids(getattr(config, "eos_token_id", None)), *_ids(getattr(text, "eos_token_id", None))]
    if generation.get("_from_model_config"):
        stated, copied = [], [*stated, *copied]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    defaults = {i for c in (config, text) for i in _ids(getattr(type(c), "eos_token_id", None))}
    written = tokenizer.convert_tokens_to_ids(str(tokenizer.init_kwargs.get("eos_token")))
    found = [
        *_ids(tokenizer.eos_token_id),
        *_ids(written),
        *stated,
        *(i for i in copied if i in special or i not in defaults),
    ]
    ends = tuple(dict.fromkeys(i for i in found if 0 <= i < text.vocab_size))
    if not ends:
        raise _no_end(source)
    return ends


def _no_end(source: ModelSource) -> Failure:
    what = "neither its tokenizer nor its generation_config.json names a token of its vocabulary that ends an answer"
    return Failure(f"{source.path}: {what}; set eos_token in tokenizer_config.json")


def _ids(stated: object) -> list[int]:
    """The token ids in an entry of a config: a number, a list of numbers, or nothing."""
    return [
        i for i in (stated if isinstance(stated, list) else [stated]) if isinstance(i, int) and not isinstance(i, bool)
    ]


def load_config(source: ModelSource) -> PreTrainedConfig:
    """The config of a base model; ArtifactError, naming the folder, where it cannot be read."""
    from transformers import AutoConfig

    folder = folder_of(source)
    with reading(folder, "its config.json"):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


@contextmanager
def reading(folder: Path, what: str, remedy: str = "fetch or copy it again, with all its files") -> Iterator[None]:
    """Turn errors of transformers about unreadable files into an ArtifactError with their place."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if "allocate memory" in str(error):
            raise
        told = " ".join(str(error).split())[:300]
        raise ArtifactError(f"{folder}: {what} cannot be loaded ({told}); {remedy}") from error


def context_of(config: PreTrainedConfig) -> int | None:
    """The longest sequence of a model, in tokens; None where its config does not state it."""
    text = config.get_text_config(decoder=True)
    stated = (getattr(text, key, None) for key in CONTEXT_KEYS)
    return next((length for length in stated if isinstance(length, int) and length > 0), None)


def load_model(source: ModelSource, adapters: Sequence[Path] = ()) -> PreTrainedModel:
    """A base model with adapters merged into it, one after the other.

    adapters: the paths of their adapter_model.safetensors, each with its adapter_config.json beside
        it. The first one is merged first.

    Its parameters are frozen, because training adds adapters. A single process distributes the
    layers over the GPUs that it sees. With several processes, the Trainer places the model. Raises
    ArtifactError, naming the file, where weights or adapters are missing, incomplete, not finite,
    or made for another model.
    """
    import os

    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    shared = int(os.environ.get("WORLD_SIZE", "1")) > 1
    spread = torch.cuda.device_count() > 1 and not shared
    folder = folder_of(source)
    with reading(folder, "its model"):
        # The declared return type is a model, but with output_loading_info a pair is returned.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, source.dtype),
            trust_remote_code=False,
            use_safetensors=True,
            device_map="auto" if spread else None,
            output_loading_info=True,
        )
    model, found = loaded
    # Where several processes share a model, only the first of them has loaded the weights.
    if not (shared and os.environ.get("LOCAL_RANK", "0") != "0"):
        check_weights(model, folder, found["missing_keys"])
    if not (spread or shared):
        model = model.to(device())
    for adapter in adapters:
        model = merged(model, adapter)
    return model.requires_grad_(False)


def check_weights(model: PreTrainedModel, folder: Path, missing: Collection[str]) -> None:
    """Raise ArtifactError where weights are not finite or missing (transformers makes these up)."""
    if missing:
        raise ArtifactError(
            f"{folder}: has no weights for {min(missing)} ({len(missing)} such) of {type(model).__name__}: "
            "the files are incomplete, or another model's"
        )
    name = _not_finite(model)
    if name:
        raise ArtifactError(f"{folder}: {name} holds numbers that are not finite; the files are broken")


def _not_finite(model: PreTrainedModel) -> str | None:
    """The name of a weight that holds a nan or an infinity; None where there is none."""
    import torch

    for name, value in model.named_parameters():
        if value.is_floating_point() and not value.is_meta and value.numel():
            low, high = value.detach().aminmax()  # with a nan, both are nan; this makes no copy
            if not bool(torch.isfinite(low) & torch.isfinite(high)):
                return name
    return None


def merged(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """The model with an adapter merged into it.

    Raises ArtifactError, naming the adapter, where it is not a complete adapter for this model (see
    adapter_files.check), or where the merge changes a few log-probabilities by more than rounding.
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
        raise ArtifactError(f"{adapter}: makes numbers of {name} too large for their type; train the adapter again")
    apart = float((few_logits(whole).log_softmax(-1) - expected).abs().mean()) if expected.numel() else 0.0
    if not apart <= _MERGED_APART[str(whole.dtype).removeprefix("torch.")]:
        raise ArtifactError(
            f"{adapter}: the model with this adapter merged differs from the model that was trained "
            f"({apart:.2g} on average, in log-probability); name fewer layers in lora.layers and train it again"
        )
    return whole
