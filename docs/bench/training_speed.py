"""Training on pairs against TRL's DPOTrainer, and contrastive scoring against the released code.

The model is that of `half_billion`. Both sides get the same pairs of random tokens, with the
lengths of GSM8K's questions and answers, the same settings and all cores. Each side runs in a
process of its own (`python docs/bench/training_speed.py SIDE …`), so that its peak memory is its
own. TRL lies in the folder .trl, which `make bench` fills. Without it, its side is left out, and a
message says so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import half_billion

TRL = half_billion.ROOT / ".trl"
# Pairs of an update, and updates; the first one is not timed.
BATCH, UPDATES = 4, 3
# The same for the comparison of losses in float32, whose answers are shorter.
EXACT_BATCH, EXACT_UPDATES, EXACT_SHARE = 2, 3, 4
SCORED = 12
SETTINGS = {"learning_rate": 2e-5, "gamma": 0.1, "rank": 16, "alpha": 32}


def training(_: Path) -> dict[str, Any]:
    """Pairs per second, peak memory and losses of preference training; tokens scored per second."""
    report: dict[str, Any] = {"training_model": half_billion.name(), "training_dtype": half_billion.dtype()}
    if TRL.is_dir():
        for suffix, again in (("", "false"), ("_checkpointing", "true")):
            ours, theirs = (_side(side, checkpointing=again) for side in ("ours", "trl"))
            report |= {
                f"pairs_vs_trl{suffix}": _entry(ours, theirs, "rate", "pairs per second"),
                f"training_memory_vs_trl{suffix}": _entry(ours, theirs, "peak_mb", "MB above the loaded model"),
                f"training_memory_in_all_vs_trl{suffix}": _entry(ours, theirs, "all_mb", "MB"),
                f"losses_vs_trl{suffix}": _apart(ours, theirs),
            }
        report["losses_vs_trl_exact"] = _apart(*(_side(side, exact="true") for side in ("ours", "trl")))
    else:
        print("bench: no .trl (make bench makes it): TRL is left out", file=sys.stderr)
    ours, theirs, rejected = (_side(side) for side in ("score", "released", "one-side"))
    report["scoring_vs_released"] = _entry(ours, theirs, "rate", "rejected tokens per second")
    report["scoring_vs_released_rejected_only"] = _entry(ours, rejected, "rate", "rejected tokens per second")
    return report


def _entry(ours: dict[str, Any], theirs: dict[str, Any], key: str, unit: str) -> dict[str, Any]:
    ratio = ours[key] / theirs[key] if key == "rate" else theirs[key] / ours[key]
    return {"ours": round(ours[key], 3), "theirs": round(theirs[key], 3), "ratio": round(ratio, 2), "unit": unit}


def _apart(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    largest = max(abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
    return {"ours": ours["losses"], "theirs": theirs["losses"], "largest_difference": round(largest, 5)}


def _side(side: str, checkpointing: str = "false", exact: str = "false") -> dict[str, Any]:
    dtype = "float32" if exact == "true" else half_billion.dtype()
    options = {"model": half_billion.folder(), "dtype": dtype, "checkpointing": checkpointing, "exact": exact}
    command = [sys.executable, __file__, side, *(f"--{name}={value}" for name, value in options.items())]
    environment = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count())}
    if side == "trl":
        environment["PYTHONPATH"] = os.pathsep.join([str(TRL), environment.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"bench: {side} failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# --- one side, in a process of its own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    sides: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "ours": _ours,
        "trl": _trl,
        "score": _score,
        "released": lambda args: _released(args, ("chosen", "rejected")),
        "one-side": lambda args: _released(args, ("rejected",)),
    }
    parser.add_argument("side", choices=sides)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--checkpointing", required=True, choices=("true", "false"))
    parser.add_argument("--exact", required=True, choices=("true", "false"))
    args = parser.parse_args()
    print(json.dumps(sides[args.side](args)))


class _Pair:
    def __init__(self, rng: random.Random, share: int) -> None:
        ids = lambda least, most: [rng.randrange(1000, 150_000) for _ in range(rng.randint(least, most) // share)]  # noqa: E731
        self.prompt, self.chosen, self.rejected = ids(60, 120), ids(80, 200), ids(80, 200)


def _pairs(args: argparse.Namespace) -> tuple[list[_Pair], int]:
    """The pairs of a training in their order, and how many make an update."""
    exact = args.exact == "true"
    batch, updates = (EXACT_BATCH, EXACT_UPDATES) if exact else (BATCH, UPDATES)
    rng = random.Random(0)
    return [_Pair(rng, EXACT_SHARE if exact else 1) for _ in range(batch * updates)], batch


class _Watch:
    """The time at each update, and the memory above what was in use before."""

    def __init__(self) -> None:
        # What getrusage calls the peak may be the parent's; Linux counts anew from here on.
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        self._before, self._times = self._mb("VmRSS"), [time.monotonic()]

    def tick(self) -> None:
        self._times.append(time.monotonic())

    def report(self, batch: int, losses: list[float]) -> dict[str, Any]:
        timed = len(self._times) - 2
        peak = self._mb("VmHWM")
        return {
            "rate": batch * timed / (self._times[-1] - self._times[1]),
            "peak_mb": peak - self._before,
            "all_mb": peak,
            "losses": [round(loss, 5) for loss in losses],
        }

    def _mb(self, name: str) -> float:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        return int(found[1]) / 2**10 if found else 0.0


def _load(args: argparse.Namespace) -> Any:
    from critical_tokens.models.checkpoints import ModelSource, load_model

    return load_model(ModelSource(args.model, dtype=args.dtype))


def _ours(args: argparse.Namespace) -> dict[str, Any]:
    """The project's training. The log-probabilities of the reference are computed before it."""
    from critical_tokens.models.lora import Lora, add_adapter
    from critical_tokens.objectives.log_probabilities import PromptCompletion, answer_logps
    from critical_tokens.objectives.registry import Method
    from critical_tokens.training import alignment, trainer
    from critical_tokens.training.settings import TrainingSettings

    pairs, batch = _pairs(args)
    model = _load(args)
    items = [PromptCompletion(p.prompt, answer) for p in pairs for answer in (p.chosen, p.rejected)]
    logps = answer_logps(model, items, 2048, packed=True)
    examples = [
        alignment.pair_example(p.prompt, p.chosen, p.rejected, (logps[2 * i], logps[2 * i + 1]))
        for i, p in enumerate(pairs)
    ]
    settings = TrainingSettings(
        SETTINGS["learning_rate"], 1, batch, warmup_share=0.0, weight_decay=0.0, bf16=args.dtype == "bfloat16",
        gradient_checkpointing=args.checkpointing == "true", packing=True,
    )  # fmt: skip
    objective, collate = alignment.objective_of(Method("dpo", {"gamma": SETTINGS["gamma"]}), True)
    adapted = add_adapter(model, Lora(SETTINGS["rank"], SETTINGS["alpha"], 0.0, "all-linear"), 0)
    _same_adapter(adapted)
    watch, started = _Watch(), []

    def timed(model: Any, batch: Any) -> Any:
        if started:  # the update before this one has ended
            watch.tick()
        started.append(True)
        return objective(model, batch)

    history = trainer.fit(adapted, examples, collate, timed, settings, "ours").history
    watch.tick()
    return watch.report(batch, [row["loss"] for row in history])


def _trl(args: argparse.Namespace) -> dict[str, Any]:
    """TRL's training, which runs the reference model in every update unless told otherwise."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    from critical_tokens.models.checkpoints import ModelSource, load_tokenizer

    class OfIds(DPOTrainer):
        """TRL's trainer for pairs that are token ids already."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    class Ticks(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            watch.tick()

    pairs, batch = _pairs(args)
    model = _load(args)
    rows = [{"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected} for p in pairs]
    with tempfile.TemporaryDirectory() as scratch:
        config = DPOConfig(
            output_dir=scratch,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            learning_rate=SETTINGS["learning_rate"],
            beta=SETTINGS["gamma"],
            weight_decay=0.0,
            gradient_checkpointing=args.checkpointing == "true",
            bf16=args.dtype == "bfloat16",
            seed=0,
            data_seed=0,
            use_cpu=True,
            max_length=None,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = OfIds(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=load_tokenizer(ModelSource(str(half_billion.ROOT / "data" / "models" / "pocket-s"))),
            peft_config=LoraConfig(
                r=SETTINGS["rank"],
                lora_alpha=SETTINGS["alpha"],
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
        _same_adapter(trainer.model)
        watch = _Watch()
        trainer.add_callback(Ticks())
        trainer.train()
    return watch.report(batch, [float(row["loss"]) for row in trainer.state.log_history if "loss" in row])


def _same_adapter(model: Any) -> None:
    """Give an adapter its start: the same random numbers on both sides."""
    import torch

    for name, parameter in sorted(model.named_parameters()):
        if "lora_A" in name:
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            with torch.no_grad():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))


def _scored(args: argparse.Namespace) -> list[_Pair]:
    rng = random.Random(1)
    return [_Pair(rng, 1) for _ in range(SCORED)]


def _score(args: argparse.Namespace) -> dict[str, Any]:
    from critical_tokens.objectives.contrast import contrastive_scores
    from critical_tokens.objectives.log_probabilities import PromptCompletion

    positive, negative = _load(args), _load(args)
    items = [PromptCompletion(pair.prompt, pair.rejected) for pair in _scored(args)]
    contrastive_scores(positive, negative, items[:1], 1.0, 2048, packed=True)
    start = time.monotonic()
    contrastive_scores(positive, negative, items, 1.0, 2048, packed=True)
    return {"rate": sum(len(item.answer) for item in items) / (time.monotonic() - start)}


def _released(args: argparse.Namespace, sides: tuple[str, ...]) -> dict[str, Any]:
    """One pair at a time and two models one after the other, with all logits of every answer.

    The released code scores both answers, and its training reads the scores of the rejected ones.
    """
    import torch

    models, pairs = [_load(args), _load(args)], _scored(args)

    def score(pair: _Pair) -> None:
        for side in sides:
            ids = torch.tensor([[*pair.prompt, *getattr(pair, side)]])
            positive, negative = (model(input_ids=ids).logits.log_softmax(-1) for model in models)
            scores = (2.0 * positive - negative).softmax(-1)
            scores[0, :-1].gather(-1, ids[0, 1:].unsqueeze(-1)).squeeze(-1)[len(pair.prompt) - 1 :].tolist()

    with torch.inference_mode():
        score(pairs[0])
        start = time.monotonic()
        for pair in pairs:
            score(pair)
    return {"rate": sum(len(pair.rejected) for pair in pairs) / (time.monotonic() - start)}


if __name__ == "__main__":
    main()
