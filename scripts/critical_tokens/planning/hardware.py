"""The hardware of a cluster and of this machine: how much there is, and how fast it computes."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# How much faster bfloat16 is than float32 on a processor that has instructions for it, and on one
# that has not.
BFLOAT16, BFLOAT16_EMULATED = 2.5, 0.15


@dataclass(frozen=True)
class Speed:
    """How fast a GPU, or a machine without one, computes.

    operations: the most operations per second.
    sample, score, train: the shares of it that decoding in large batches, teacher-forced scoring
        and training reach.
    """

    operations: float
    sample: float
    score: float
    train: float


# An A100 with bfloat16, and the shares that processors reach, of which only that of sampling was
# checked with a run (docs/questions/real-model.md).
GPU = Speed(312e12, 0.1, 0.3, 0.3)
PROCESSOR_SHARES = (0.5, 0.8, 0.6)


@dataclass(frozen=True)
class Hardware:
    """The hardware of the cluster; None for what is not known.

    gpu_memory_gb: memory of a GPU.
    gpus_per_node: GPUs of a node.
    node_memory_gb: memory of a node.
    longest_minutes: the longest time limit that a job may ask for.
    """

    gpu_memory_gb: float | None
    gpus_per_node: int | None
    node_memory_gb: float | None = None
    longest_minutes: int | None = None


def hardware_of(config: Mapping[str, Any]) -> Hardware:
    """The hardware that the config states."""
    return Hardware(*(config[key] for key in ("gpu_memory_gb", "gpus_per_node", "node_memory_gb", "longest_minutes")))


def visible_gpus() -> int:
    """The number of NVIDIA GPUs of this machine; 0 if nvidia-smi is not installed."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def processor(dtype: str) -> Speed:
    """How fast this machine computes in a dtype with the threads of this job.

    A short trial in float32 tells it.
    """
    import numpy as np

    # The shape of a layer of a small model with many tokens. One product takes about 0.1 s.
    rows, columns = np.ones((1024, 896), np.float32), np.ones((896, 4864), np.float32)
    times = []
    for _ in range(4):
        start = time.monotonic()
        rows @ columns
        times.append(time.monotonic() - start)
    float32 = 2 * rows.size * columns.shape[1] / min(times)
    return Speed(float32 * (1.0 if dtype == "float32" else bfloat16_gain()), *PROCESSOR_SHARES)


def bfloat16_gain() -> float:
    """How much faster this machine's processor computes in bfloat16 than in float32."""
    facts = Path("/proc/cpuinfo")
    flags = facts.read_text(encoding="utf-8").split() if facts.is_file() else []
    return BFLOAT16_EMULATED if {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags) else BFLOAT16
