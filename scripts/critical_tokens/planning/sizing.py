"""What every stage needs: GPUs, memory, time and tokens, from the model's size and the settings.

The formulas are rough estimates. The rules request their resources by them, and `snakemake plan`
adds them up. Sizes are in GB (1e9 bytes). Times are in hours of one GPU, or of a machine without
one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from critical_tokens.core.records import ROW_GROUP
from critical_tokens.grading import limits
from critical_tokens.models import gguf_files, model_files
from critical_tokens.planning.cell_work import FORWARD, Work, work_of
from critical_tokens.planning.hardware import GPU, Hardware, Speed, hardware_of

# The share of a GPU's memory that the weights may fill for sampling, which leaves the rest to the
# key-value cache, and the memory that training takes beside the weights on every GPU.
SAMPLING_FILL, TRAINING_EXTRA_GB = 0.8, 16.0
# Memory of the conversion of a GGUF file: the program with its libraries and the file, and the
# copies of the weights that it holds while it writes them.
CONVERSION_MB, CONVERSION_COPIES = 1500, 2.0
# Minutes that a job needs to start, and to load the model, per GB of weights.
STARTING_MINUTES, LOADING_MINUTES_PER_GB = 0.25, 0.1
# Bytes of a stored token with its text, compressed, and the size of an adapter with the state of
# its optimiser as a share of the weights.
BYTES_PER_TOKEN, ADAPTER_SHARE = 4.0, 0.02
# Memory of a program that grades or selects answers: the program with its libraries, and each token
# of the answers that it holds. A token takes the bytes of its text, or 4 bytes for its id in the
# batch, in three sets and in their copies while they are written (docs/bench/memory.py).
PROGRAM_MB, BYTES_PER_HELD_TOKEN = 300, 32
# Jobs of a model with smaller weights than this ask for no GPU, whatever its entry says.
SMALL_GB = 0.5
# Models with fewer parameters work faster in several jobs of one thread than in one job of several
# threads (docs/bench/threads.py). Jobs of the others have all cores of a machine or, on a cluster
# and beside a GPU, as many cores as loading and tokenising can use.
SMALL_PARAMETERS, NODE_CORES = 8e6, 8
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def parameters(entry: Mapping[str, Any]) -> float:
    """The number of parameters of a registered model, from its entry or from its files.

    Of a GGUF file it is known before the conversion.
    """
    if "parameters" in entry:
        return entry["parameters"]
    if "gguf" in entry:
        return gguf_files.header(Path(entry["gguf"])).parameters
    return model_files.parameters(Path(entry["path"]))


def weights_gb(entry: Mapping[str, Any]) -> float:
    """The size of the weights of a registered model, in GB."""
    return parameters(entry) * BYTES[entry.get("dtype", "float32")] / 1e9


def is_small(entry: Mapping[str, Any]) -> bool:
    """Whether jobs of a model have one thread each."""
    return parameters(entry) < SMALL_PARAMETERS


def gpus(entry: Mapping[str, Any], stage: str) -> int:
    """The GPUs of one job of a stage (sample, score or train); 0 for a pocket model."""
    if weights_gb(entry) < SMALL_GB:
        return 0
    if stage == "train":
        return entry.get("processes", 1)
    return entry.get("tensor_parallel", 1)


def gpu_memory_gb(entry: Mapping[str, Any], stage: str) -> float:
    """The memory in GB that a job of a stage needs on each of its GPUs."""
    share = weights_gb(entry) / max(1, gpus(entry, stage))
    return share + TRAINING_EXTRA_GB if stage == "train" else share / SAMPLING_FILL


def misfits(name: str, entry: Mapping[str, Any], hardware: Hardware) -> list[str]:
    """Sentences that say how a model does not fit the hardware, and what to change."""
    found = []
    stages = (("sample", "sampling", "tensor_parallel"), ("train", "training", "processes"))
    for stage, work, key in stages:
        count, need = gpus(entry, stage), gpu_memory_gb(entry, stage)
        if not count:
            continue
        if hardware.gpus_per_node and count > hardware.gpus_per_node:
            what = f"a node has only {hardware.gpus_per_node} GPUs (gpus_per_node)"
            found.append(f"model_registry: {name}: {key} is {count}, but {what}")
        elif hardware.gpu_memory_gb and need > hardware.gpu_memory_gb:
            there = f"{hardware.gpu_memory_gb:.0f} (gpu_memory_gb)"
            what = f"{work} needs {need:.0f} GB of each GPU, which has only {there}"
            remedy = f"raise {key}, use larger GPUs, or remove the model from `models`"
            found.append(f"model_registry: {name}: {key} is {count}, so {what}; {remedy}")
    loading = memory_mb(entry, 1, Hardware(None, None)) / 1000
    if hardware.node_memory_gb and loading > hardware.node_memory_gb:
        what = f"a job that loads it needs {loading:.0f} GB of memory, but a node has {hardware.node_memory_gb:.0f}"
        found.append(f"model_registry: {name}: {what} (node_memory_gb)")
    return found


def launcher(entry: Mapping[str, Any]) -> str:
    """The command that starts a training: python, or accelerate for several processes."""
    count = entry.get("processes", 1)
    if count == 1:
        return "python"
    # The processes share the job's threads.
    threads = f"OMP_NUM_THREADS=$(( (OMP_NUM_THREADS + {count - 1}) / {count} )) "
    device = "" if gpus(entry, "train") else "ACCELERATE_USE_CPU=true "
    return (
        f"{threads}{device}accelerate launch --num_processes {count} --num_machines 1 --main_process_port 0"
        " --mixed_precision no --dynamo_backend no --use_fsdp --fsdp_version 2"
        " --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP --fsdp_state_dict_type FULL_STATE_DICT"
    )


def gpu_hours(entry: Mapping[str, Any], work: Work) -> float:
    """GPU hours of all jobs together, with the time to load the model; 0 for a pocket model."""
    count = gpus(entry, work.kind)
    if work.kind == "none" or not count:
        return 0.0
    return computing_hours(entry, work, GPU) + work.jobs * count * LOADING_MINUTES_PER_GB * weights_gb(entry) / 60


def machine_hours(entry: Mapping[str, Any], work: Work, speed: Speed) -> float:
    """Hours of all jobs, one by one, on a machine without a GPU; 0 for work without a model."""
    if work.kind == "none":
        return 0.0
    starting = STARTING_MINUTES + LOADING_MINUTES_PER_GB * weights_gb(entry)
    return computing_hours(entry, work, speed) + work.jobs * starting / 60


def computing_hours(entry: Mapping[str, Any], work: Work, speed: Speed) -> float:
    """Hours of the arithmetic of all jobs."""
    shares = {"sample": speed.sample, "score": speed.score, "train": speed.train}
    weighed = work.tokens * work.operations / shares[work.kind] + work.read * FORWARD / speed.score
    return weighed * parameters(entry) / speed.operations / 3600


def minutes(entry: Mapping[str, Any], work: Work, attempt: int, hardware: Hardware) -> int:
    """The time limit of one job in minutes: a quarter of an hour and three times the expected time.

    Every further attempt adds the same time again. The limit never exceeds the longest time that
    the cluster allows, because a cluster refuses such jobs.
    """
    expected = 60 * gpu_hours(entry, work) / work.jobs / max(1, gpus(entry, work.kind))
    return min(attempt * math.ceil(15 + 3 * expected), hardware.longest_minutes or 10**9)


def job_minutes(config: Mapping[str, Any], model: str, dataset: str, name: str, method: str, attempt: int) -> int:
    """The time limit in minutes of a job of `work_of`, see `minutes`."""
    work = work_of(config, dataset, name, method)
    return minutes(config["model_registry"][model], work, attempt, hardware_of(config))


def memory_mb(entry: Mapping[str, Any], attempt: int, hardware: Hardware) -> int:
    """The host memory in MB of a job that loads the model, because the weights pass through it.

    Every further attempt asks for more, up to the memory of a node.
    """
    return int(min(attempt * math.ceil(4000 + 1200 * weights_gb(entry)), _node_mb(hardware)))


def conversion_memory_mb(entry: Mapping[str, Any], attempt: int, hardware: Hardware) -> int:
    """The memory in MB of the job that converts a GGUF file into a model folder.

    Every further attempt asks for more, up to the memory of a node.
    """
    return int(
        min(attempt * math.ceil(CONVERSION_MB + 1000 * CONVERSION_COPIES * weights_gb(entry)), _node_mb(hardware))
    )


def batch_memory_mb(batch_rows: int, longest: int, grading: bool, attempt: int, hardware: Hardware) -> int:
    """The memory in MB of a job that reads answers in batches and writes them in row groups.

    batch_rows: answers of a batch. longest: the most tokens of an answer.
    grading: whether the job grades, with worker processes of which one may reach its limit.
    attempt: every further attempt asks for more, up to the memory of a node.
    """
    workers_gb = limits.WORKERS * limits.IDLE_GB + limits.MEMORY_GB if grading else 0.0
    held = (batch_rows + ROW_GROUP) * longest * BYTES_PER_HELD_TOKEN
    expected = PROGRAM_MB + held / 1e6 + 1000 * workers_gb
    return int(min(attempt * math.ceil(expected), _node_mb(hardware)))


def _node_mb(hardware: Hardware) -> float:
    return math.inf if hardware.node_memory_gb is None else 1000 * hardware.node_memory_gb
