"""What the header of a GGUF file says about its model, and whether the file is whole.

The header is read here because the readers of transformers and of the package gguf believe every
number in it: a file of a few bytes that states 2**60 entries would keep them busy for ever. Here,
everything that the header states must fit into the file.
The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from critical_tokens.core.records import ArtifactError, Failure

SUFFIX = ".gguf"
CONVERTED = ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json")
"""The files of the folder that a GGUF file is converted to."""
_MAGIC, _VERSIONS = b"GGUF", (2, 3)
# The formats of numbers by their number in the file, and the two kinds of values that are none.
_NUMBERS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_TEXT, _LIST = 8, 9
# More than any model has: entries of a header, entries of a list, and dimensions of a tensor.
_ENTRIES, _MEMBERS, _DIMENSIONS = 1 << 20, 1 << 24, 4
# One of several files that a model is split into.
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf", re.IGNORECASE)
# Tables that llama.cpp computes rotations from; no weights of a model.
_NO_WEIGHTS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about its model.

    architecture: llama.cpp's name of it.
    parameters: the number of weights.
    context: the longest sequence in tokens; None where it is not stated.
    quantisation: llama.cpp's name of the mixture of types; None where it is not stated.
    types: the number of tensors by the name of their type.
    stated: all entries that are numbers or texts, and the lengths of lists.
    """

    architecture: str
    parameters: int
    context: int | None
    quantisation: str | None
    types: Mapping[str, int]
    stated: Mapping[str, Any]

    @property
    def has_tokenizer(self) -> bool:
        """Whether the file holds a vocabulary."""
        return bool(self.stated.get("tokenizer.ggml.tokens"))

    @property
    def has_chat_template(self) -> bool:
        """Whether the file holds a chat template."""
        return bool(self.stated.get("tokenizer.chat_template"))


def is_gguf(path: str) -> bool:
    """Whether a model's path names a GGUF file."""
    return path.lower().endswith(SUFFIX)


def lacks(path: Path, tokenizer: bool) -> list[str]:
    """What a file lacks to be a model, as predicates for messages; empty if it is complete.

    tokenizer: whether the file itself must hold the tokenizer.
    """
    if not path.is_file():
        return ["is a folder; give the file" if path.is_dir() else "does not exist"]
    try:
        found = header(path)
    except ArtifactError as error:
        return [str(error).removeprefix(f"{path}: ")]
    if tokenizer and not found.has_tokenizer:
        return ["has no tokenizer; name the original's in `tokenizer`, a folder or a hub id"]
    return []


@lru_cache
def header(path: Path) -> Header:
    """The header of a GGUF file.

    Raises ArtifactError where the file is no GGUF file, is cut off, is a part of a split model, or
    states what does not fit into it.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(path, _Reader(path, data))
    except ValueError as error:  # an empty file cannot be mapped
        raise _no_gguf(path) from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error


def _no_gguf(path: Path) -> ArtifactError:
    return ArtifactError(f"{path}: is no GGUF file; give a file in this format, or a folder of safetensors")


def _header(path: Path, reader: _Reader) -> Header:
    if reader.data[:4] != _MAGIC:
        raise _no_gguf(path)
    reader.at = 4
    version = reader.number("<I")
    if version not in _VERSIONS:
        raise ArtifactError(f"{path}: has version {version} of the format, must be 2 or 3; convert the model again")
    tensors, entries = reader.count(_ENTRIES), reader.count(_ENTRIES)
    stated: dict[str, Any] = {}
    for _ in range(entries):
        name = reader.text()
        if name in stated:
            raise ArtifactError(f"{path}: states {name[:80]!r} twice, so it is damaged; fetch it again")
        stated[name] = reader.value(int(reader.number("<I")))
    parts = _PART.search(path.name)
    if parts or _number(stated.get("split.count"), 1) > 1:
        count = int(parts[1]) if parts else stated["split.count"]
        what = "merge them with llama-gguf-split --merge, and give the whole"
        raise ArtifactError(f"{path}: is one of {count} files of a split model; {what}")
    architecture = stated.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise ArtifactError(f"{path}: names no architecture (general.architecture); convert the model again")
    shapes = _shapes(path, reader, tensors, _number(stated.get("general.alignment"), 32))
    context = _number(stated.get(f"{architecture}.context_length"), 0)
    weights = {name: shape for name, shape in shapes.items() if name not in _NO_WEIGHTS}
    return Header(
        architecture,
        sum(math.prod(shape) for shape, _ in weights.values()),
        context or None,
        _quantisation(stated.get("general.file_type")),
        dict(sorted(Counter(kind for _, kind in weights.values()).items())),
        stated,
    )


def _quantisation(kind: Any) -> str | None:
    from gguf.constants import LlamaFileType

    return next((known.name.removeprefix("MOSTLY_") for known in LlamaFileType if known.value == kind), None)


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def _shapes(path: Path, reader: _Reader, count: int, alignment: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """The shape and the type's name of every tensor, after a check that all are in the file."""
    kinds = _kinds()
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    last = 0
    for _ in range(count):
        name = reader.text()
        if name in found:
            raise ArtifactError(f"{path}: has the tensor {name[:80]!r} twice, so it is damaged; fetch it again")
        shape = tuple(int(reader.number("<Q")) for _ in range(reader.count(_DIMENSIONS, "<I")))
        kind, offset = reader.number("<I"), int(reader.number("<Q"))
        if kind not in kinds:
            what = "which the installed version of the package gguf does not know; take another quantisation"
            raise ArtifactError(f"{path}: {name[:80]!r} has numbers of type {kind}, {what}")
        word, block, size = kinds[int(kind)]
        found[name] = (shape, word)
        last = max(last, offset + math.prod(shape) // block * size)
    if not found:
        raise ArtifactError(f"{path}: holds no weights; give the file of the model, not of its vocabulary")
    needed = -(-reader.at // alignment) * alignment + last
    if needed > len(reader.data):
        what = f"has {len(reader.data):,} bytes, but its tensors need {needed:,}"
        raise ArtifactError(f"{path}: {what}; it is cut off or damaged, so fetch it again")
    return found


def _kinds() -> dict[int, tuple[str, int, int]]:
    """The name, numbers per block and bytes per block of the types of tensors, by their number."""
    try:
        from gguf.constants import GGML_QUANT_SIZES
    except ImportError as error:
        what = "run `make environment` or `pip install -r envs/requirements.txt`"
        raise Failure(f"the package gguf, which models in GGUF files need, is not installed; {what}") from error
    return {int(kind): (kind.name, block, size) for kind, (block, size) in GGML_QUANT_SIZES.items()}


class _Reader:
    """Reads numbers and texts one after the other, never beyond the end of the file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0

    def number(self, form: str) -> Any:
        """The next number, in a format of the module struct."""
        start = self._passed(struct.calcsize(form))
        return struct.unpack_from(form, self.data, start)[0]

    def count(self, most: int, form: str = "<Q") -> int:
        """The next number, which is a number of things of which there are at most `most`."""
        found = int(self.number(form))
        if found > most:
            raise ArtifactError(f"{self.path}: states {found:,} entries where {most:,} are possible; fetch it again")
        return found

    def text(self) -> str:
        """The next text."""
        length = int(self.number("<Q"))
        start = self._passed(length)
        return self.data[start : start + length].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """The next value of this kind; the length of a list."""
        if kind == _TEXT:
            return self.text()
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind != _LIST:
            raise ArtifactError(f"{self.path}: has a value of unknown kind {kind}; it is damaged, so fetch it again")
        member, length = int(self.number("<I")), self.count(_MEMBERS)
        if member in _NUMBERS:
            self._passed(struct.calcsize(_NUMBERS[member]) * length)
        elif member == _TEXT:
            for _ in range(length):
                self._passed(int(self.number("<Q")))
        else:
            raise ArtifactError(f"{self.path}: has a list of unknown kind {member}; it is damaged, so fetch it again")
        return length

    def _passed(self, length: int) -> int:
        """The present place, after a step of `length` bytes forward."""
        start = self.at
        if start + length > len(self.data):
            raise ArtifactError(f"{self.path}: ends within its header; it is cut off or damaged, so fetch it again")
        self.at = start + length
        return start
