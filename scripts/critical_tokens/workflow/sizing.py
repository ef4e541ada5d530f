"""What every stage needs: GPUs, memory, time and tokens, from the model's size and the settings.

The formulas are rough estimates. The rules request their resources by them, and `snakemake plan`
adds them up. Sizes are in GB (1e9 bytes). Times are in hours of one GPU, or of a machine without
one.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critical_tokens.core.records import ROW_GROUP
from critical_tokens.grading import limits
from critical_tokens.models import gguf_files, model_files
from critical_tokens.workflow.selections import BASE, UNTRAINED

# Operations per token and parameter. A forward pass takes 2, and so does a backward pass through a
# base model's weights, which have no gradients. Gradient checkpointing repeats the forward pass.
FORWARD = BACKWARD = 2.0
# Tokens of a prompt, the share of max_new_tokens that an answer uses, and the probability that a
# continuation leaves a trajectory at a token.
PROMPT_TOKENS, ANSWER_SHARE, LEAVING = 150, 0.4, 0.05
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
# Assumed number of problems of a dataset of unknown length.
UNKNOWN_ROWS = 10_000
# Jobs of a model with smaller weights than this ask for no GPU, whatever its entry says.
SMALL_GB = 0.5
# Models with fewer parameters work faster in several jobs of one thread than in one job of several
# threads (docs/bench/threads.py). Jobs of the others have all cores of a machine or, on a cluster
# and beside a GPU, as many cores as loading and tokenising can use.
SMALL_PARAMETERS, NODE_CORES = 8e6, 8
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


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


# --- tokens of a cell


@dataclass(frozen=True)
class Work:
    """The work of one rule, for one method if it has methods, in one cell.

    name: the rule, followed by the method.
    kind: sample, score or train; none for work without a model.
    jobs: the number of jobs.
    tokens: tokens that all jobs together generate, score or train on.
    read: tokens that a job that generates reads.
    operations: operations per token and parameter.
    """

    name: str
    kind: str
    jobs: int
    tokens: float
    read: float = 0.0
    operations: float = FORWARD


def cell_work(config: Mapping[str, Any], dataset: Mapping[str, Any], rows: tuple[int, int]) -> list[Work]:
    """The work of all rules in one cell.

    dataset: its entry in the registry.
    rows: the numbers of its train and test problems.
    """
    sampling, rolling = config["trajectories"], config["rollouts"]
    contrast, alignment = config["contrast"], config["alignment"]
    length = ANSWER_SHARE * dataset["max_new_tokens"]
    problems = min(rows[0], sampling["problems"] or rows[0])
    examined = min(problems, rolling["trajectories"] or problems)
    # The number of tokens after a position, summed over all positions of an answer.
    behind = length * length / 2
    continued = {
        "independent": rolling["samples"] * behind,
        "coupled": rolling["samples"] * LEAVING * behind,
        "stratified": rolling["stratified"]["branches"] * LEAVING * behind,
    }[rolling["method"]]
    text = PROMPT_TOKENS + length
    drawn = examined * 2 * rolling["replacement_draws"] * length / 2
    # Answers of one problem each, and pairs, which share their prompt where they are packed.
    answers, pairs = problems * text, problems * (2 * text - alignment["packing"] * PROMPT_TOKENS)
    fitted = 2 * answers * contrast["epochs"]
    work = [
        Work("sample", "sample", sampling["shards"], problems * sampling["samples"] * length, problems * PROMPT_TOKENS),
        Work("grade", "none", sampling["shards"], 0),
        Work("score_rollouts", "sample", rolling["shards"], examined * continued, examined * text),
        Work("replace_critical", "sample", 1, drawn, examined * text),
        Work("train_contrast", "train", 2, fitted, operations=_training(contrast)),
        Work("score_contrast", "score", 1, 2 * answers, operations=2 * FORWARD),
        Work("score_base_reference", "score", 1, pairs),
    ]
    if any(config["method_registry"][method].get("weights") == "rollouts" for method in config["methods"]):
        labelled = problems * rolling["label_branches"] * LEAVING * behind
        work.append(Work("label_rollouts", "sample", 1, labelled, answers))
    starts = dict.fromkeys(config["method_registry"][method]["start"] for method in config["methods"])
    work += [Work(f"score_reference {start}", "score", 1, pairs) for start in starts if start != BASE]
    tested = min(rows[1], config["evaluation"]["problems"] or rows[1])
    for method in config["methods"]:
        entry = alignment | config["method_registry"][method]
        seeds = len(config["seeds"]) if entry["objective"] != UNTRAINED else 1
        asked = seeds * tested * PROMPT_TOKENS
        work.append(Work(f"evaluate_method {method}", "sample", seeds, seeds * tested * length, asked))
        if entry["objective"] != UNTRAINED:
            trained = seeds * entry["epochs"] * (answers if entry["objective"] == "nll" else pairs)
            work.append(Work(f"align {method}", "train", seeds, trained, operations=_training(entry)))
    return work


def _training(settings: Mapping[str, Any]) -> float:
    """Operations per token and parameter of training an adapter."""
    return FORWARD * (1 + settings["gradient_checkpointing"]) + BACKWARD


def work_of(config: Mapping[str, Any], dataset: str, name: str, method: str) -> Work:
    """The work called `name` in a cell.

    method: its method, which need not be selected (those of studies and of `tuning` are not).
    """
    entry = config["dataset_registry"][dataset]
    found = cell_work({**config, "methods": [method]}, entry, dataset_rows(entry))
    return next(work for work in found if work.name == name)


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


def dataset_rows(dataset: Mapping[str, Any]) -> tuple[int, int]:
    """The numbers of train and test problems of a dataset; UNKNOWN_ROWS where one is not known."""
    sources = (dataset.get(split, {}) for split in ("train", "test"))
    train, test = (source.get("problems") or source.get("rows") or UNKNOWN_ROWS for source in sources)
    return train, test
