"""Tiny random models of many architectures whose greedy tokens are clearly the most probable."""

import torch
import transformers
from transformers import AutoModelForCausalLM

EOS = 2
_IDS = {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": EOS, "pad_token_id": 0}
_NAMED = _IDS | {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128, "initializer_range": 0.3,
}  # fmt: skip
_GPT = {**_IDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3}
_OLD = {**_IDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3}
_LATENT = {
    "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1,
    "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1,
}  # fmt: skip
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "head_dim": 8,
}  # fmt: skip
_MIXED = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
_LONGROPE = {
    "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "rope_theta": 1e4,
    "original_max_position_embeddings": 40,
}  # fmt: skip


def _vision(text):
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {
        "text_config": text,
        "vision_config": vision | {"image_size": 28, "patch_size": 14},
        "mm_tokens_per_image": 4,
    }


_GEMMA3 = _NAMED | _MIXED | {"head_dim": 8, "query_pre_attn_scalar": 8}

# Decoded by continuous batching at any length.
SHARED = {
    "llama": ("LlamaConfig", _NAMED),
    "llama, yarn": (
        "LlamaConfig",
        _NAMED | {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}},
    ),
    "qwen2": ("Qwen2Config", _NAMED),
    "qwen3, experts": ("Qwen3MoeConfig", _NAMED | _EXPERTS | {"head_dim": 8}),
    "mistral": ("MistralConfig", _NAMED | {"sliding_window": None}),
    "gemma": ("GemmaConfig", _NAMED | {"head_dim": 8}),
    "olmo 2": ("Olmo2Config", _NAMED),
    "granite": ("GraniteConfig", _NAMED),
    "phi": ("PhiConfig", _NAMED | {"num_key_value_heads": 4}),
    "stablelm": ("StableLmConfig", _NAMED),
    "gpt-2": ("GPT2Config", _GPT),
    "starcoder": ("GPTBigCodeConfig", _GPT),
    "gpt-neox": ("GPTNeoXConfig", _OLD | {"intermediate_size": 48, "max_position_embeddings": 128}),
    "opt": (
        "OPTConfig",
        _OLD
        | {
            "ffn_dim": 48,
            "init_std": 0.3,
            "word_embed_proj_dim": 32,
            "max_position_embeddings": 128,
            "pad_token_id": 1,
        },
    ),
    "bert as a decoder": ("BertConfig", _NAMED | {"is_decoder": True}),
}

# Never decoded by continuous batching, because a layer sees only 8 tokens, keeps a state, computes
# position biases from the mask, caches something else than keys and values, or has attention of its
# own instead of transformers' interface.
PLAIN = {
    "gpt-j": ("GPTJConfig", _GPT | {"rotary_dim": 8}),
    "falcon": ("FalconConfig", _OLD | {"alibi": False}),
    "mpt": (
        "MptConfig",
        _IDS | {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128, "initializer_range": 0.3},
    ),
    "deepseek 3": ("DeepseekV3Config", _NAMED | _LATENT),
    "mistral 0.1": ("MistralConfig", _NAMED | {"sliding_window": 8}),
    "qwen2, windows": (
        "Qwen2Config",
        _NAMED | {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
    ),
    "gemma 2": ("Gemma2Config", _GEMMA3),
    "gemma 3": ("Gemma3TextConfig", _GEMMA3),
    "gemma 3 with images": ("Gemma3Config", _vision(_GEMMA3)),
    "olmo 3": ("Olmo3Config", _NAMED | {"sliding_window": 8}),
    "gpt-oss": ("GptOssConfig", _NAMED | _EXPERTS | {"sliding_window": 8, "head_dim": 8}),
    "phi 3": ("Phi3Config", _NAMED | {"sliding_window": 8}),
    "starcoder 2": ("Starcoder2Config", _NAMED | {"sliding_window": 8}),
    "cohere 2": ("Cohere2Config", _NAMED | {"sliding_window": 8}),
    "exaone 4": ("Exaone4Config", _NAMED | {"sliding_window": 8, "sliding_window_pattern": 2}),
    "llama 4": (
        "Llama4TextConfig",
        _NAMED
        | _EXPERTS
        | {"head_dim": 8, "attention_chunk_size": 8, "num_experts_per_tok": 1, "intermediate_size_mlp": 48},
    ),
    "modernbert decoder": ("ModernBertDecoderConfig", _NAMED | {"local_attention": 8}),
    "gpt-neo": (
        "GPTNeoConfig",
        _IDS
        | {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 40,
        }
        | {"max_position_embeddings": 128, "initializer_range": 0.3},
    ),
    "bloom": ("BloomConfig", _IDS | {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}),
    "falcon, alibi": ("FalconConfig", _OLD | {"alibi": True}),
    "qwen3.5": ("Qwen3_5TextConfig", _NAMED | _LINEAR),
    "lfm2": ("Lfm2Config", _NAMED | {"layer_types": ["conv", "full_attention"]}),
    "mamba": (
        "MambaConfig",
        _IDS | {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.3},
    ),
    "recurrentgemma": (
        "RecurrentGemmaConfig",
        _NAMED | {"attention_window_size": 8, "lru_width": 32, "block_types": ["recurrent", "attention"]},
    ),
}

# From 40 tokens on something changes that a short trial cannot show. The second number is the
# longest sequence that is decoded by continuous batching.
LONG = {
    "mistral, window 40": ("MistralConfig", _NAMED | {"sliding_window": 40}, 40),
    "gemma 3, window 40": ("Gemma3TextConfig", _GEMMA3 | {"sliding_window": 40}, 40),
    "llama 4, chunks of 40": (
        "Llama4TextConfig",
        _NAMED
        | _EXPERTS
        | {"head_dim": 8, "attention_chunk_size": 40, "num_experts_per_tok": 1, "intermediate_size_mlp": 48},
        40,
    ),
    "phi 3, longrope": (
        "Phi3Config",
        _NAMED | {"sliding_window": None, "original_max_position_embeddings": 40, "rope_parameters": _LONGROPE},
        40,
    ),
}


def config_of(name, settings):
    """A config by the name of its class."""
    return getattr(transformers, name)(**settings)


def random_model(name, settings, seed=0):
    """A random model in evaluation mode, the same for the same seed."""
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config_of(name, settings)).float().eval()
