"""The smoke preset on a real Slurm cluster, undisturbed and hurt in a dozen ways: the same table
comes out.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from slurm_cluster import Cluster, missing
from test_workflow import copy_repository, planned, snakemake

pytestmark = [pytest.mark.slurm, pytest.mark.workflow]

TABLE = "results/smoke/table1.csv"
METHODS = ["baseline", "sft", "cdpo"]


@pytest.fixture(scope="module")
def cluster():
    if missing():
        pytest.skip(f"Slurm is not installed ({', '.join(missing())}); `make test-slurm` installs it")
    found = Cluster()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """What profiles/slurm says, but with this cluster's partition, the smoke preset, shards to
    lose, and no conda.
    """
    folder = tmp_path_factory.mktemp("profile") / "cluster"
    folder.mkdir()
    settings = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    selection = {"methods": METHODS, "trajectories": {"shards": 3}, "rollouts": {"shards": 2}}
    selection["model_registry"] = {"pocket-s": {"processes": 2}}
    (folder.parent / "selection.yaml").write_text(yaml.safe_dump(selection))
    settings |= {
        "configfile": ["presets/smoke.yaml", str(folder.parent / "selection.yaml")],
        "config": ["node_memory_gb=12"],
        "default-resources": ["slurm_partition=main"],
        "software-deployment-method": "env-modules",
        "slurm-status-command": "squeue",
        "slurm-init-seconds-before-status-checks": 9,
        "slurm-no-account": True,
        "latency-wait": 10,
        "jobs": 8,
        "retries": 4,
        "set-resources": ["evaluate_method:gpu=1"],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def report(**numbers):
    """Add to results/slurm.json, from which the documentation is generated."""
    path = ROOT / "results" / "slurm.json"
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(known | numbers, indent=2, sort_keys=True) + "\n")
    print(numbers)


@pytest.fixture
def repository(tmp_path):
    target = tmp_path / "repository"
    copy_repository(target)
    return target


def driver(cluster, profile, cwd):
    command = [sys.executable, "-m", "snakemake", "--profile", str(profile), "--", TABLE]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def undisturbed(cluster, profile, tmp_path_factory):
    """The table of a run through Slurm that nothing happened to, with how long it took, and the
    jobs that Slurm ran for it.
    """
    target = tmp_path_factory.mktemp("undisturbed") / "repository"
    copy_repository(target)
    jobs = planned("--profile", str(profile), "--", TABLE, cwd=target)
    start = time.monotonic()
    with driver(cluster, profile, target) as process:
        output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-5000:]
    return target, jobs, time.monotonic() - start


def test_every_job_went_through_slurm(cluster, undisturbed):
    """One job of Slurm for each job of the workflow that is not the driver's own, each with its
    rule's name, all completed.
    """
    target, jobs, seconds = undisturbed
    ran = [job for job in cluster.jobs() if job.rule.startswith("rule_")]
    by_rule = {}
    for job in ran:
        assert job.state == "COMPLETED", job
        name = re.match(r"rule_(\w+?)(_wildcards|$)", job.rule)[1]
        by_rule[name] = by_rule.get(name, 0) + 1
    expected = {name: count for name, count in jobs.items() if name not in ("all", "check_hub")}
    assert by_rule == expected
    completed = (cluster.folder / "log" / "completed.log").read_text()
    assert completed.count("JobState=COMPLETED") >= len(ran)
    table = pd.read_csv(target / TABLE)
    assert table["method"].tolist() == METHODS
    costs = [pd.read_csv(p, sep="\t")["s"].iloc[-1] for p in (target / "benchmarks" / "smoke").rglob("*.tsv")]
    spans = [
        pd.Timestamp(end) - pd.Timestamp(start)
        for start, end in re.findall(r"StartTime=(\S+) EndTime=(\S+)", completed)
    ]
    overhead = (sum(span.total_seconds() for span in spans) - sum(costs)) / len(ran)
    report(jobs=len(ran), seconds=round(seconds), own_seconds=round(sum(costs)), overhead_per_job=round(overhead, 1))


def test_the_cluster_changes_no_number(undisturbed, profile, repository):
    """The same selection on this machine, without shards and without Slurm: the same answers, so
    the same baseline.

    Trained rows may differ in the last digits, as two processes add up in another order.
    """
    target, _, _ = undisturbed
    own = profile.parent / "plain.yaml"
    own.write_text(yaml.safe_dump({"methods": METHODS}))
    snakemake("--configfile", "presets/smoke.yaml", str(own), "--", TABLE, cwd=repository)
    here, there = (pd.read_csv(folder / TABLE).set_index("method") for folder in (repository, target))
    assert here.loc["baseline", "correct"] == there.loc["baseline", "correct"]
    assert (here["accuracy"] - there["accuracy"]).abs().max() <= 5
    for name in ("trajectories", "grades", "pairs"):
        one, several = (
            pd.read_parquet(folder / f"results/smoke/pocket-s/pocket-gsm/{name}.parquet")
            for folder in (repository, target)
        )
        pd.testing.assert_frame_equal(one, several)


class Faults(threading.Thread):
    """Hurts a run, one fault at a time, each as soon as there is a job of the rule that it waits
    for.
    """

    def __init__(self, cluster, plan):
        super().__init__(daemon=True)
        self.cluster, self.plan, self.done = cluster, list(plan), []
        self.driver = None
        self.over = threading.Event()
        self.hurt = set()

    def run(self):
        while self.plan and not self.over.is_set():
            for job in self.cluster.jobs("running"):
                fits = [fault for fault in self.plan if fault[1] in job.rule]
                if fits and job.id not in self.hurt and self.cluster.programs(job):
                    fault, _ = fits[0]
                    getattr(self, fault)(job)
                    if fault != "crash":  # which Slurm starts again under the same number
                        self.hurt.add(job.id)
                    self.done.append((fault, job.rule, job.id))
                    self.plan.remove(fits[0])
                    break
            time.sleep(0.2)

    def kill(self, job):
        """The program of a job dies, as of too little memory."""
        for pid in self.cluster.programs(job):
            os.kill(pid, signal.SIGKILL)

    def cancel(self, job):
        self.cluster.call("scancel", str(job.id))

    def crash(self, job):
        """The node goes down with all its jobs, and comes back."""
        self.cluster.crash(job.node)
        time.sleep(20)
        self.cluster.revive(job.node)

    def overrun(self, job):
        """A job hangs until its time limit is over."""
        for pid in self.cluster.programs(job):
            os.kill(pid, signal.SIGSTOP)
        self.cluster.call("scontrol", "update", f"JobId={job.id}", "TimeLimit=1")

    def driver_dies(self, job):
        os.killpg(self.driver.pid, signal.SIGKILL)


FAULTS = [
    ("kill", "rule_sample"),
    ("cancel", "rule_sample"),
    ("driver_dies", "rule_sample"),
    ("kill", "rule_grade"),
    ("cancel", "rule_select_answers"),
    ("kill", "rule_train_contrast"),
    ("overrun", "rule_train_contrast"),
    ("crash", "rule_align"),
    ("cancel", "rule_score_contrast"),
    ("kill", "rule_align"),
    ("driver_dies", "rule_evaluate_method"),
    ("cancel", "rule_align"),
    ("kill", "rule_evaluate_method"),
    ("cancel", "rule_evaluate_method"),
    ("kill", "rule_table1"),
]


def test_nothing_is_lost_to_faults(cluster, profile, undisturbed, repository):
    """Jobs killed, cancelled, hanging past their limit, a node down, the driver killed: the same
    command, the same table.
    """
    faults = Faults(cluster, FAULTS)
    runs = 0
    while True:
        runs += 1
        process = driver(cluster, profile, repository)
        faults.driver = process
        if runs == 1:
            faults.start()
        output, _ = process.communicate(timeout=1200)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, output[-8000:]
        # As docs/cluster.md says: no job of the dead driver may write on, then the lock is taken
        # away.
        run_id = re.search(r"SLURM run ID: (\S+)", output)[1]
        cluster.call("scancel", "--name", run_id)
        cluster._until(lambda: not cluster.jobs("pending,running,completing"), "the dead driver's jobs are gone")
        snakemake("--unlock", "--configfile", "presets/smoke.yaml", cwd=repository)
    faults.over.set()
    faults.join()
    kinds = Counter(fault for fault, _, _ in faults.done)
    report(
        faults=dict(kinds),
        drivers=runs,
        tables_equal=(repository / TABLE).read_bytes() == (undisturbed[0] / TABLE).read_bytes(),
    )
    assert len(faults.done) >= 10
    assert runs == 1 + sum(fault == "driver_dies" for fault, _, _ in faults.done)
    target, _, _ = undisturbed
    pd.testing.assert_frame_equal(pd.read_csv(repository / TABLE), pd.read_csv(target / TABLE))
    assert planned("--profile", str(profile), "--", TABLE, cwd=repository) == {}


# --- bad input


def refused(cluster, profile, repository, tmp_path, **changes):
    """What a run says that ends in an error because of changes to the profile."""
    settings = yaml.safe_load((profile / "config.yaml").read_text()) | {"retries": 0} | changes
    folder = tmp_path / "changed"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with driver(cluster, folder, repository) as process:
        output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    return output


def test_a_missing_partition_is_named(cluster, profile, repository, tmp_path):
    """The cluster has no default partition: Slurm's own words reach the user."""
    output = refused(cluster, profile, repository, tmp_path, **{"default-resources": []})
    assert "partition" in output.lower()


def test_a_gpu_type_that_does_not_exist_is_named(cluster, profile, repository, tmp_path):
    output = refused(
        cluster, profile, repository, tmp_path, **{"set-resources": ["sample:gpu=1", "sample:gpu_model=h9000"]}
    )
    assert "h9000" in output
    assert "Invalid generic resource" in output or "Requested node configuration is not available" in output


def test_two_drivers_in_one_folder_do_not_meet(cluster, profile, repository):
    with driver(cluster, profile, repository) as first:
        deadline = time.monotonic() + 60
        while not (repository / ".snakemake" / "locks").is_dir() or not any(
            (repository / ".snakemake" / "locks").iterdir()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with driver(cluster, profile, repository) as second:
            output, _ = second.communicate(timeout=60)
        assert second.returncode != 0
        assert "--unlock" in output
        os.killpg(first.pid, signal.SIGINT)
        first.communicate(timeout=120)
    assert not cluster.jobs("pending,running")
