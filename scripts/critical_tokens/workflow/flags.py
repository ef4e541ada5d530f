"""What the Snakemake rules need from the library: flags, GPUs of the machine, code versions."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import Any

from critical_tokens.core.versions import code_version as code_version


def flags(**settings: Any) -> str:
    """Settings as quoted command-line flags, in the given order, without those that are None.

    For example, top_p=0.9 becomes "--top-p 0.9".
    """
    words: list[str] = []
    for name, value in settings.items():
        if value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name.replace('_', '-')}", *(str(v) for v in values)]
    return shlex.join(words)


def visible_gpus() -> int:
    """The number of NVIDIA GPUs of this machine; 0 if nvidia-smi is not installed."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
