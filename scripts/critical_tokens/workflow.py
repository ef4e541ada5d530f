"""What the Snakemake rules need from the library: command-line flags, and what stands where."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from critical_tokens.records import expanded
from critical_tokens.versions import code_version as code_version


def flags(**settings: Any) -> str:
    """Settings as quoted command-line flags in the given order: top_p=0.9 is "--top-p 0.9"; None is left out."""
    words: list[str] = []
    for name, value in settings.items():
        if value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name.replace('_', '-')}", *(str(v) for v in values)]
    return shlex.join(words)


def locate_files(config: Mapping[str, Any], project: Path) -> None:
    """Let the config's paths name files as every program finds them, in place.

    "~" becomes the home folder. A relative path that the working directory lacks names the project's own file: so
    `data/models/pocket-s` is found from any working directory, and a file of the user's own comes first.
    """
    datasets = config["dataset_registry"].values()
    splits = [entry[split] for entry in datasets for split in ("train", "validation", "test") if split in entry]
    holders = [(entry, "path") for entry in (*config["model_registry"].values(), *splits)]
    holders += [(entry, key) for entry in datasets for key in ("annotations", "released_pairs")]
    for entry, key in (*holders, (config["published"], "table1")):
        if key not in entry:
            continue
        if entry[key].startswith("~"):
            entry[key] = str(expanded(entry[key]))
        if not Path(entry[key]).exists() and (project / entry[key]).exists():
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
