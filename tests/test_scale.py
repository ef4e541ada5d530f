"""The paper's scale, as far as it shows without its models: what is planned, asked for, refused,
and cut into shards.
"""

import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from test_workflow import config_with, planned, snakemake

from critical_tokens.grading import limits, verify
from critical_tokens.planning import cell_plan, cell_work, hardware, sizing
from critical_tokens.reporting import costs
from critical_tokens.workflow import command_line

SLURM = ["--profile", "slurm", "--sdm", "env-modules"]  # no conda here
PAPER = yaml.safe_load((ROOT / "presets" / "paper.yaml").read_text())


@pytest.mark.workflow
def test_the_paper_preset_resolves(clone):
    """Ten cells, seven methods; on a cluster and on one machine."""
    jobs = planned(*SLURM, "--", "results/table1.csv", cwd=clone)
    assert jobs["sample"] == jobs["grade"] == 10 * 64
    assert jobs["align"] == 10 * 6
    assert jobs["evaluate_method"] == 10 * 7
    assert (jobs["check_hub"], jobs["fetch_model"], jobs["fetch_dataset"]) == (1, 5, 4)
    one_machine = ("--configfile", "presets/paper.yaml", "--sdm", "env-modules")
    assert planned(*one_machine, "--", "results/table1.csv", cwd=clone) == jobs


@pytest.mark.workflow
def test_the_released_preset_follows_the_released_code(clone):
    jobs = planned("--configfile", "presets/released.yaml", cwd=clone)
    assert jobs["align"] == 4 * 4
    text = snakemake("-n", "-p", "--configfile", "presets/released.yaml", cwd=clone).stdout
    assert text.count("--objective cdpo_released") == 4
    assert text.count("--eos-weight one") == 4
    assert "--eos-trained True" not in text
    assert text.count("--eos-trained False") == 4 + 8  # SFT and the contrastive models
    assert text.count("--repeated-only True") == 4
    assert len(re.findall(r"--gamma 0\.1 ", text)) == 3 * 4


def test_every_repository_of_the_preset_has_a_pinned_revision():
    for name, entry in PAPER["model_registry"].items():
        assert re.fullmatch("[0-9a-f]{40}", entry["revision"]), name
    registry = yaml.safe_load((ROOT / "config.yaml").read_text())["dataset_registry"]
    for name, entry in registry.items():
        for split in ("train", "test"):
            assert "hub" not in entry[split] or re.fullmatch("[0-9a-f]{40}", entry[split]["revision"]), name


@pytest.mark.workflow
def test_jobs_ask_for_what_their_model_needs(clone):
    targets = ["results/llama3-70b/gsm8k/cdpo/seed1/metrics.json", "results/llama3-8b/gsm8k/pairs.parquet"]
    text = snakemake("-n", *SLURM, "--", *targets, cwd=clone).stdout

    def resources(rule, model):
        block = next(
            b for b in re.split(r"\n(?=\[)", text) if re.search(rf"^rule {rule}:", b, re.M) and f"model={model}" in b
        )
        asked = re.findall(r"(gpu|runtime|mem_mb|slurm_partition|cpus_per_task)=(\w+)", block)
        return {name: int(value) if value.isdigit() else value for name, value in asked}

    large, small = resources("sample", "llama3-70b"), resources("sample", "llama3-8b")
    assert (large["gpu"], small["gpu"]) == (4, 1)
    assert large["mem_mb"] > small["mem_mb"] > 16_000
    assert large["runtime"] > small["runtime"] >= 15
    assert small["slurm_partition"] == "gpu"
    assert resources("align", "llama3-70b")["gpu"] == 8
    assert resources("align", "llama3-70b")["cpus_per_task"] == 8
    node = hardware.Hardware(None, None)
    rows = yaml.safe_load((ROOT / "config.yaml").read_text())["trajectories"]["batch_rows"]
    for rule, grading in (("grade", True), ("select_answers", False)):
        assert resources(rule, "llama3-8b")["mem_mb"] == sizing.batch_memory_mb(rows, 256, grading, 1, node)


@pytest.mark.workflow
def test_a_job_that_is_alone_has_all_cores(clone):
    """But on a cluster and beside a GPU no more than it can use, and a small model has one."""
    targets = ["results/llama3-8b/gsm8k/cdpo/seed1/metrics.json", "results/llama3-8b/gsm8k/critical.parquet"]
    heavy = {
        *("sample", "grade", "score_rollouts", "train_contrast", "score_contrast"),
        *("score_base_reference", "align", "evaluate_method"),
    }

    def threads(*arguments, names=targets, path=os.environ["PATH"]):
        command = [sys.executable, "-m", "snakemake", "-n", "--cores", "16", *arguments, "--", *names]
        environment = os.environ | {"PATH": path}
        shown = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=300).stdout
        found = {}
        for block in re.split(r"\n(?=\[)", shown):
            if (rule := re.search(r"^(?:local)?rule (\w+):", block, re.M)) and (
                stated := re.search(r"threads: (\d+)", block)
            ):
                found.setdefault(rule[1], set()).add(int(stated[1]))
                if "--profile" in arguments:
                    assert f"cpus_per_task={stated[1]}" in block
        return found

    alone = ("--configfile", "presets/paper.yaml", "--sdm", "env-modules")
    (clone / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\n")
    (clone / "nvidia-smi").chmod(0o755)
    if not hardware.visible_gpus():
        assert threads(*alone) == {rule: {16} for rule in heavy}
    assert threads(*alone, path=f"{clone}{os.pathsep}{os.environ['PATH']}") == {rule: {8} for rule in heavy}
    assert threads(*SLURM) == {rule: {8} for rule in heavy}
    assert threads(names=["results/table1.csv"]) == {}


def test_a_model_is_small_where_one_thread_is_better():
    pocket = yaml.safe_load((ROOT / "config.yaml").read_text())["model_registry"]
    assert all(sizing.is_small(entry) for entry in pocket.values())
    assert not sizing.is_small({"path": "someone/model", "parameters": 135_000_000})


def test_the_processes_of_a_training_share_its_threads(monkeypatch):
    start = sizing.launcher({"path": "someone/model", "parameters": 500_000, "processes": 3})
    said = re.sub(r"accelerate launch.*", "printenv OMP_NUM_THREADS", start)
    for threads, each in ((1, 1), (3, 1), (8, 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        assert subprocess.run(["bash", "-c", said], capture_output=True, text=True).stdout == f"{each}\n"


def test_a_job_grades_with_as_many_workers_as_it_has_threads(monkeypatch):
    cores = min(len(os.sched_getaffinity(0)), limits.WORKERS)
    for stated, count in (("3", 3), ("99", limits.WORKERS), ("", cores), ("two", cores)):
        monkeypatch.setenv("OMP_NUM_THREADS", stated)
        assert verify.Workers().count == count
    assert verify.Workers(5).count == 5


def test_threads_of_a_program_do_not_wait_in_a_busy_loop(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    command_line.run(lambda: None)
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    command_line.run(lambda: None)
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_memory_of_a_batch_follows_from_its_rows():
    """A token that is held takes 32 bytes; what a node has bounds what later attempts ask for."""
    any_node, small = hardware.Hardware(None, None), hardware.Hardware(None, None, node_memory_gb=1.0)
    one, two = (sizing.batch_memory_mb(rows, 1000, False, 1, any_node) for rows in (4000, 8000))
    assert two - one == 32 * 4000 * 1000 / 1e6
    assert sizing.batch_memory_mb(4000, 1000, False, 3, any_node) == 3 * one
    assert sizing.batch_memory_mb(4000, 1000, False, 3, small) == 1000
    workers = limits.WORKERS * limits.IDLE_GB + limits.MEMORY_GB
    assert sizing.batch_memory_mb(4000, 1000, True, 1, any_node) - one == 1000 * workers


@pytest.mark.workflow
def test_a_model_too_large_for_the_gpus_is_refused(clone):
    for setting, words in (
        (
            "gpu_memory_gb=24",
            "llama3-70b: tensor_parallel is 4, so sampling needs 44 GB of each GPU, which has only 24 (gpu_memory_gb)",
        ),
        ("gpus_per_node=4", "llama3-70b: processes is 8, but a node has only 4 GPUs (gpus_per_node)"),
    ):
        result = snakemake("-n", *SLURM, "--config", setting, "--", "results/table1.csv", cwd=clone, check=False)
        assert result.returncode != 0
        assert words in result.stdout + result.stderr


@pytest.mark.workflow
def test_a_batch_that_processes_cannot_share_is_refused(clone, tmp_path):
    own = config_with(tmp_path, model_registry={"pocket-s": {"processes": 3}})
    result = snakemake("-n", *own, cwd=clone, check=False)
    assert (
        "contrast: batch_size is 16, must be a multiple of the 3 processes of pocket-s" in result.stdout + result.stderr
    )


def test_a_local_model_is_as_large_as_its_weights():
    folder = str(ROOT / "data" / "models" / "pocket-s")
    assert sizing.weights_gb({"path": folder, "dtype": "bfloat16"}) == pytest.approx(500256 * 2 / 1e9)
    assert sizing.weights_gb({"path": folder, "dtype": "float32"}) == pytest.approx(500256 * 4 / 1e9)


@pytest.mark.workflow
def test_a_model_of_the_hub_needs_its_size(clone, tmp_path):
    own = config_with(tmp_path, models=["mine"], model_registry={"mine": {"path": "someone/model"}})
    result = snakemake("-n", *own, cwd=clone, check=False)
    assert "model_registry: mine: parameters is missing" in result.stdout + result.stderr


@pytest.mark.workflow
def test_the_plan_is_printed_and_written(clone, tmp_path):
    result = snakemake("plan", "--configfile", "presets/paper.yaml", cwd=clone)
    table = pd.read_csv(clone / "results" / "plan.csv")
    assert set(table["model"]) == set(PAPER["models"])
    sample = table[(table["rule"] == "sample") & (table["model"] == "llama3-8b") & (table["dataset"] == "gsm8k")].iloc[
        0
    ]
    assert sample["jobs"] == 64
    assert sample["generated_tokens"] == round(7473 * 64 * 0.4 * 256)
    flops = cell_work.FORWARD * 8030261248 * sample["generated_tokens"]
    hours = flops / (hardware.GPU.operations * hardware.GPU.sample) / 3600
    assert hours < sample["gpu_hours"] < 2 * hours + 64
    assert sample["cpu_hours"] > 20 * sample["gpu_hours"]
    assert table.loc[table["rule"] == "align cdpo", "trained_tokens"].min() > 1e6
    text = result.stdout + result.stderr
    assert "llama3-70b" in text
    assert "state gpu_memory_gb and gpus_per_node in the config to check that they are there" in text
    again = snakemake("plan", "--configfile", "presets/paper.yaml", cwd=clone)  # asked again, told again
    assert "llama3-70b" in again.stdout + again.stderr


def test_what_was_measured_counts_instead_of_the_formula(tmp_path):
    config = {**yaml.safe_load((ROOT / "config.yaml").read_text()), **{k: PAPER[k] for k in ("models", "datasets")}}
    config["model_registry"] |= PAPER["model_registry"]
    config["trajectories"]["shards"] = 64
    for shard, seconds in ((1, 3600.0), (2, 1800.0)):
        file = tmp_path / "sample" / "llama3-70b" / "gsm8k" / "shards" / f"{shard}-of-2.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        names = {"model": "llama3-70b", "dataset": "gsm8k", "shard": f"{shard}-of-2"}
        header = "s\tmax_rss\tcpu_time\trule_name\twildcards"
        file.write_text(f"{header}\n{seconds}\t100\t1\tsample\t{names}\n")
    measured = costs.measured_hours(tmp_path, "llama3-70b", "gsm8k")
    assert measured == {"sample": (1.5, 2)}
    planned_rows = cell_plan.cell_plan(config, "llama3-70b", "gsm8k", measured, hardware.processor("float32"))
    rows = {row["rule"]: row for row in planned_rows}
    assert (rows["sample"]["gpu_hours"], rows["sample"]["source"]) == (4 * 1.5 / 2 * 64, "measured")
    assert rows["sample"]["cpu_hours"] == 1.5 / 2 * 64
    assert rows["score_rollouts"]["source"] == "formula"
    assert json.dumps(rows)


def test_the_speed_of_a_machine_without_a_gpu_is_tried(monkeypatch):
    """A trial in float32 tells the speed; the processor's instructions tell that of bfloat16."""
    # By this clock a repetition of the trial takes 0.1 s.
    clock = iter(range(1000))
    monkeypatch.setattr(hardware.time, "monotonic", lambda: next(clock) / 10)
    operations = 2 * 1024 * 896 * 4864 / 0.1
    assert hardware.processor("float32").operations == pytest.approx(operations)
    for gain in (2.0, 0.01):
        monkeypatch.setattr(hardware, "bfloat16_gain", lambda gain=gain: gain)
        assert hardware.processor("bfloat16").operations == pytest.approx(gain * operations)
    entry = {"path": "someone/model", "parameters": 500_000_000, "dtype": "float32"}
    speed = hardware.Speed(1e11, 0.5, 0.8, 0.6)
    work = cell_work.Work("sample", "sample", 1, 100_000, 1000)
    loading = (sizing.STARTING_MINUTES + 2 * sizing.LOADING_MINUTES_PER_GB) / 60
    seconds = 2 * 5e8 * (100_000 / 0.5 + 1000 / 0.8) / 1e11
    assert sizing.machine_hours(entry, work, speed) == pytest.approx(loading + seconds / 3600)


def test_the_work_of_training_follows_from_checkpoints_and_shared_prompts():
    config = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"methods": ["sft", "dpo"]}
    dataset = {"max_new_tokens": 100}

    def of(**alignment):
        changed = {**config, "alignment": config["alignment"] | alignment}
        return {work.name: work for work in cell_work.cell_work(changed, dataset, (50, 50))}

    plain, packed = of(packing=False), of(packing=True)
    shared = cell_work.MIXED * 50 * config["alignment"]["epochs"] * cell_work.PROMPT_TOKENS
    assert plain["align dpo"].tokens - packed["align dpo"].tokens == pytest.approx(shared)
    assert plain["align dpo"].tokens == 2 * plain["align sft"].tokens == 2 * packed["align sft"].tokens
    assert [of(gradient_checkpointing=g)["align dpo"].operations for g in (False, True)] == [4.0, 6.0]


def test_a_plan_tells_where_another_dtype_is_faster(monkeypatch, capsys, tmp_path):
    import plan

    monkeypatch.setattr(hardware, "visible_gpus", lambda: 0)
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    entry = {"path": "someone/model", "revision": "0" * 40, "parameters": 500_000_000, "dtype": "bfloat16"}
    config |= {"models": ["mine"], "model_registry": {"mine": entry}, "datasets": ["gsm8k"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = ["plan.py", "--config", tmp_path / "config.json", "--benchmarks", tmp_path, "--output"]
    monkeypatch.setattr("sys.argv", [str(a) for a in (*arguments, tmp_path / "plan.csv")])
    for gain, said in ((0.2, 1), (2.0, 0)):
        monkeypatch.setattr(hardware, "bfloat16_gain", lambda gain=gain: gain)
        plan.main()
        told = capsys.readouterr().err
        assert told.count("here `dtype: float32` is about 5 times as fast") == said


def test_a_bad_shard_is_refused():
    import argparse

    from critical_tokens.workflow import sampling_arguments

    parser = argparse.ArgumentParser()
    sampling_arguments.add_shard(parser)
    parts = [
        sampling_arguments.shard_of(parser.parse_args(["--shard", f"{k}-of-4"]), list(range(10))) for k in range(1, 5)
    ]
    assert [item for part in parts for item in part] == list(range(10))
    for text in ("5-of-4", "0-of-4", "x", "1-of-", "-1-of-4"):
        with pytest.raises(SystemExit):
            parser.parse_args([f"--shard={text}"])
