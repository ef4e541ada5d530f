"""The model that decoding and training are measured with, and its dtype.

It is the folder that REAL_MODEL names, or random weights in the shapes of Qwen2.5-0.5B. The dtype
is bfloat16, or float32 on a processor without instructions for bfloat16 and without a GPU.
"""

from __future__ import annotations

import os
from pathlib import Path

from critical_tokens.planning import hardware

ROOT = Path(__file__).resolve().parent.parent.parent
RANDOM = ROOT / "results" / "bench" / "random-0.5b"
# The spread of the random logits, with which next tokens are about as certain as a trained model's.
SPREAD = 8.0


def folder() -> str:
    """The folder of the model; random weights are made once."""
    return os.environ.get("REAL_MODEL") or _random()


def name() -> str:
    """What reports call the model."""
    real = os.environ.get("REAL_MODEL")
    return Path(real).name if real else "random weights with the shapes of Qwen2.5-0.5B"


def dtype() -> str:
    """The dtype that this machine computes fastest in."""
    return "bfloat16" if hardware.visible_gpus() or hardware.bfloat16_gain() > 1 else "float32"


def _random() -> str:
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    if not (RANDOM / "tokenizer.json").is_file():
        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
            num_key_value_heads=2, max_position_embeddings=32_768, tie_word_embeddings=True, dtype="bfloat16",
        )  # fmt: skip
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
        # The last layer norm sets the spread of the logits.
        model.model.norm.weight.data.mul_(SPREAD / (config.initializer_range * config.hidden_size**0.5))
        model.save_pretrained(RANDOM)
        AutoTokenizer.from_pretrained(ROOT / "data" / "models" / "pocket-s").save_pretrained(RANDOM)
    return str(RANDOM)
