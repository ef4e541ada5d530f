"""Training of a LoRA adapter, which is written completely or not at all."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from critical_tokens.core import records
from critical_tokens.models.lora import Lora, add_adapter
from critical_tokens.objectives import registry
from critical_tokens.training import alignment, trainer
from critical_tokens.training.settings import TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def train(
    model: PreTrainedModel,
    examples: Sequence[Mapping[str, Any]],
    method: registry.Method,
    settings: TrainingSettings,
    lora: Lora,
    output: Path,
    log_every: int = 1,
) -> list[dict[str, float]]:
    """Train a LoRA adapter, write it beside `output` in the PEFT format, and return the history.

    If the settings ask for checkpoints, they lie in the folder `checkpoints` beside `output` until
    the training is done, and a training that was stopped continues from the last one. If several
    processes train, one of them writes.

    Raises TrainingDivergedError for a loss that is not finite (no adapter is written then),
    ArtifactError if there are no examples, and Failure if the adapter cannot be written.
    """
    if not examples:
        raise records.ArtifactError(f"{output}: no example to train on; more problems or samples are needed")
    objective, collate = alignment.objective_of(method, settings.packing)
    adapted = add_adapter(model, lora, settings.seed)
    checkpoints = output.parent / "checkpoints"
    about = {"method": dataclasses.asdict(method), "lora": dataclasses.asdict(lora)}
    trained = trainer.fit(
        adapted, examples, collate, objective, settings, str(output.parent), log_every, checkpoints, about
    )
    if trained.main:
        try:
            with records.replacing_folder(output.parent) as folder:
                adapted.save_pretrained(str(folder), state_dict=trained.state, safe_serialization=True)
                (folder / "README.md").unlink(missing_ok=True)  # PEFT's template of a model card
        except (OSError, SafetensorError) as error:
            raise records.Failure(f"{output}: the adapter cannot be written ({error})") from error
        shutil.rmtree(checkpoints, ignore_errors=True)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # the other processes wait until the adapter is written
    return trained.history
