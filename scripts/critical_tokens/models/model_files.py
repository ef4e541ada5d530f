"""What the folder of a base model holds, without loading it: its size, its context, what it lacks.

Of the weights, only the headers of the safetensors files are read. A header is a JSON object with
the shape and the place of each tensor, and 8 bytes before it state its length
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from critical_tokens.core.records import ArtifactError, read_json

INDEX = "model.safetensors.index.json"
# A tokenizer needs one of these sets of files: of the library tokenizers, of SentencePiece, of
# byte-level BPE, or again of SentencePiece. Files of tiktoken (*.tiktoken) are enough, too.
_TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"), ("spiece.model",))
# The keys under which configs state the longest sequence: the usual key, then those of Whisper,
# MPT and Bloom.
CONTEXT_KEYS = ("max_position_embeddings", "max_target_positions", "max_seq_len", "seq_length")
# The longest header (bytes); this is the limit of safetensors itself.
_LONGEST_HEADER = 100_000_000


def parameters(folder: Path) -> int:
    """The number of parameters in a folder, from the headers of its weight files.

    Raises ArtifactError for broken files.
    """
    return sum(
        math.prod(tensor["shape"])
        for path in _weight_files(folder)
        for name, tensor in _header(path).items()
        if name != "__metadata__"
    )


def longest(folder: Path) -> int | None:
    """The longest sequence that a folder's config states, in tokens; None where it states none.

    Raises ArtifactError for a config that is no JSON object.
    """
    config = _config(folder)
    text = config.get("text_config")
    levels = [text, config] if isinstance(text, Mapping) else [config]
    found = (level.get(key) for level in levels for key in CONTEXT_KEYS)
    return next((length for length in found if isinstance(length, int) and length > 0), None)


def lacks(folder: Path) -> list[str]:
    """What a folder lacks to be a base model, as predicates for messages; empty if complete."""
    if not folder.exists():
        return ["does not exist"]
    if not folder.is_dir():
        return ["is a file; give the folder that holds the model"]
    if not any(folder.iterdir()):
        return ["is empty"]
    found: list[str] = []
    for check in (_config_lacks, _weights_lack, tokenizer_lacks):
        try:
            found += check(folder)
        except ArtifactError as error:
            found.append(f"is broken: {error}")
    return found


def _config_lacks(folder: Path) -> Iterable[str]:
    if not (folder / "config.json").is_file():
        yield "has no config.json"
    elif "model_type" not in _config(folder):
        yield "has a config.json without model_type"


def _weights_lack(folder: Path) -> Iterable[str]:
    if not _weight_files(folder):
        others = any(folder.glob("*.bin")) or any(folder.glob("*.pth"))
        what = "; pickled weights are not loaded, because they may run code" if others else ""
        yield f"has no weights (model.safetensors){what}"
    elif parameters(folder) == 0:
        yield "has weights without numbers"


def tokenizer_lacks(folder: Path) -> Iterable[str]:
    """What a folder lacks to hold a tokenizer, as predicates for messages."""
    has = any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS) or any(
        folder.glob("*.tiktoken")
    )
    if not has:
        yield f"has no tokenizer ({' or '.join(' with '.join(names) for names in _TOKENIZERS)})"
    elif not _has_end(folder):
        yield "names no token that ends an answer; set eos_token in its tokenizer_config.json"


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer in a folder has a chat template."""
    stated = folder / "tokenizer_config.json"
    return (
        (folder / "chat_template.jinja").is_file()
        or (folder / "chat_template.json").is_file()
        or (stated.is_file() and bool(_object(stated).get("chat_template")))
    )


def _has_end(folder: Path) -> bool:
    """Whether any file of the folder names an EOS token.

    If several files do, `checkpoints.end_ids` decides later which of the tokens count.
    """
    for name in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json"):
        if (folder / name).is_file():
            stated = _object(folder / name)
            text = stated.get("text_config")
            levels = [stated, text] if isinstance(text, Mapping) else [stated]
            if any(level.get(key) not in (None, "", []) for level in levels for key in ("eos_token", "eos_token_id")):
                return True
    return False


def _weight_files(folder: Path) -> list[Path]:
    """The weight files: the single file, the files in the index, or all safetensors files."""
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    if (folder / INDEX).is_file():
        named = _object(folder / INDEX).get("weight_map")
        if not isinstance(named, Mapping) or not named:
            raise ArtifactError(f"{folder / INDEX}: has no weight_map")
        files = [folder / str(name) for name in dict.fromkeys(named.values())]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise ArtifactError(
                f"{INDEX} names {missing[0]}, which is not there ({len(missing)} of {len(files)} missing)"
            )
        return files
    return sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_"))


@lru_cache
def _header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file; ArtifactError where it does not fit the file's size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise ArtifactError(f"{path.name} is no safetensors file, or it is cut off")
        try:
            header = json.loads(file.read(length))
            end = max(
                (tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0
            )
            shapes = [math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise ArtifactError(
                f"{path.name} is no safetensors file (its header cannot be read: {type(error).__name__})"
            ) from error
    if size != 8 + length + end or any(not isinstance(n, int) or n < 0 for n in shapes):
        raise ArtifactError(f"{path.name} has {size} bytes, must have {8 + length + end}: it is cut off or damaged")
    return header


def _config(folder: Path) -> dict[str, Any]:
    return _object(folder / "config.json")


def _object(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except OSError as error:
        raise ArtifactError(f"{path.name}: cannot be read ({os.strerror(error.errno or 0)})") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path.name}: is no JSON object")
    return found
