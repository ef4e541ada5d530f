"""Measure the workflow on this machine, in a fresh copy of the repository, and write
docs/measured.json.

    python docs/measure.py              everything but the real test set
    python docs/measure.py --gsm8k F    also a pocket model on the real GSM8K test set, JSON lines
    python docs/measure.py --paper      the dry run of the paper's scale and the plans alone; the
                                        other numbers stay as they are

Everything is: `snakemake`, one cell alone, the start-up of each program, a dry run of the paper's
scale, and what `snakemake plan` says of a model of one's own and of the paper's scale.

Run it on an idle machine. It also copies its results and figures into this folder. Times are wall
seconds. Memory is the largest sum over all processes of a run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
import yaml

ROOT = Path(__file__).resolve().parent.parent
CELL = "results/pocket-s/pocket-gsm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gsm8k", type=Path, help="JSON lines of the real GSM8K test split")
    parser.add_argument("--paper", action="store_true", help="measure the dry run and the plans alone")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "measured.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="measure-") as scratch:
        whole, single = Path(scratch, "whole"), Path(scratch, "single")
        for copy in (whole, single):
            _copy(copy)
        if args.paper:
            measured = json.loads(args.output.read_text(encoding="utf-8"))
            measured |= {"paper_dry_run": _paper(single), "plans": _plans(single)}
            args.output.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
            return
        whole_run = {"make": _timed(["snakemake"], whole), "again": _timed(["snakemake"], whole)}
        # With the metadata, `snakemake` finds nothing to do here.
        for folder in ("results", "figures", "benchmarks", ".snakemake/metadata"):
            shutil.copytree(whole / folder, ROOT / folder, dirs_exist_ok=True)
        measured = {
            "machine": {"cores": os.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 2**30)},
            "python": platform.python_version(),
            **whole_run,
            "cell": _timed(["snakemake", f"{CELL}/table1.csv"], single),
            "startup_seconds": _startup(whole),
            "paper_dry_run": _paper(single),
            "plans": _plans(single),
        }
        if args.gsm8k:
            measured["gsm8k"] = _gsm8k(whole, args.gsm8k.resolve())
    args.output.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(args.output.read_text(encoding="utf-8"))


def _copy(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def _timed(command: list[str], folder: Path) -> dict[str, float]:
    """Wall seconds and peak memory of a command and all its children."""
    start = time.monotonic()
    peak = 0
    with subprocess.Popen([sys.executable, "-m", *command], cwd=folder, stdout=sys.stderr) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            total = 0
            for child in [root, *root.children(recursive=True)]:
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, total)
            time.sleep(0.2)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed in {folder}")
    return {"wall_seconds": round(time.monotonic() - start, 1), "peak_memory_mb": round(peak / 2**20)}


def _paper(folder: Path) -> dict[str, float]:
    """A dry run of the paper's scale on a cluster, without conda, which may not be installed."""
    command = ["snakemake", "-n", "--profile", "slurm", "--sdm", "env-modules", "--", "results/table1.csv"]
    cost = _timed(command, folder)
    shown = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True
    )
    jobs = int(re.search(r"^total +(\d+)$", shown.stdout + shown.stderr, re.MULTILINE)[1])
    shards = yaml.safe_load((folder / "presets" / "paper.yaml").read_text(encoding="utf-8"))["trajectories"]["shards"]
    return cost | {"jobs": jobs, "shards": shards}


def _plans(folder: Path) -> dict[str, dict[str, float]]:
    """What `snakemake plan` says of a small model of one's own, and of the paper's scale."""
    own = folder / "own_model.yaml"
    model = {
        "path": "Qwen/Qwen2.5-0.5B",
        "revision": "060db6499f32faf8b98477b0a26969ef7d8b9987",
        "parameters": 494032768,
        "dtype": "bfloat16",
    }
    own.write_text(yaml.safe_dump({"models": ["own"], "model_registry": {"own": model}}), encoding="utf-8")
    options = {
        "own": ["--configfile", "presets/own.yaml", own.name],
        "paper": ["--profile", "slurm", "--executor", "local", "--sdm", "env-modules"],
    }
    found = {}
    for name, option in options.items():
        _timed(["snakemake", "plan", *option], folder)
        table = pd.read_csv(folder / "results" / "plan.csv")
        found[name] = {"jobs": int(table["jobs"].sum()), "gpu_hours": round(float(table["gpu_hours"].sum()), 1)}
    found["own"]["parameters"] = model["parameters"]
    return found


def _startup(folder: Path) -> dict[str, float]:
    """Seconds that each program takes to start: its imports, and a pocket model if it loads one."""
    opened = {
        "Sampler(": "Sampler(ModelSource(M), [], Prompt('gsm8k'), EngineSettings(1024))",
        "load_model(": "checkpoints.load_model(ModelSource(M)), checkpoints.load_tokenizer(ModelSource(M))",
        "load_tokenizer(": "checkpoints.load_tokenizer(ModelSource(M))",
    }
    seconds = {}
    for program in sorted((folder / "scripts").glob("*.py")):
        text = program.read_text(encoding="utf-8")
        imports = sorted(set(re.findall(r"^ *((?:from critical_tokens|import pandas).*)$", text, re.MULTILINE)))
        names = (
            "from critical_tokens.models.checkpoints import ModelSource\n"
            "from critical_tokens.engines.opening import EngineSettings\n"
            "from critical_tokens.data.prompts import Prompt"
        )
        lines = [*imports, names, f"M = {str(folder / 'data/models/pocket-s')!r}"]
        lines += [code for call, code in opened.items() if call in text][:1]
        code = (
            "from critical_tokens.workflow import command_line\ndef main():\n    "
            + "\n".join(lines).replace("\n", "\n    ")
            + "\ncommand_line.run(main)"
        )
        start = time.monotonic()
        subprocess.run([sys.executable, "-c", code], cwd=folder / "scripts", check=True)
        seconds[program.stem] = round(time.monotonic() - start, 2)
    return seconds


def _gsm8k(folder: Path, path: Path) -> dict[str, float]:
    """A pocket model on the real test set."""
    own = folder / "gsm8k.yaml"
    own.write_text(yaml.safe_dump({"dataset_registry": {"gsm8k": {"test": {"path": str(path)}}}}), encoding="utf-8")
    target = "results/pocket-s/gsm8k/baseline/seed1/metrics.json"
    cost = _timed(["snakemake", "--configfile", str(own), "--", target], folder)
    return cost | json.loads((folder / target).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
