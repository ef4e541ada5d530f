"""Measure what rollouts cost against the released procedure, `generate` and vLLM, and write
results/bench.json.

    make bench                       everything: about a quarter of an hour on two idle cores
    make bench PARTS="rollouts"      some parts: rollouts, error, growth, thresholds, engines,
                                     decoding, threads, training

Every ratio compares two things in this one run: the same trajectories, samples, limits and engine,
unless it is the engine that is compared. The copy in docs/bench.json and the pictures in
docs/figures/ are from the last full run.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

import decoding
import engine_speed
import rollout_cost
import threads
import torch
import training_speed

from critical_tokens.core import records

ROOT = Path(__file__).resolve().parent.parent.parent

PARTS = {
    "rollouts": rollout_cost.released_procedure,
    "error": rollout_cost.error_over_tokens,
    "growth": rollout_cost.growth,
    "thresholds": rollout_cost.thresholds,
    "engines": engine_speed.engines,
    "decoding": decoding.decoding,
    "threads": threads.threads,
    "training": training_speed.training,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "bench.json")
    args = parser.parse_args()
    machine = {"cores": os.cpu_count(), "architecture": platform.machine(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    libraries = ("torch", "transformers")
    report = {
        "machine": machine,
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in libraries},
    }
    pictures = args.output.parent / "bench"
    for part in args.parts:
        print(f"bench: {part}", file=sys.stderr, flush=True)
        report |= PARTS[part](pictures)
        records.write_json(args.output, report)
    if args.parts == list(PARTS):
        shutil.copy(args.output, ROOT / "docs" / "bench.json")
        for picture in pictures.glob("*.png"):
            shutil.copy(picture, ROOT / "docs" / "figures" / picture.name)
    print(args.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
