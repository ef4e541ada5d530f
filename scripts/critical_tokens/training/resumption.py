"""Which checkpoints a training may go on from: its own, made with the same settings, data, model
and code.
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

# What lies beside a checkpoint. Written last: a checkpoint without it is not complete.
_STATE = "training.json"
# Values of each tensor that stand for it in a digest. Other weights differ in nearly all of them.
_LOOKED_AT = 1024


def digest(
    settings: TrainingSettings, examples: Sequence[Mapping[str, Any]], model: torch.nn.Module, about: Mapping[str, Any]
) -> str:
    """What a training's result depends on, in short: settings, examples, the model's weights, code,
    and what `about` says.
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
    """Say of a checkpoint whose it is, and what was recorded before it."""
    records.write_json(checkpoint / _STATE, {"digest": digest, "rows": list(rows)})


def last(folder: Path, digest: str) -> tuple[Path, list[Any]] | None:
    """The last checkpoint with this digest, and what was recorded before it."""
    for checkpoint in sorted(_checkpoints(folder), key=_updates, reverse=True):
        state = _state(checkpoint)
        if state.get("digest") == digest:
            return checkpoint, state["rows"]
    return None


def throw_away_others(folder: Path, digest: str, label: str) -> None:
    """Remove checkpoints that are another training's, or incomplete, and say so."""
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
    """What `mark` wrote; nothing where it wrote nothing that can be read."""
    try:
        state = records.read_json(checkpoint / _STATE)
    except (OSError, records.ArtifactError):
        return {}
    return state if isinstance(state, dict) and isinstance(state.get("rows"), list) else {}
