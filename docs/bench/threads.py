"""What threads bring to jobs of models of several sizes (part `threads` of `make bench`).

A run can give all cores of a machine to one job, or one core each to several jobs. For sampling,
scoring and training with random Llamas in float32, three speeds are compared: a job of one thread
that is alone, a job with a thread for each core that is alone, and jobs of one thread, one for each
core, side by side. The jobs are processes of their own (`python docs/bench/threads.py WORK SHAPE`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Layers, width, heads, width of the MLP and vocabulary. The first two are those of the pocket
# models, the last is that of SmolLM2-135M.
SHAPES = {
    "0.5 M": (4, 96, 4, 256, 512),
    "1.5 M": (5, 160, 5, 384, 512),
    "4 M": (6, 224, 7, 640, 1024),
    "10 M": (8, 320, 8, 768, 2048),
    "30 M": (12, 448, 8, 1024, 4096),
    "135 M": (30, 576, 9, 1536, 49152),
}
WORKS = ("sample", "score", "train")
SECONDS, ROUNDS, ROWS, LENGTH = 2.0, 3, 32, 96


def threads(_: Path) -> dict[str, Any]:
    """For each kind of work and each size: tokens per second, and what a thread per core brings."""
    cores = len(os.sched_getaffinity(0))
    table = []
    for shape in SHAPES:
        for work in WORKS:
            jobs = [_started(work, shape) for _ in range(cores)]
            rounds = [(_rate(jobs[:1], 1), _rate(jobs[:1], cores), _rate(jobs, 1)) for _ in range(ROUNDS)]
            for job in jobs:
                job.communicate()
            table.append({
                "work": work,
                "shape": shape,
                "parameters": _parameters(shape),
                "one_thread": round(statistics.median(one for one, _, _ in rounds), 1),
                # Ratios of neighbouring measurements, because the load of the machine may change.
                "alone": round(statistics.median(wide / one for one, wide, _ in rounds), 2),
                "shared": round(statistics.median(wide / beside for _, wide, beside in rounds), 2),
            })  # fmt: skip
            print(f"bench: {table[-1]}", file=sys.stderr, flush=True)
    return {"threads": {"cores": cores, "table": table}}


def _started(work: str, shape: str) -> Any:
    """A job that has loaded and waits."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    job = subprocess.Popen([sys.executable, __file__, work, shape], **pipes)
    if job.stdout.readline() != "ready\n":
        raise SystemExit(f"bench: {work} with {shape} parameters failed")
    return job


def _rate(jobs: list[Any], count: int) -> float:
    """Tokens per second of jobs that work side by side with `count` threads each."""
    for job in jobs:
        job.stdin.write(f"{count}\n")
        job.stdin.flush()
    return sum(float(job.stdout.readline()) for job in jobs)


# --- one job, in a process of its own


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the programs (workflow/command_line.py)
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("shape", choices=SHAPES)
    args = parser.parse_args()
    step = {"sample": _sampling, "score": _scoring, "train": _training}[args.work](_model(args.shape))
    step()
    print("ready", flush=True)
    for line in sys.stdin:
        torch.set_num_threads(int(line))
        start, tokens = time.monotonic(), 0
        while time.monotonic() - start < SECONDS:
            tokens += step()
        print(tokens / (time.monotonic() - start), flush=True)


def _config(shape: str) -> Any:
    from transformers import LlamaConfig

    layers, width, heads, mlp, vocabulary = SHAPES[shape]
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )


def _model(shape: str) -> Any:
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(_config(shape)).eval()


def _parameters(shape: str) -> int:
    import torch
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(_config(shape)).num_parameters()


def _ids(model: Any) -> Any:
    import torch

    return torch.randint(3, model.config.vocab_size, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))


def _sampling(model: Any) -> Callable[[], int]:
    """Answers of 16 tokens to 32 prompts of 24 tokens, decoded together."""
    from critical_tokens.decoding.distributions import Nucleus
    from critical_tokens.decoding.protocol import Request
    from critical_tokens.engines.transformers_engine import TransformersEngine

    engine = TransformersEngine(model, 2)
    requests = [Request(tuple(row[: LENGTH // 4]), 1, i, 16) for i, row in enumerate(_ids(model).tolist())]
    return lambda: sum(len(c.token_ids) for of_it in engine.generate(requests, Nucleus(1.0, 0.95)) for c in of_it)


def _scoring(model: Any) -> Callable[[], int]:
    """Log-probabilities of 8 answers of 96 tokens."""
    import torch

    ids = _ids(model)[:8]

    def step() -> int:
        with torch.no_grad():
            model(input_ids=ids, use_cache=False).logits.log_softmax(-1)
        return ids.numel()

    return step


def _training(model: Any) -> Callable[[], int]:
    """Gradients of a LoRA adapter of rank 16 on 4 answers of 96 tokens."""
    from peft import LoraConfig, get_peft_model

    ids = _ids(model)[:4]
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(model.train(), LoraConfig(r=16, target_modules=layers, task_type="CAUSAL_LM"))

    def step() -> int:
        adapted.zero_grad()
        adapted(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        return ids.numel()

    return step


if __name__ == "__main__":
    main()
