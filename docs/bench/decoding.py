"""Decoding with the shapes of a real model: few-shot prompts against prefill, generate and vLLM.

The model is that of `half_billion`. The prompts are eight worked examples and one of 16 questions
of a pocket world; each has eight samples of 48 tokens. Each side runs in a process of its own with
all cores, one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import half_billion

VLLM_PYTHON = half_billion.ROOT / ".venv-vllm" / "bin" / "python"
SHOTS, QUESTIONS, SAMPLES, NEW = 8, 16, 8, 48
MAX_TOKENS = 60_000
# Tokens of the batch whose forward pass tells how fast the machine multiplies.
PREFILL_ROWS, PREFILL_LENGTH = 8, 256


def decoding(_: Path) -> dict[str, Any]:
    """Ratios of the engine to prefill, to `generate` and to vLLM, and its key-value memory."""
    model = half_billion.folder()
    ours = _side(sys.executable, "engine", model)
    report: dict[str, Any] = {
        "model": half_billion.name(),
        "dtype": half_billion.dtype(),
        "rows": QUESTIONS * SAMPLES,
        "prompt_tokens": ours["prompt_tokens"],
        "decoding_vs_prefill": _ratio(ours["decoding"], ours["prefill"], "tokens per second"),
        "kv_tokens_vs_copies": _ratio(ours["copies"], ours["held"], "tokens in the key-value cache", inverse=True),
    }
    theirs = _side(sys.executable, "generate", model)
    report["end_to_end_vs_generate"] = _ratio(ours["rate"], theirs["rate"], "tokens per second")
    if VLLM_PYTHON.is_file():
        theirs = _side(str(VLLM_PYTHON), "vllm", model)
        report["end_to_end_vs_vllm"] = _ratio(ours["rate"], theirs["rate"], "tokens per second")
    else:
        print("bench: no .venv-vllm (make vllm makes it): end_to_end_vs_vllm is left out", file=sys.stderr)
    return {"decoding": report}


def _ratio(ours: float, theirs: float, unit: str, inverse: bool = False) -> dict[str, Any]:
    """The ratio of two numbers; with `inverse`, the first one is theirs."""
    values = {"ours": theirs, "theirs": ours} if inverse else {"ours": ours, "theirs": theirs}
    return {name: round(value, 1) for name, value in values.items()} | {"ratio": round(ours / theirs, 2), "unit": unit}


def _side(python: str, side: str, model: str) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    command = [python, __file__, side, "--model", model, "--dtype", half_billion.dtype()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"bench: {side} failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _requests(folder: str) -> list[Any]:
    from transformers import AutoTokenizer

    from critical_tokens.data import prompts, sources
    from critical_tokens.decoding.protocol import Request

    shown = sources.generated("pocket-gsm", "train", SHOTS, 0)
    asked = sources.generated("pocket-gsm", "test", QUESTIONS, 0)
    shots = tuple(prompts.Shot(p["question"], p["solution"]) for p in shown)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = prompts.encode_prompts(tokenizer, [p["question"] for p in asked], prompts.Prompt("gsm8k", shots=shots))
    return [Request(tuple(ids), SAMPLES, i, NEW) for i, ids in enumerate(encoded)]


# --- one side, in a process of its own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("engine", "generate", "vllm"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", required=True)
    args = parser.parse_args()
    print(json.dumps({"engine": _engine, "generate": _generate, "vllm": _vllm}[args.side](args.model, args.dtype)))


def _loaded(folder: str, dtype: str) -> Any:
    from critical_tokens.models.checkpoints import ModelSource, load_model

    return load_model(ModelSource(folder, None, dtype)).eval()


def _never_drawn(requests: list[Any]) -> int:
    """A token id to end answers at that no answer will have, so that all have the same length."""
    return next(i for i in range(3, 10_000) if not any(i in r.prefix for r in requests))


def _engine(folder: str, dtype: str) -> dict[str, float]:
    import torch

    from critical_tokens.decoding.distributions import Nucleus
    from critical_tokens.engines import continuous_batching, kv_cache
    from critical_tokens.engines.transformers_engine import TransformersEngine

    model, requests = _loaded(folder, dtype), _requests(folder)
    ids = torch.randint(3, 500, (PREFILL_ROWS, PREFILL_LENGTH), device=model.device)
    engine = TransformersEngine(model, _never_drawn(requests), MAX_TOKENS)
    with torch.inference_mode():
        rates = []
        for _ in range(4):  # the first one warms up
            start = time.monotonic()
            model(input_ids=ids, logits_to_keep=1)
            rates.append(ids.numel() / (time.monotonic() - start))
    filling = held = copies = segments = 0.0
    compute, arrange = continuous_batching.compute, kv_cache.RowCache.arrange

    def timed(host: Any, missing: Any, keep: int = 1) -> Any:
        nonlocal filling, segments
        start = time.monotonic()
        segments += sum(len(segment.tokens) for segment in missing)
        found = compute(host, missing, keep)
        filling += time.monotonic() - start
        return found

    def counted(rows: Any, places: Any, column: Any) -> None:
        nonlocal held, copies
        arrange(rows, places, column)
        own = int(column.sum()) + rows.active
        prefixes = sum(len(r.prefix) - 1 for r in requests) * rows.active / len(requests)
        held, copies = max(held, segments + rows.active * (int(column.max()) + 1)), max(copies, prefixes + own)

    continuous_batching.compute, kv_cache.RowCache.arrange = timed, counted
    start = time.monotonic()
    found = engine.generate(requests, Nucleus(0.9, 0.95))
    seconds = time.monotonic() - start
    tokens = sum(len(c.token_ids) for of_it in found for c in of_it)
    return {
        "prefill": sorted(rates[1:])[1],
        "decoding": tokens / (seconds - filling),
        "rate": tokens / seconds,
        "held": held,
        "copies": copies,
        "prompt_tokens": sum(len(r.prefix) for r in requests) / len(requests),
    }


def _generate(folder: str, dtype: str) -> dict[str, float]:
    import torch

    model, requests = _loaded(folder, dtype), _requests(folder)
    longest = max(len(r.prefix) for r in requests)
    rows = [r.prefix for r in requests for _ in range(SAMPLES)]
    ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in rows], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in rows], device=model.device)
    start = time.monotonic()
    model.generate(
        input_ids=ids, attention_mask=mask, do_sample=True, temperature=0.9, top_p=0.95, top_k=0, max_new_tokens=NEW,
        min_new_tokens=NEW, pad_token_id=0, eos_token_id=_never_drawn(requests), logits_to_keep=1,
    )  # fmt: skip
    return {"rate": len(rows) * NEW / (time.monotonic() - start)}


def _vllm(folder: str, dtype: str) -> dict[str, float]:
    from critical_tokens.decoding.distributions import Nucleus
    from critical_tokens.decoding.protocol import Request
    from critical_tokens.engines.vllm_engine import VllmEngine
    from critical_tokens.models.checkpoints import ModelSource

    requests = _requests(folder)
    context = max(len(r.prefix) for r in requests) + NEW
    engine = VllmEngine(ModelSource(folder, None, dtype), _never_drawn(requests), 250_000, context=context)
    try:
        engine.generate([Request((5, 6, 7, 8), 2, 0, 4)], Nucleus(0.9, 0.95))  # warms up
        start = time.monotonic()
        found = engine.generate(requests, Nucleus(0.9, 0.95))
        return {"rate": sum(len(c.token_ids) for of_it in found for c in of_it) / (time.monotonic() - start)}
    finally:
        engine.close()


if __name__ == "__main__":
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    main()
