"""What the Snakemake rules need from the library: command-line flags, and what stands where."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from critical_tokens.records import Failure
from critical_tokens.versions import code_version as code_version


@contextmanager
def refusing() -> Iterator[None]:
    """End Snakemake with the message of a Failure alone, without the lines of the rules that Snakemake adds to exceptions."""
    try:
        yield
    except Failure as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(1)


@contextmanager
def warning() -> Iterator[None]:
    """Print the message of a Failure and go on; the same message once."""
    try:
        yield
    except Failure as error:
        if str(error) not in _TOLD:
            _TOLD.add(str(error))
            print(f"warning: {error}", file=sys.stderr)


_TOLD: set[str] = set()


def flags(**settings: Any) -> str:
    """Settings as quoted command-line flags in the given order: top_p=0.9 is "--top-p 0.9"; None is left out."""
    words: list[str] = []
    for name, value in settings.items():
        if value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name.replace('_', '-')}", *(str(v) for v in values)]
    return shlex.join(words)


def locate_files(config: Mapping[str, Any], project: Path) -> None:
    """Let the config's relative paths that the working directory lacks name the project's own files, in place.

    So `data/models/pocket-s` is found from any working directory, and a file of the user's own comes first.
    """
    datasets = config["dataset_registry"].values()
    splits = [entry[split] for entry in datasets for split in ("train", "validation", "test") if split in entry]
    holders = [(entry, "path") for entry in (*config["model_registry"].values(), *splits)]
    holders += [(entry, key) for entry in datasets for key in ("annotations", "released_pairs")]
    for entry, key in (*holders, (config["published"], "table1")):
        if key in entry and not Path(entry[key]).exists() and (project / entry[key]).exists():
            entry[key] = str(project / entry[key])


def on_hub(path: str) -> bool:
    """Whether a model's path names a hub repository: owner/name, and no folder of that name."""
    return bool(re.fullmatch(r"[\w.-]*\w/[\w.-]+", path)) and not Path(path).is_dir()


def visible_gpus() -> int:
    """NVIDIA GPUs of this machine."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
