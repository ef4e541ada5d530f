"""Throughput and memory of the transformers engine, of `generate`, and of vLLM.

Each side runs in a process of its own (`python docs/bench/engine_speed.py SIDE …`), so that its
peak memory is its own. vLLM's side runs in the environment of `make vllm`. Without that
environment it is left out, and a message says so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
VLLM_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
LIMIT = 96


def engines(_: Path) -> dict[str, Any]:
    """Sampling against `generate`, branching against vLLM; on a GPU also with a random 1B Llama."""
    import torch

    report = _table("pocket-m", "")
    if torch.cuda.is_available():
        report |= _table("random-1b", "_gpu")
    return report


def _table(model: str, suffix: str) -> dict[str, Any]:
    ours, theirs = (_median([_side(sys.executable, side, model) for _ in range(3)]) for side in ("engine", "generate"))
    result = {
        f"sampling_vs_generate{suffix}": _entry(ours["rate"], theirs["rate"], "tokens per second", "more"),
        f"memory_vs_generate{suffix}": _entry(ours["peak_mb"], theirs["peak_mb"], "MB above the loaded model", "less"),
    }
    if VLLM_PYTHON.is_file():
        ours = _median([_side(sys.executable, "branches", model) for _ in range(3)])
        theirs = _median([_side(str(VLLM_PYTHON), "branches-vllm", model) for _ in range(3)])
        result[f"branching_vs_vllm{suffix}"] = _entry(ours["rate"], theirs["rate"], "tokens per second", "more")
    else:
        print("bench: no .venv-vllm (make vllm makes it): branching_vs_vllm is left out", file=sys.stderr)
    return result


def _entry(ours: float, theirs: float, unit: str, better: str) -> dict[str, Any]:
    ratio = ours / theirs if better == "more" else theirs / ours
    return {"ours": round(ours, 1), "theirs": round(theirs, 1), "ratio": round(ratio, 2), "unit": unit}


def _median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: sorted(run[key] for run in runs)[len(runs) // 2] for key in runs[0]}


def _side(python: str, side: str, model: str) -> dict[str, float]:
    done = subprocess.run(
        [python, __file__, side, "--model", model], capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise SystemExit(f"bench: {side} failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# --- one side, in a process of its own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("engine", "generate", "branches", "branches-vllm"))
    parser.add_argument("--model", required=True)
    args = parser.parse_args()
    sides = {"engine": _engine, "generate": _generate, "branches": _branches, "branches-vllm": _branches_vllm}
    print(json.dumps(sides[args.side](args.model)))


def _source(name: str) -> Any:
    from critical_tokens.models.checkpoints import ModelSource

    return ModelSource(str(ROOT / "data" / "models" / name))


def _model(name: str) -> Any:
    """A shipped model, or a random Llama of a billion parameters in bf16 on the GPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from critical_tokens.models.checkpoints import load_model

    if name != "random-1b":
        return load_model(_source(name))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2048,
    )
    return LlamaForCausalLM(config).to("cuda", torch.bfloat16)


def _prompts(model: Any, count: int) -> list[tuple[int, ...]]:
    """Problems for a pocket model, random tokens for a random one."""
    from critical_tokens.data import prompts, sources
    from critical_tokens.models.checkpoints import load_tokenizer

    if not model.name_or_path:
        rng = random.Random(0)
        return [
            tuple(rng.randrange(3, model.config.vocab_size) for _ in range(rng.randint(40, 80))) for _ in range(count)
        ]
    questions = [p["question"] for p in sources.generated("pocket-gsm", "test", count, 0)]
    tokenizer = load_tokenizer(_source(Path(model.name_or_path).name))
    return [tuple(ids) for ids in prompts.encode_prompts(tokenizer, questions, prompts.Prompt("gsm8k", blank="prompt"))]


class _Peak:
    """Memory above what was in use before, in MB; of the GPU, or without one of the process."""

    def __init__(self) -> None:
        import torch

        self._gpu = torch.cuda.is_available()
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            # What getrusage calls the peak may be the parent's; Linux counts anew from here on.
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        self._before = self._now()

    def _now(self) -> float:
        import psutil
        import torch

        return torch.cuda.memory_allocated() / 2**20 if self._gpu else psutil.Process().memory_info().rss / 2**20

    def above(self) -> float:
        import torch

        if self._gpu:
            return torch.cuda.max_memory_allocated() / 2**20 - self._before
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) / 2**10 - self._before


def _engine(name: str) -> dict[str, float]:
    from critical_tokens.decoding.protocol import Request
    from critical_tokens.engines.transformers_engine import TransformersEngine

    model = _model(name)
    engine = TransformersEngine(model, model.config.eos_token_id)
    requests = [Request(p, 1, i, LIMIT) for i, p in enumerate(_prompts(model, 512))]
    peak = _Peak()
    return _timed(engine, requests) | {"peak_mb": peak.above()}


def _generate(name: str) -> dict[str, float]:
    """`generate` over the same 512 rows, padded on the left; tokens count up to EOS, included."""
    import torch

    model = _model(name)
    asked, eos = _prompts(model, 512), model.config.eos_token_id
    longest = max(map(len, asked))
    ids = torch.tensor([[eos] * (longest - len(p)) + list(p) for p in asked], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in asked], device=model.device)
    settings = {
        "do_sample": True,
        "temperature": 1.0,
        "top_p": 0.95,
        "top_k": 0,
        "max_new_tokens": LIMIT,
        "pad_token_id": eos,
    }
    torch.manual_seed(0)
    model.generate(input_ids=ids[:8], attention_mask=mask[:8], **settings)
    peak, start = _Peak(), time.monotonic()
    out = model.generate(input_ids=ids, attention_mask=mask, **settings)[:, longest:]
    seconds = time.monotonic() - start
    ended = (out == eos).long()
    tokens = ((ended.cumsum(-1) - ended) == 0).sum()
    return {"rate": float(tokens) / seconds, "peak_mb": peak.above()}


def _nested(model: Any) -> list[Any]:
    """64 continuations of each of 40 nested prefixes of an answer."""
    from critical_tokens.decoding.distributions import GREEDY
    from critical_tokens.decoding.protocol import Request
    from critical_tokens.engines.transformers_engine import TransformersEngine

    engine = TransformersEngine(model, model.config.eos_token_id)
    asked = _prompts(model, 32)
    answers = [a.token_ids for (a,) in engine.generate([Request(p, 1, 0, LIMIT) for p in asked], GREEDY)]
    prompt, answer = next((p, a) for p, a in zip(asked, answers, strict=True) if len(a) >= 40)
    return [Request((*prompt, *answer[:length]), 64, length, LIMIT - length) for length in range(40)]


def _timed(engine: Any, requests: list[Any]) -> dict[str, float]:
    """Tokens of the completions per second, EOS included, however often each was decoded."""
    from critical_tokens.decoding.distributions import Nucleus

    engine.generate(requests[:2], Nucleus(1.0, 0.95))
    start = time.monotonic()
    results = engine.generate(requests, Nucleus(1.0, 0.95))
    seconds = time.monotonic() - start
    return {"rate": sum(len(c.token_ids) + c.finished for of_it in results for c in of_it) / seconds}


def _branches(name: str) -> dict[str, float]:
    from critical_tokens.engines.transformers_engine import TransformersEngine

    model = _model(name)
    return _timed(TransformersEngine(model, model.config.eos_token_id), _nested(model))


def _branches_vllm(name: str) -> dict[str, float]:
    from critical_tokens.engines.vllm_engine import VllmEngine

    model = _model(name)
    requests, eos = _nested(model), model.config.eos_token_id
    engine = VllmEngine(_source(name), eos, 24_576)
    try:
        return _timed(engine, requests)
    finally:
        engine.close()


if __name__ == "__main__":
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    main()
