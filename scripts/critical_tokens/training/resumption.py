"""The checkpoints that a stopped training may continue from.

They must be its own: made with the same settings, data, model and code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from critical_tokens.core import provenance, records, versions

if TYPE_CHECKING:
    from critical_tokens.training.settings import TrainingSettings

# A file in the folder of each checkpoint. It is written last, so a checkpoint without it is
# incomplete.
_STATE = "training.json"
# Number of values of each tensor that enter a digest. Different weights differ in nearly all of
# them.
_LOOKED_AT = 1024


def digest(
    settings: TrainingSettings, examples: Sequence[Mapping[str, Any]], model: torch.nn.Module, about: Mapping[str, Any]
) -> str:
    """A hash of everything that the result of a training depends on.

    That is the settings, the examples, the model's weights, the code, the versions of the
    libraries, and `about`.
    """
    found = hashlib.sha256()

    def add(value: Any) -> None:
        found.update(json.dumps(value, sort_keys=True).encode() + b"\n")

    add(dataclasses.asdict(settings))
    add(about)
    add({"code": versions.code_version("critical_tokens/training/adapters"), "libraries": provenance.libraries()})
    for example in examples:
        add(example)
    for name, value in sorted(model.state_dict().items()):
        add([name, list(value.shape), str(value.dtype)])
        if not value.is_meta:
            flat = value.detach().flatten()
            looked_at = flat[:: max(1, len(flat) // _LOOKED_AT)]
            found.update(looked_at.double().cpu().numpy().tobytes())
    return found.hexdigest()


def mark(checkpoint: Path, digest: str, rows: Sequence[Any]) -> None:
    """Write into a checkpoint the digest of its training, and the rows recorded so far."""
    records.write_json(checkpoint / _STATE, {"digest": digest, "rows": list(rows)})


def last(folder: Path, digest: str) -> tuple[Path, list[Any]] | None:
    """The last checkpoint with this digest and its recorded rows; None if there is none."""
    for checkpoint in sorted(_checkpoints(folder), key=_updates, reverse=True):
        state = _state(checkpoint)
        if state.get("digest") == digest:
            return checkpoint, state["rows"]
    return None


def throw_away_others(folder: Path, digest: str, label: str) -> None:
    """Delete checkpoints of other trainings and incomplete ones, and print which."""
    others = [checkpoint for checkpoint in _checkpoints(folder) if _state(checkpoint).get("digest") != digest]
    for checkpoint in others:
        shutil.rmtree(checkpoint)
    if others:
        names = ", ".join(str(checkpoint) for checkpoint in sorted(others, key=_updates))
        print(
            f"{label}: {names} thrown away: incomplete, or made with other settings, data, model or code",
            file=sys.stderr,
            flush=True,
        )


def _checkpoints(folder: Path) -> list[Path]:
    found = folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if folder.is_dir() else ()
    return [path for path in found if path.is_dir() and path.name.rpartition("-")[2].isdigit()]


def _updates(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _state(checkpoint: Path) -> dict[str, Any]:
    """What `mark` wrote; an empty mapping if that cannot be read."""
    try:
        state = records.read_json(checkpoint / _STATE)
    except (OSError, records.ArtifactError):
        return {}
    return state if isinstance(state, dict) and isinstance(state.get("rows"), list) else {}
