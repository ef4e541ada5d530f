"""Helpers only: how a cell's work is cut into jobs, and what each job asks for.

critical_tokens.planning has the formulas.
"""

import sys

from critical_tokens.planning import hardware, sizing

HARDWARE = hardware.hardware_of(config)
SHARDS = {stage: config[stage]["shards"] for stage in ("trajectories", "rollouts")}
# Tables whose parts several jobs may write, and the stage that sets the number of jobs.
SHARDED = {
    "trajectories": "trajectories",
    "grades": "trajectories",
    "rollouts": "rollouts",
}
WHOLE = "1-of-1"


wildcard_constraints:
    shard=r"\d+-of-\d+",


# Cores of a job that a small model does not share with others: on a node, and of this run. On one
# machine without a GPU, that is all that Snakemake has, to which it cuts larger numbers.
NODE = sizing.NODE_CORES
ON_CLUSTER = workflow.resource_settings.nodes is not None or workflow.remote_exec
LONE = NODE if ON_CLUSTER or hardware.visible_gpus() else sys.maxsize

# On one machine the jobs that use a GPU take turns. Without a limit Snakemake would start them all.
if workflow.resource_settings.nodes is None and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", max(1, hardware.visible_gpus()))


def part(pattern, table):
    """A path of the jobs that write `table`, with a folder for each of several shards."""
    return (
        pattern
        if SHARDS[SHARDED[table]] == 1
        else pattern.replace("{dataset}", "{dataset}/shards/{shard}", 1)
    )


def parts(table):
    """The parts of a table, in order."""
    count = SHARDS[SHARDED[table]]
    return [
        f"<results>/{{model}}/{{dataset}}/shards/{k}-of-{count}/{table}.parquet"
        for k in range(1, count + 1)
    ]


def gpus_for(stage):
    return lambda wildcards: sizing.gpus(
        config["model_registry"][wildcards.model], stage
    )


def cores_for(lone):
    """Cores of a job: `lone`, or 1 for a small model, whose jobs share the machine."""
    return lambda wildcards: (
        1 if sizing.is_small(config["model_registry"][wildcards.model]) else lone
    )


def memory_for(wildcards, attempt):
    return sizing.memory_mb(
        config["model_registry"][wildcards.model], attempt, HARDWARE
    )


def batch_memory_for(grading):
    """Memory of a job that reads a cell's answers in batches, and perhaps grades them."""
    return lambda wildcards, attempt: sizing.batch_memory_mb(
        config["trajectories"]["batch_rows"],
        config["dataset_registry"][wildcards.dataset]["max_new_tokens"],
        grading,
        attempt,
        HARDWARE,
    )


def minutes_for(name, method=None):
    """Time limit of a job by the name of its work, in which {method} stands for the method."""
    return lambda wildcards, attempt: sizing.job_minutes(
        config,
        wildcards.model,
        wildcards.dataset,
        name.format(**wildcards),
        method or wildcards.get("method", "baseline"),
        attempt,
    )


def launcher(wildcards):
    """How a training is started: by itself, or as several processes that share the model (FSDP)."""
    return sizing.launcher(config["model_registry"][wildcards.model])
