"""Measure what rollouts, decoding and training cost against others, and write docs/bench.json.

    make bench                       everything: about an hour on two idle cores
    make bench PARTS="rollouts"      some parts: rollouts, error, growth, thresholds, engines,
                                     decoding, threads, training

Every ratio compares two things in one run of a part: the same trajectories, samples, limits and
engine, unless it is the engine that is compared. docs/bench.json keeps the last run of every part,
with the machine that it ran on. Their pictures are in docs/figures/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

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
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "bench.json")
    args = parser.parse_args()
    report = records.read_json(args.output) if args.output.is_file() else {"measured_on": {}}
    pictures = ROOT / "results" / "bench"
    for part in args.parts:
        print(f"bench: {part}", file=sys.stderr, flush=True)
        found = PARTS[part](pictures)
        report |= found
        report["measured_on"][part] = _machine()
        records.write_json(args.output, report)
        for picture in pictures.glob("*.png"):
            shutil.copy(picture, ROOT / "docs" / "figures" / picture.name)
        print(json.dumps(found, indent=2))


def _machine() -> dict[str, Any]:
    """What a part was measured on and with."""
    libraries = {name: metadata.version(name) for name in ("torch", "transformers")}
    machine = {"cores": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    return machine | libraries


if __name__ == "__main__":
    main()
