"""What the Snakemake rules need from the library: command-line flags, and what stands where."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import Any

from critical_tokens.core.versions import code_version as code_version


def flags(**settings: Any) -> str:
    """Settings as quoted command-line flags in the given order: top_p=0.9 is "--top-p 0.9"; None is
    left out.
    """
    words: list[str] = []
    for name, value in settings.items():
        if value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name.replace('_', '-')}", *(str(v) for v in values)]
    return shlex.join(words)


def visible_gpus() -> int:
    """NVIDIA GPUs of this machine."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
