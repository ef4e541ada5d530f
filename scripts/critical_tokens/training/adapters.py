"""Train an adapter on a model and write it, or nothing at all."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from critical_tokens.core import records
from critical_tokens.training import alignment, trainer
from critical_tokens.training.settings import TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def train(
    model: PreTrainedModel,
    examples: Sequence[Mapping[str, Any]],
    method: alignment.Method,
    settings: TrainingSettings,
    lora: alignment.Lora,
    output: Path,
    log_every: int = 1,
) -> list[dict[str, float]]:
    """Train a LoRA adapter and write it in the PEFT format into the folder of `output`; returns the
    training history.

    A training that was stopped goes on from its last checkpoint, if its settings ask for any; they
    lie in the folder `checkpoints` beside `output` until it is done. Of several processes one
    writes. A diverging training raises trainer.TrainingDivergedError and leaves no adapter behind.
    Raises ArtifactError where there is nothing to train on, and Failure where the adapter cannot be
    written.
    """
    if not examples:
        raise records.ArtifactError(f"{output}: no example to train on; more problems or samples are needed")
    objective, collate = alignment.objective_of(method, settings.packing)
    adapted = alignment.add_adapter(model, lora, settings.seed)
    checkpoints = output.parent / "checkpoints"
    about = {"method": dataclasses.asdict(method), "lora": dataclasses.asdict(lora)}
    trained = trainer.fit(
        adapted, examples, collate, objective, settings, str(output.parent), log_every, checkpoints, about
    )
    if trained.main:
        try:
            with records.replacing_folder(output.parent) as folder:
                adapted.save_pretrained(folder, state_dict=trained.state, safe_serialization=True)
                (folder / "README.md").unlink(missing_ok=True)  # PEFT's template of a model card
        except (OSError, SafetensorError) as error:
            raise records.Failure(f"{output}: the adapter cannot be written ({error})") from error
        shutil.rmtree(checkpoints, ignore_errors=True)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # the others describe what one has written
    return trained.history
