"""The training loop for all objectives, by transformers.Trainer.

An objective is a function of the model and a batch. It returns the loss and numbers to record. What
differs between methods is in `objectives` and in the batches; what differs between runs is in
`TrainingSettings`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from critical_tokens.core.progress import Progress
from critical_tokens.core.records import Failure
from critical_tokens.models.inference import check_length, longest_input
from critical_tokens.objectives.output_layer import unwrapped
from critical_tokens.objectives.packing import Batch
from critical_tokens.training import resumption
from critical_tokens.training.likelihood import Objective
from critical_tokens.training.settings import TrainingSettings
from critical_tokens.training.updates import FilledOrder, counts_of_update, filled, without_blanks

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class TrainingDivergedError(Failure):
    """The loss is not finite."""


def fit(
    model: PreTrainedModel | PeftModel,
    examples: Sequence[Mapping[str, Any]],
    collate: Callable[[list[Any]], Batch],
    objective: Objective,
    settings: TrainingSettings,
    label: str,
    log_every: int = 1,
    checkpoints: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> Trained:
    """Train `model` in place; the history has a row of numbers every `log_every` updates.

    label: how progress lines name the training.
    checkpoints: the folder of checkpoints. The training continues from the last one in it that was
    made with the same settings, examples, model, code and `about`.
    about: what else the result depends on, such as the constants of the objective.

    Under `accelerate launch` the processes share every batch. Raises TrainingDivergedError, naming
    step and settings, if a loss is not finite, and Failure if an example exceeds the context of the
    model.
    """
    from datasets import Dataset

    _check_lengths(model, examples)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if settings.batch_size % processes:
        raise Failure(
            f"a batch of {settings.batch_size} cannot be shared by {processes} processes; batch_size must be a multiple"
        )
    kept = checkpoints if settings.checkpoint_updates is not None else None
    with tempfile.TemporaryDirectory(prefix="training-") as scratch:
        folder = kept or Path(scratch)
        trainer = _ObjectiveTrainer(
            objective,
            settings,
            model=model,
            args=_arguments(settings, folder, kept is not None, processes),
            train_dataset=Dataset.from_list(filled(examples, settings.batch_size) if processes > 1 else list(examples)),
            data_collator=without_blanks(collate) if processes > 1 else collate,
            order=FilledOrder(len(examples), settings.batch_size, settings.seed) if processes > 1 else None,
        )
        trainer.add_callback(_ProgressCallback(label, trainer.last_loss))
        trainer.remove_callback(PrinterCallback)
        last = None
        if kept is not None:
            described = {**(about or {}), "processes": processes}
            last = trainer.recall(folder, resumption.digest(settings, examples, model, described), label)
        trainer.train(resume_from_checkpoint=last)
        adapter = trainer.accelerator.get_state_dict(trainer.model)
    return Trained(trainer.history(log_every), adapter, trainer.is_world_process_zero())


def _arguments(settings: TrainingSettings, folder: Path, saving: bool, processes: int) -> TrainingArguments:
    """Arguments of the Trainer, except for the warm-up, see _ObjectiveTrainer.create_scheduler."""
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
    """The result of a training.

    history: the recorded numbers, see _ObjectiveTrainer.history.
    state: the weights of the adapter or model, gathered from all processes.
    main: whether this process is the one that writes them.
    """

    history: list[dict[str, float]]
    state: dict[str, torch.Tensor]
    main: bool


class _ObjectiveTrainer(Trainer):
    """A Trainer whose loss is an objective, and that records the numbers of the objective."""

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

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        # Only now the number of updates is known.
        self.args.warmup_steps = math.ceil(self._settings.warmup_share * num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        return self._order or super()._get_train_sampler(train_dataset)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor | int | None]:
        """The batches of an update, each with the counts of the whole update."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = counts_of_update(batches)
        return [{**batch, **counts} for batch in batches], items

    def compute_loss(
        self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor | tuple[torch.Tensor, None]:
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
        """Add the numbers of a batch, which are its shares of the numbers of its update."""
        if self._rows and self._rows[-1][0] == step:
            row = {name: value + self._rows[-1][1][name] for name, value in row.items()}
            self._rows.pop()
        self._rows.append((step, row))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        assert self._digest is not None  # noqa: S101 - `recall` has set it if checkpoints are kept
        folder = Path(str(self.args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                resumption.mark(folder, self._digest, self._rows)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise Failure(f"{folder}: the checkpoint cannot be written ({error})") from error

    def recall(self, folder: Path, digest: str, label: str) -> str | None:
        """The checkpoint to continue from, or None; also restores the rows recorded before it.

        Checkpoints that the training must not continue from are deleted.
        """
        # The digest of the first process counts, so that all processes agree on the checkpoint.
        if self.accelerator.num_processes > 1:
            digest = broadcast_object_list([digest])[0]
        self._digest = digest
        if self.is_world_process_zero():
            resumption.throw_away_others(folder, digest, label)
        self.accelerator.wait_for_everyone()
        found = resumption.last(folder, digest)
        if found is None:
            return None
        checkpoint, rows = found
        self._rows = [(step, numbers) for step, numbers in rows]
        return str(checkpoint)

    def last_loss(self) -> float:
        """The loss of the latest update, summed over its batches so far."""
        return self._rows[-1][1]["loss"]

    def history(self, every: int) -> list[dict[str, float]]:
        """Means of the numbers over windows of `every` updates; `step` is the last of a window."""
        windows: dict[int, list[dict[str, float]]] = {}
        last = self.state.global_step
        for step, numbers in self._rows:
            windows.setdefault(min(math.ceil(step / every) * every, last), []).append(numbers)
        return [
            {"step": step, **{name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}}
            for step, rows in sorted(windows.items())
        ]


class _ProgressCallback(TrainerCallback):
    """Progress lines. The Trainer knows the number of updates only once the training has begun."""

    def __init__(self, label: str, loss: Callable[[], float]) -> None:
        self._label, self._loss = label, loss

    def on_train_begin(self, args: object, state: TrainerState, control: object, **kwargs: object) -> None:
        self._progress = Progress(self._label, state.max_steps, "updates")

    def on_step_end(self, args: object, state: TrainerState, control: object, **kwargs: object) -> None:
        self._progress.update(state.global_step, f", loss {self._loss():.3f}")

    def on_train_end(self, args: object, state: TrainerState, control: object, **kwargs: object) -> None:
        self._progress.close()


def _check_lengths(model: PreTrainedModel | PeftModel, examples: Sequence[Mapping[str, Any]]) -> None:
    """Raise Failure if a prompt with an answer exceeds the context of the model."""
    longest = longest_input(unwrapped(model))
    for example in examples:
        inputs = (
            [example["prompt"] + answer for answer in example["answers"]]
            if "answers" in example
            else [example["input_ids"]]
        )
        check_length(max(map(len, inputs)), longest, example.get("problem_id"))


def save_model(model: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    """Write a whole model in the Hugging Face format, safetensors only."""
    model.to(dtype)  # type: ignore[arg-type]  # transformers' annotation takes the dtype for `self`
    model.save_pretrained(folder, safe_serialization=True)
