"""Training through transformers.Trainer: one loop for every objective.

An objective is a function of the model and a batch that returns the loss and the numbers to record.
What differs between methods lives in `objectives` and in the batches; what differs between runs
lives in `TrainingSettings`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from critical_tokens.core.progress import Progress
from critical_tokens.core.records import Failure
from critical_tokens.models.lengths import check_length, longest_input
from critical_tokens.objectives import losses
from critical_tokens.training import resumption
from critical_tokens.training.settings import TrainingSettings
from critical_tokens.training.updates import FilledOrder, count, counts_of_update, filled, without_blanks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Batch = dict[str, torch.Tensor]
Objective = Callable[[torch.nn.Module, Batch], tuple[torch.Tensor, dict[str, float]]]


class TrainingDivergedError(Failure):
    """The loss is not finite."""


def fit(
    model: PreTrainedModel,
    examples: Sequence[Mapping[str, Any]],
    collate: Callable[[list[Any]], Batch],
    objective: Objective,
    settings: TrainingSettings,
    label: str,
    log_every: int = 1,
    checkpoints: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> Trained:
    """Train `model` in place; its history has a row of numbers every `log_every` updates.

    `label` names the training in progress lines; `checkpoints` is the folder for checkpoints, if
    there are any. A training goes on from what lies there if that was made with the same settings,
    examples, model and code, and with the same `about`: what else the result depends on (the
    constants of the objective). Under `accelerate launch` the processes share every batch. Raises
    TrainingDivergedError, naming step and settings, when a loss is not finite, and Failure where an
    example is longer than the model's context.
    """
    from datasets import Dataset

    _check_lengths(model, examples)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if settings.batch_size % processes:
        raise Failure(
            f"a batch of {settings.batch_size} cannot be shared by {processes} processes; batch_size must be a multiple"
        )
    saving = checkpoints is not None and settings.checkpoint_updates is not None
    with tempfile.TemporaryDirectory(prefix="training-") as scratch:
        folder = checkpoints if saving else Path(scratch)
        trainer = _ObjectiveTrainer(
            objective,
            settings,
            model=model,
            args=_arguments(settings, folder, saving, processes),
            train_dataset=Dataset.from_list(filled(examples, settings.batch_size) if processes > 1 else list(examples)),
            data_collator=without_blanks(collate) if processes > 1 else collate,
            order=FilledOrder(len(examples), settings.batch_size, settings.seed) if processes > 1 else None,
        )
        trainer.add_callback(_ProgressCallback(label, trainer.last_loss))
        trainer.remove_callback(PrinterCallback)
        last = None
        if saving:
            described = {**(about or {}), "processes": processes}
            last = trainer.recall(folder, resumption.digest(settings, examples, model, described), label)
        trainer.train(resume_from_checkpoint=last)
        adapter = trainer.accelerator.get_state_dict(trainer.model)
    return Trained(trainer.history(log_every), adapter, trainer.is_world_process_zero())


def _arguments(settings: TrainingSettings, folder: Path, saving: bool, processes: int) -> TrainingArguments:
    """The Trainer's own settings. Warm-up is set once it knows how many updates there are
    (create_scheduler).
    """
    return TrainingArguments(
        output_dir=str(folder),
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size // processes,
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        gradient_accumulation_steps=settings.accumulation,
        lr_scheduler_type=settings.schedule,
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        max_grad_norm=settings.max_grad_norm,
        train_sampling_strategy="group_by_length" if settings.by_length else "random",
        bf16=settings.bf16,
        seed=settings.seed,
        data_seed=settings.seed,
        save_strategy="steps" if saving else "no",
        save_steps=settings.checkpoint_updates or 1,
        save_total_limit=1,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


class Trained(NamedTuple):
    """What a training leaves: its history, the model's weights gathered from all processes, and who
    may write them.
    """

    history: list[dict[str, float]]
    state: dict[str, torch.Tensor]
    main: bool


class _ObjectiveTrainer(Trainer):
    """Trainer whose loss is an objective, and which keeps what the objective reports."""

    loss_is_scaled_for_ga = True  # objectives divide by the counts of a whole update

    def __init__(
        self, objective: Objective, settings: TrainingSettings, order: FilledOrder | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._objective = objective
        self._settings = settings
        self._order = order
        self._digest: str | None = None
        self._rows: list[tuple[int, dict[str, float]]] = []

    def create_scheduler(self, num_training_steps, optimizer=None):  # noqa: ANN001
        self.args.warmup_steps = math.ceil(self._settings.warmup_share * num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_train_sampler(self, train_dataset=None):  # noqa: ANN001
        return self._order or super()._get_train_sampler(train_dataset)

    def get_batch_samples(self, epoch_iterator, num_batches, device):  # noqa: ANN001
        """The batches of an update, whose counts are those of the update."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = counts_of_update(batches)
        return [{**batch, **counts} for batch in batches], items

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # noqa: ANN001
        loss, numbers = self._objective(model, inputs)
        value = float(loss.detach())
        if not math.isfinite(value):
            settings = ", ".join(f"{k}={v}" for k, v in dataclasses.asdict(self._settings).items())
            raise TrainingDivergedError(f"loss is {value} at step {self.state.global_step + 1} ({settings})")
        row = {"loss": value, **numbers}
        if self.accelerator.num_processes > 1:
            means = self.accelerator.reduce(torch.tensor(list(row.values()), device=loss.device), "mean").tolist()
            row = dict(zip(row, means, strict=True))
        self._record(self.state.global_step + 1, row)
        return (loss, None) if return_outputs else loss

    def _record(self, step: int, row: dict[str, float]) -> None:
        """Every batch brings its share of the numbers of its update."""
        if self._rows and self._rows[-1][0] == step:
            row = {name: value + self._rows[-1][1][name] for name, value in row.items()}
            self._rows.pop()
        self._rows.append((step, row))

    def _save_checkpoint(self, model, trial):  # noqa: ANN001
        folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                resumption.mark(folder, self._digest, self._rows)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise Failure(f"{folder}: the checkpoint cannot be written ({error})") from error

    def recall(self, folder: Path, digest: str, label: str) -> str | None:
        """The checkpoint to go on from, if there is one; takes up what was recorded before it."""
        self._digest = digest if self.accelerator.num_processes == 1 else broadcast_object_list([digest])[0]
        if self.is_world_process_zero():
            resumption.throw_away_others(folder, self._digest, label)
        self.accelerator.wait_for_everyone()
        found = resumption.last(folder, self._digest)
        if found is None:
            return None
        checkpoint, rows = found
        self._rows = [(step, numbers) for step, numbers in rows]
        return str(checkpoint)

    def last_loss(self) -> float:
        """The loss of the last update, as far as it has come."""
        return self._rows[-1][1]["loss"]

    def history(self, every: int) -> list[dict[str, float]]:
        """Means of the recorded numbers over windows of `every` optimiser steps; `step` is the last
        of a window.
        """
        windows: dict[int, list[dict[str, float]]] = {}
        last = self.state.global_step
        for step, numbers in self._rows:
            windows.setdefault(min(math.ceil(step / every) * every, last), []).append(numbers)
        return [
            {"step": step, **{name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}}
            for step, rows in sorted(windows.items())
        ]


class _ProgressCallback(TrainerCallback):
    """Says how far a training is; how many updates it makes is known to the Trainer, once it has
    begun.
    """

    def __init__(self, label: str, loss: Callable[[], float]) -> None:
        self._label, self._loss = label, loss

    def on_train_begin(self, args, state, control, **kwargs):  # noqa: ANN001
        self._progress = Progress(self._label, state.max_steps, "updates")

    def on_step_end(self, args, state, control, **kwargs):  # noqa: ANN001
        self._progress.update(state.global_step, f", loss {self._loss():.3f}")

    def on_train_end(self, args, state, control, **kwargs):  # noqa: ANN001
        self._progress.close()


def _check_lengths(model: PreTrainedModel, examples: Sequence[Mapping[str, Any]]) -> None:
    """Raise Failure where an example, or an answer of a pair with its prompt, is longer than the
    model can read.
    """
    longest = longest_input(model)
    for example in examples:
        inputs = (
            [example["prompt"] + answer for answer in example["answers"]]
            if "answers" in example
            else [example["input_ids"]]
        )
        check_length(max(map(len, inputs)), longest, example.get("problem_id"))


def pad(rows: Sequence[Sequence[float]], fill: float, dtype: torch.dtype) -> torch.Tensor:
    """Rows of unequal length as one tensor (rows, longest), filled on the right."""
    out = torch.full((len(rows), max(len(r) for r in rows)), fill, dtype=dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.as_tensor(row, dtype=dtype)
    return out


# --- weighted negative log-likelihood: pretraining, SFT, the positive and the negative model


def collate_weighted(examples: list[Mapping[str, Any]]) -> Batch:
    """Batch of examples with `input_ids` and, aligned with them, `weights` (the weight of
    predicting that token).
    """
    return {
        "input_ids": pad([e["input_ids"] for e in examples], 0, torch.long),
        "attention_mask": pad([[1] * len(e["input_ids"]) for e in examples], 0, torch.long),
        "weights": pad([e["weights"] for e in examples], 0.0, torch.float32),
        "tokens": _trained_tokens(examples),
    }


def collate_packed(examples: list[Mapping[str, Any]]) -> Batch:
    """The same batch as one row without padding: positions begin anew with every example, which
    sees nothing of the others.
    """
    # The first token of an example is predicted by nothing, though another example stands before
    # it.
    weights = [w for e in examples for w in (0.0, *e["weights"][1:])]
    positions = [p for e in examples for p in range(len(e["input_ids"]))]
    return {
        "input_ids": torch.tensor([[i for e in examples for i in e["input_ids"]]]),
        "position_ids": torch.tensor([positions]),
        "weights": torch.tensor([weights], dtype=torch.float32),
        "tokens": _trained_tokens(examples),
    }


def _trained_tokens(examples: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """The weight of all tokens of the examples. The first of each is predicted by nothing."""
    return count(sum(sum(e["weights"][1:]) for e in examples))


def first_wanted(weights: torch.Tensor) -> int:
    """The first column of weights (rows, tokens) that is not zero in every row: the prompts' common
    part lies before it.
    """
    return int((weights != 0).any(0).float().argmax())


def predictions(model: torch.nn.Module, batch: Batch, first: int) -> torch.Tensor:
    """Logits that predict tokens 1 + first and on: (rows, tokens - 1 - first, vocabulary). What is
    not wanted costs nothing.
    """
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch}
    kept = batch["input_ids"].shape[1] - first
    return model(**inputs, logits_to_keep=kept).logits[:, :-1]


def nll_objective(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """Weighted mean negative log-likelihood over the tokens of the batch, or its share of the
    update's mean.
    """
    weights = batch["weights"][:, 1:]
    first = first_wanted(weights)
    logps = losses.token_logps(predictions(model, batch, first), batch["input_ids"][:, 1 + first :])
    return losses.weighted_nll(logps, weights[:, first:], batch["tokens"]), {}


def save_model(model: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    """Write a whole model in the Hugging Face format, safetensors only."""
    model.to(dtype).save_pretrained(folder, safe_serialization=True)
