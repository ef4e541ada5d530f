"""Helpers only: how a cell's work is cut into jobs, and what each job asks for (critical_tokens.workflow.sizing has the formulas)."""

from critical_tokens.workflow import sizing

HARDWARE = sizing.hardware_of(config)
SHARDS = {stage: config[stage]["shards"] for stage in ("trajectories", "rollouts")}
# Tables that several jobs write parts of.
SHARDED = {"trajectories": "trajectories", "grades": "trajectories", "rollouts": "rollouts"}


wildcard_constraints:
    shard=r"\d+-of-\d+",


def part(pattern, table):
    """A path of the jobs that write `table`, which has a folder per shard where there are several."""
    return pattern if SHARDS[SHARDED[table]] == 1 else pattern.replace("{dataset}", "{dataset}/shards/{shard}", 1)


def parts(table):
    """The parts of a table, in order."""
    count = SHARDS[SHARDED[table]]
    return [f"<results>/{{model}}/{{dataset}}/shards/{k}-of-{count}/{table}.parquet" for k in range(1, count + 1)]


def shard_flags(wildcards):
    return flags(shard=wildcards.get("shard"))


def work_of(wildcards, name, method=None):
    """What a cell has for that name to do; `method` is that of the wildcards unless it is given."""
    cell = config["dataset_registry"][wildcards.dataset]
    # The method at hand may be none of the selection: a control, or a rate of the search.
    asked = config | {"methods": [method or wildcards.get("method", "baseline")]}
    return {work.name: work for work in sizing.cell_work(asked, cell, sizing.dataset_rows(cell))}[name]


def gpus_for(kind):
    return lambda wildcards: sizing.gpus(config["model_registry"][wildcards.model], kind)


def cores_for(kind):
    """Cores of a cluster's job: for the loading and tokenising beside a GPU, or one for a pocket model."""
    return lambda wildcards: 8 if gpus_for(kind)(wildcards) else 1


def memory_for(wildcards, attempt):
    return sizing.memory_mb(config["model_registry"][wildcards.model], attempt, HARDWARE)


def batch_memory_for(grading):
    """Memory of a job that reads a cell's answers in batches, and perhaps grades them."""

    def memory(wildcards, attempt):
        longest = config["dataset_registry"][wildcards.dataset]["max_new_tokens"]
        return sizing.batch_memory_mb(config["trajectories"]["batch_rows"], longest, grading, attempt, HARDWARE)

    return memory


def minutes_for(name, method=None):
    """Time limit of a job, by name, which may have its method in braces."""

    def minutes(wildcards, attempt):
        work = work_of(wildcards, name.format(**wildcards), method)
        return sizing.minutes(config["model_registry"][wildcards.model], work, attempt, HARDWARE)

    return minutes


# On one machine GPU jobs take turns: without a limit Snakemake would start them all at once.
if workflow.resource_settings.nodes is None and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", max(1, visible_gpus()))


def launcher(wildcards):
    """How a training program is started: by itself, or as several processes that share the model (FSDP)."""
    count = config["model_registry"][wildcards.model].get("processes", 1)
    if count == 1:
        return "python"
    device = "" if gpus_for("train")(wildcards) else "ACCELERATE_USE_CPU=true "
    return (
        f"{device}accelerate launch --num_processes {count} --num_machines 1 --main_process_port 0"
        " --mixed_precision no --dynamo_backend no --use_fsdp --fsdp_version 2"
        " --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP --fsdp_state_dict_type FULL_STATE_DICT"
    )
