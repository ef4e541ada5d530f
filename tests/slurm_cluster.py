"""A real Slurm on one machine: two nodes, a fake GPU each pair of cores, everything in one folder;
and ways to hurt it.

Needs Debian's slurmctld, slurmd, slurm-client and munge. Nothing outside the folder is touched:
commands find the cluster by SLURM_CONF, and the `srun` that jobs call, whose environment the
executor strips of it, by a wrapper first in PATH.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun", "scancel", "scontrol", "sinfo")
NODES, CPUS, MEMORY, GPUS = ("n1", "n2"), 4, 12_000, 2
USER = pwd.getpwuid(os.getuid()).pw_name
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


def missing():
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@dataclass(frozen=True)
class Job:
    """A job as squeue shows it: its number, state, the node it is on, and the rule (with wildcards)
    it runs.
    """

    id: int
    state: str
    node: str
    rule: str


class Cluster:
    def __init__(self):
        self.folder = folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}{os.pathsep}{PATH}",
        }
        for name in ("state", "log", "run", "dev", "bin", *(f"spool/{node}" for node in NODES)):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)  # munged wants its socket where everyone may look, and nobody else may write
        (folder / "run").chmod(0o755)
        self._write_configuration()
        self._start()

    # --- up and down

    def _write_configuration(self):
        folder, (controller, *slurmds) = self.folder, _free_ports(1 + len(NODES))
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for i in range(GPUS):
            device = folder / "dev" / f"gpu{i}"
            try:
                os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            except PermissionError:
                device.touch()
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/dev/gpu[0-{GPUS - 1}]\n")
        host, user = socket.gethostname().split(".")[0], USER
        settings = {
            "ClusterName": "pocket",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": controller,
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={folder}/run/munge.socket,cred_expire=10",
            "CredType": "cred/munge",
            "StateSaveLocation": folder / "state",
            "SlurmdSpoolDir": f"{folder}/spool/%n",
            "SlurmctldPidFile": folder / "run" / "slurmctld.pid",
            "SlurmdPidFile": f"{folder}/run/%n.pid",
            "SlurmctldLogFile": folder / "log" / "slurmctld.log",
            "SlurmdLogFile": f"{folder}/log/%n.log",
            "ProctrackType": "proctrack/linuxproc",  # no cgroups in a container
            "TaskPlugin": "task/none",
            "MpiDefault": "none",
            "AccountingStorageType": "accounting_storage/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "JobCompType": "jobcomp/filetxt",  # the record of what ran
            "JobCompLoc": folder / "log" / "completed.log",
            "MinJobAge": 3600,
            "SchedulerParameters": "bf_interval=5,sched_min_interval=0,batch_sched_delay=0",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "DefMemPerCPU": 500,
            "GresTypes": "gpu",
            "SlurmdParameters": "config_overrides",  # more cores than the machine has
            "ReturnToService": 2,
            "SlurmdTimeout": 15,
            "KillWait": 2,
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        lines += [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory={MEMORY} "
            f"Gres=gpu:{GPUS}"
            for node, port in zip(NODES, slurmds, strict=True)
        ]
        lines.append("PartitionName=main Nodes=ALL Default=NO DefaultTime=00:30:00 MaxTime=INFINITE State=UP")
        (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        wrapper = folder / "bin" / "srun"
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun", path=PATH)} "$@"\n')
        wrapper.chmod(0o755)

    def _start(self):
        run = self.folder / "run"
        self.call(
            "munged",
            f"--key-file={self.folder}/munge.key",
            f"--socket={run}/munge.socket",
            f"--pid-file={run}/munged.pid",
            f"--log-file={self.folder}/log/munged.log",
            f"--seed-file={run}/munged.seed",
        )
        self.call("slurmctld", "-c")
        for node in NODES:
            self.revive(node)
        self._until(
            lambda: self.call("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split() == list(NODES), "nodes are idle"
        )
        probe = ["srun", "-p", "main", "-N", str(len(NODES)), "true"]
        self._until(lambda: self._runs(probe), "a job runs on every node")

    def _runs(self, command):
        result = subprocess.run(command, env=self.environment, capture_output=True, timeout=30, check=False)
        return result.returncode == 0

    def stop(self):
        self.call("scancel", "--user", USER, check=False)
        time.sleep(1)
        for name in (*NODES, "slurmctld", "munged"):
            self._kill(self.folder / "run" / f"{name}.pid", signal.SIGTERM)
        time.sleep(1)
        for name in (*NODES, "slurmctld", "munged"):
            self._kill(self.folder / "run" / f"{name}.pid", signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill(self, pid_file, how):
        if pid_file.is_file():
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(pid_file.read_text()), how)

    # --- looking

    def call(self, *command, check=True):
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        if check and result.returncode:
            raise AssertionError(f"{' '.join(map(str, command))}: {result.stdout}{result.stderr}")
        return result.stdout

    def jobs(self, states="all"):
        text = self.call("squeue", "-h", f"--states={states}", "-o", "%A|%T|%N|%k", check=False)
        rows = [line.split("|") for line in text.splitlines()]
        return [Job(int(number), state, node, rule) for number, state, node, rule in rows]

    def _until(self, condition, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}; see {self.folder}/log")
            time.sleep(0.25)

    # --- hurting

    def processes(self, job: Job):
        """Processes of a job: its steps' daemons and all that they started."""
        daemons = subprocess.run(
            ["pgrep", "-f", rf"slurmstepd: \[{job.id}\."], capture_output=True, text=True, check=False
        )
        found = []
        pending = [int(pid) for pid in daemons.stdout.split()]
        while pending:
            pid = pending.pop()
            found.append(pid)
            for children in Path("/proc", str(pid), "task").glob("*/children"):
                try:
                    pending += [int(child) for child in children.read_text().split()]
                except FileNotFoundError:
                    continue
        return found

    def programs(self, job: Job):
        """The processes of a job that run one of the workflow's programs."""
        found = []
        for pid in self.processes(job):
            try:
                words = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"python" in words[0] and any(word.startswith(b"scripts/") for word in words[1:3]):
                found.append(pid)
        return found

    def crash(self, node):
        """A node that goes down with everything on it."""
        pids = [pid for job in self.jobs("running") if job.node == node for pid in self.processes(job)]
        self._kill(self.folder / "run" / f"{node}.pid", signal.SIGKILL)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def revive(self, node):
        self.call("slurmd", "-N", node)
