"""The optimiser settings of a training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """Optimiser settings. `batch_size` counts examples (pairs for preference objectives) of a step,
    over all processes.

    An update has `accumulation` steps, and is the same however its examples are cut into steps and
    processes.

    gradient_checkpointing: compute activations twice instead of keeping them. checkpoint_updates:
    updates between two checkpoints, which a training that was stopped goes on from; none if None.
    packing: see alignment.objective_of. by_length: examples of like length share a batch; of a
    single process.
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
