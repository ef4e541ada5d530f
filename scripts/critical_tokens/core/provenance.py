"""The small `*.meta.json` beside every artifact: what made it, from what, with what, and what it
took.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from critical_tokens.core import records

_LIBRARIES = ("torch", "transformers", "peft", "vllm", "datasets", "pyarrow", "numpy")


class Run:
    """One run of a program. Made at its start, it writes a meta file for each artifact."""

    def __init__(self, program: str, args: argparse.Namespace) -> None:
        self._program = program
        self._args = {name: _plain(value) for name, value in sorted(vars(args).items())}
        self._inputs = {_plain(v): checksum(v) for v in vars(args).values() if isinstance(v, Path) and v.is_file()}
        self._start = time.monotonic()

    def describe(self, artifact: Path, **facts: Any) -> None:
        """Write the meta file of an artifact; `facts` are what only the program knows (tokens
        generated, device …).
        """
        meta = {
            "program": self._program,
            "settings": self._args,
            "inputs": self._inputs,
            "versions": {"python": platform.python_version()} | libraries(),
            "machine": platform.machine(),
            "checksum": checksum(artifact),
            "wall_seconds": round(time.monotonic() - self._start, 3),
            **facts,
        }
        records.write_json(meta_path(artifact), meta)


def meta_path(artifact: Path) -> Path:
    """Where the meta file of an artifact lies: trajectories.parquet has trajectories.meta.json."""
    return artifact.with_name(artifact.stem + ".meta.json")


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        # Under a locale that is not UTF-8 names hold surrogates in the place of bytes.
        return os.fsencode(value).decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value


def libraries() -> dict[str, str]:
    """The installed versions of the libraries that results depend on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
