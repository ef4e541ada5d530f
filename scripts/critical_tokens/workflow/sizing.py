"""What a stage takes: GPUs, memory, minutes and tokens, from a model's size and the settings, by
stated formulas.

Rough on purpose, and in one place: the rules ask for resources by it, and `snakemake plan` adds it
up. Sizes are in GB (1e9 bytes), times in hours of one GPU.
"""

from __future__ import annotations

import ast
import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from critical_tokens.core.records import ROW_GROUP, ArtifactError
from critical_tokens.grading import limits
from critical_tokens.models import model_files

# Arithmetic of a token per parameter: forward 2; training an adapter 2 forward and 2 backward (the
# base model's gradients are not taken), and 2 more for the forward pass that checkpointing repeats.
FORWARD, TRAINING = 2.0, 6.0
# Peak arithmetic of a GPU in operations per second (A100, bf16), and the shares of it that decoding
# in large batches, teacher-forced scoring and training reach.
PEAK = 312e12
DECODING_SHARE, SCORING_SHARE, TRAINING_SHARE = 0.1, 0.3, 0.3
# Tokens of a prompt; share of max_new_tokens that an answer has; probability of leaving a
# trajectory at a token.
PROMPT_TOKENS, ANSWER_SHARE, LEAVING = 150, 0.4, 0.05
# Memory: what sampling leaves for keys and values, what training takes beside the weights on every
# GPU.
SAMPLING_FILL, TRAINING_EXTRA_GB = 0.8, 16.0
# Minutes of every job before work begins, per GB of weights.
LOADING_MINUTES_PER_GB = 0.1
# Bytes of a stored token with its text, compressed; an adapter's share of the weights.
BYTES_PER_TOKEN, ADAPTER_SHARE = 4.0, 0.02
# Memory of a program that grades or selects answers: itself with its libraries, and a token of an
# answer that it holds: its id (4 bytes) in the batch, in three sets and in their copies while they
# are written, or its text (docs/bench/memory.py).
PROGRAM_MB, BYTES_PER_HELD_TOKEN = 300, 32
# Problems of a dataset that says nothing about its length.
UNKNOWN_ROWS = 10_000
# Models below this run on the CPU when no GPU is named for them.
SMALL_GB = 0.5
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Hardware:
    """What a GPU holds, how many share a node, its memory, and the longest job allowed; None where
    nothing is known.
    """

    gpu_memory_gb: float | None
    gpus_per_node: int | None
    node_memory_gb: float | None = None
    longest_minutes: int | None = None


def parameters(entry: Mapping[str, Any]) -> float:
    """Parameters of a registered model: as many as it says, or as the weights in its folder have."""
    return entry["parameters"] if "parameters" in entry else model_files.parameters(Path(entry["path"]))


def weights_gb(entry: Mapping[str, Any]) -> float:
    """Weights of a registered model."""
    return parameters(entry) * BYTES[entry.get("dtype", "float32")] / 1e9


def gpus(entry: Mapping[str, Any], stage: str) -> int:
    """GPUs of one job of a stage: sample, score or train. A pocket model needs none."""
    if weights_gb(entry) < SMALL_GB:
        return 0
    if stage == "train":
        return entry.get("processes", 1)
    return entry.get("tensor_parallel", 1)


def gpu_memory_gb(entry: Mapping[str, Any], stage: str) -> float:
    """Memory that one GPU of a job needs."""
    share = weights_gb(entry) / max(1, gpus(entry, stage))
    return share + TRAINING_EXTRA_GB if stage == "train" else share / SAMPLING_FILL


def misfits(name: str, entry: Mapping[str, Any], hardware: Hardware) -> list[str]:
    """What to change where a model does not fit the hardware; nothing where it does, or where
    nothing is known of it.
    """
    found = []
    keys = {"sample": "tensor_parallel", "train": "processes"}
    for stage, key in keys.items():
        count, need = gpus(entry, stage), gpu_memory_gb(entry, stage)
        if not count:
            continue
        if hardware.gpus_per_node and count > hardware.gpus_per_node:
            found.append(
                f"model_registry: {name}: {key} is {count}, but a node has {hardware.gpus_per_node} GPUs (gpus_per_node)"
            )
        elif hardware.gpu_memory_gb and need > hardware.gpu_memory_gb:
            found.append(
                f"model_registry: {name}: {key} is {count}, so to {stage} takes {need:.0f} GB of each GPU, which has "
                f"{hardware.gpu_memory_gb:.0f} (gpu_memory_gb); raise {key}, take larger GPUs, or leave it out of `models`"
            )
    loading = memory_mb(entry, 1, Hardware(None, None)) / 1000
    if hardware.node_memory_gb and loading > hardware.node_memory_gb:
        what = f"a job that loads it takes {loading:.0f} GB of memory, but a node has {hardware.node_memory_gb:.0f}"
        found.append(f"model_registry: {name}: {what} (node_memory_gb)")
    return found


def hardware_of(config: Mapping[str, Any]) -> Hardware:
    """What the config says of the hardware."""
    return Hardware(*(config[key] for key in ("gpu_memory_gb", "gpus_per_node", "node_memory_gb", "longest_minutes")))


# --- tokens of a cell


@dataclass(frozen=True)
class Work:
    """Jobs and tokens of what one rule (with its method) does in one cell.

    `kind`: sample, score, train, or none for work without a model.
    """

    name: str
    kind: str
    jobs: int
    tokens: float


def cell_work(config: Mapping[str, Any], dataset: Mapping[str, Any], rows: tuple[int, int]) -> list[Work]:
    """What the rules of one cell generate, score and train. `rows`: train and test problems."""
    sampling, rolling = config["trajectories"], config["rollouts"]
    length = ANSWER_SHARE * dataset["max_new_tokens"]
    problems = min(rows[0], sampling["problems"] or rows[0])
    examined = min(problems, rolling["trajectories"] or problems)
    behind = length * length / 2  # tokens behind every position of an answer
    continued = {
        "independent": rolling["samples"] * behind,
        "coupled": rolling["samples"] * LEAVING * behind,
        "stratified": rolling["stratified"]["branches"] * LEAVING * behind,
    }[rolling["method"]]
    text = PROMPT_TOKENS + length
    work = [
        Work("sample", "sample", sampling["shards"], problems * sampling["samples"] * length),
        Work("grade", "none", sampling["shards"], 0),
        Work("score_rollouts", "sample", rolling["shards"], examined * continued),
        Work(
            "replace_critical", "sample", 1, examined * (rolling["samples"] + rolling["replacement_draws"]) * length / 2
        ),
        Work("train_contrast", "train", 2, 2 * problems * text * config["contrast"]["epochs"]),
        Work("score_contrast", "score", 1, 2 * problems * text),
        Work("score_base_reference", "score", 1, 2 * problems * text),
    ]
    if any(config["method_registry"][method].get("weights") == "rollouts" for method in config["methods"]):
        labelled = problems * rolling["label_branches"] * LEAVING * behind
        work.append(Work("label_rollouts", "sample", 1, labelled))
    starts = dict.fromkeys(config["method_registry"][method]["start"] for method in config["methods"])
    work += [Work(f"score_reference {start}", "score", 1, 2 * problems * text) for start in starts if start != "base"]
    tested = min(rows[1], config["evaluation"]["problems"] or rows[1])
    for method in config["methods"]:
        entry = config["alignment"] | config["method_registry"][method]
        seeds = len(config["seeds"]) if entry["objective"] != "none" else 1
        work.append(Work(f"evaluate_method {method}", "sample", seeds, seeds * tested * length))
        if entry["objective"] != "none":
            answers = 1 if entry["objective"] == "nll" else 2
            work.append(Work(f"align {method}", "train", seeds, seeds * answers * problems * text * entry["epochs"]))
    return work


def work_of(config: Mapping[str, Any], dataset: str, name: str, method: str) -> Work:
    """The work of that name in a cell. `method` may be outside the selection: a control, or a rate of the search."""
    entry = config["dataset_registry"][dataset]
    found = cell_work({**config, "methods": [method]}, entry, dataset_rows(entry))
    return next(work for work in found if work.name == name)


def launcher(entry: Mapping[str, Any]) -> str:
    """The command that starts a training program: Python, or several processes that share the model (FSDP)."""
    count = entry.get("processes", 1)
    if count == 1:
        return "python"
    device = "" if gpus(entry, "train") else "ACCELERATE_USE_CPU=true "
    return (
        f"{device}accelerate launch --num_processes {count} --num_machines 1 --main_process_port 0"
        " --mixed_precision no --dynamo_backend no --use_fsdp --fsdp_version 2"
        " --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP --fsdp_state_dict_type FULL_STATE_DICT"
    )


def gpu_hours(entry: Mapping[str, Any], work: Work) -> float:
    """Hours of one GPU, all jobs together, loading of the weights included. Nothing for a pocket
    model, which needs no GPU.
    """
    count = gpus(entry, work.kind)
    if work.kind == "none" or not count:
        return 0.0
    arithmetic, share = {
        "sample": (FORWARD, DECODING_SHARE),
        "score": (FORWARD, SCORING_SHARE),
        "train": (TRAINING, TRAINING_SHARE),
    }[work.kind]
    seconds = work.tokens * arithmetic * parameters(entry) / (PEAK * share)
    return seconds / 3600 + work.jobs * count * LOADING_MINUTES_PER_GB * weights_gb(entry) / 60


def minutes(entry: Mapping[str, Any], work: Work, attempt: int, hardware: Hardware) -> int:
    """Time limit of one job: three times what is expected and a quarter of an hour, and as much
    more with every attempt.

    Never more than the hardware allows: a cluster refuses such jobs.
    """
    expected = 60 * gpu_hours(entry, work) / work.jobs / max(1, gpus(entry, work.kind))
    return min(attempt * math.ceil(15 + 3 * expected), hardware.longest_minutes or 10**9)


def job_minutes(config: Mapping[str, Any], model: str, dataset: str, name: str, method: str, attempt: int) -> int:
    """Time limit of the job with that work in a cell, see `minutes` and `work_of`."""
    work = work_of(config, dataset, name, method)
    return minutes(config["model_registry"][model], work, attempt, hardware_of(config))


def memory_mb(entry: Mapping[str, Any], attempt: int, hardware: Hardware) -> int:
    """Host memory of a job that loads the model: the weights pass through it. More with every
    attempt, if a node has it.
    """
    return int(min(attempt * math.ceil(4000 + 1200 * weights_gb(entry)), _node_mb(hardware)))


def batch_memory_mb(batch_rows: int, longest: int, grading: bool, attempt: int, hardware: Hardware) -> int:
    """Memory of a job that reads `batch_rows` answers of up to `longest` tokens at a time, and
    writes row groups of them.

    Where it grades, worker processes stand beside it, of which one may reach its limit. A later
    attempt asks for more, if a node has it.
    """
    workers_gb = limits.WORKERS * limits.IDLE_GB + limits.MEMORY_GB if grading else 0.0
    held = (batch_rows + ROW_GROUP) * longest * BYTES_PER_HELD_TOKEN
    expected = PROGRAM_MB + held / 1e6 + 1000 * workers_gb
    return int(min(attempt * math.ceil(expected), _node_mb(hardware)))


def _node_mb(hardware: Hardware) -> float:
    return math.inf if hardware.node_memory_gb is None else 1000 * hardware.node_memory_gb


def dataset_rows(dataset: Mapping[str, Any]) -> tuple[int, int]:
    """Train and test problems of a registered dataset; UNKNOWN_ROWS for a file of unknown length."""
    sources = (dataset.get(split, {}) for split in ("train", "test"))
    train, test = (source.get("problems") or source.get("rows") or UNKNOWN_ROWS for source in sources)
    return train, test


@dataclass(frozen=True)
class Measured:
    """What Snakemake measured of a job: its rule, its wildcards, seconds, and memory in MB ("NA" if it was too short)."""

    rule: str
    wildcards: Mapping[str, str]
    wall_seconds: float
    cpu_seconds: str
    peak_memory_mb: str


def read_benchmark(path: Path) -> Measured:
    """The last run in a benchmark file. Raises ArtifactError where it is none of this workflow's."""
    with path.open(encoding="utf-8", newline="") as opened:
        runs = list(csv.DictReader(opened, delimiter="\t"))
    try:
        last = runs[-1]
        # Snakemake writes the wildcards as Python spells a mapping of texts.
        wildcards = ast.literal_eval(last["wildcards"])
        return Measured(last["rule_name"], dict(wildcards), float(last["s"]), last["cpu_time"], last["max_rss"])
    except (LookupError, ValueError, TypeError, SyntaxError) as error:
        what = "is no benchmark file with a rule and its wildcards"
        raise ArtifactError(f"{path}: {what}; remove it, and run its job again") from error


def measured_hours(benchmarks: Path, model: str, dataset: str) -> dict[str, tuple[float, int]]:
    """Hours that a rule's jobs took in a cell, and of how many jobs, from its benchmark files.

    Rules with methods are told apart by method.
    """
    hours: dict[str, tuple[float, int]] = {}
    for path in sorted(benchmarks.rglob("*.tsv")):
        job = read_benchmark(path)
        if (job.wildcards.get("model"), job.wildcards.get("dataset")) == (model, dataset):
            name = " ".join([job.rule, *([job.wildcards["method"]] if "method" in job.wildcards else [])])
            known, jobs = hours.get(name, (0.0, 0))
            hours[name] = (known + job.wall_seconds / 3600, jobs + 1)
    return hours


def cell_plan(
    config: Mapping[str, Any], model: str, dataset: str, measured: Mapping[str, tuple[float, int]]
) -> list[dict[str, Any]]:
    """The plan of one cell, a row per rule.

    `measured`: hours and jobs of rules that have run, at least in part, whose mean counts instead
    of the formulas.
    """
    entry, data, sampling = (
        config["model_registry"][model],
        config["dataset_registry"][dataset],
        config["trajectories"],
    )
    rows = []
    for work in cell_work(config, data, dataset_rows(data)):
        count = gpus(entry, work.kind) if work.kind != "none" else 0
        known = work.name in measured
        hours, jobs = measured.get(work.name, (0.0, 1))
        rows.append({
            "model": model,
            "dataset": dataset,
            "rule": work.name,
            "jobs": work.jobs,
            "generated_tokens": round(work.tokens) if work.kind == "sample" else 0,
            "trained_tokens": round(work.tokens) if work.kind == "train" else 0,
            "gpus": count,
            "gpu_hours": count * hours / jobs * work.jobs if known else gpu_hours(entry, work),
            "gpu_memory_gb": gpu_memory_gb(entry, work.kind) if count else 0.0,
            "memory_gb": memory_mb(entry, 1, Hardware(None, None)) / 1000 if work.kind != "none" else
                         batch_memory_mb(sampling["batch_rows"], data["max_new_tokens"], True, 1, Hardware(None, None)) / 1000,
            # Token ids and text, compressed; an adapter's weights and its optimiser's state while
            # it trains.
            "disk_gb": work.tokens * BYTES_PER_TOKEN / 1e9 if work.kind == "sample" else
                       work.jobs * ADAPTER_SHARE * weights_gb(entry) if work.kind == "train" else 0.0,
            "source": "measured" if known else "formula",
        })  # fmt: skip
    return rows
