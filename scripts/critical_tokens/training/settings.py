"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the optimiser and of its batches.

    An update is the same however its examples are split into steps and processes.

    batch_size: examples per step (pairs for preference objectives), over all processes.
    accumulation: steps per update.
    warmup_share: share of the updates in which the learning rate rises.
    by_length: whether examples of similar length share a batch; for a single process only.
    gradient_checkpointing: whether activations are recomputed instead of kept.
    packing: whether a batch is one row without padding, see alignment.objective_of.
    checkpoint_updates: updates between two checkpoints; None for no checkpoints.
    """

    learning_rate: float
    epochs: float
    batch_size: int
    accumulation: int = 1
    schedule: str = "linear"
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    by_length: bool = False
    bf16: bool = False
    gradient_checkpointing: bool = False
    packing: bool = False
    checkpoint_updates: int | None = None
    seed: int = 0
