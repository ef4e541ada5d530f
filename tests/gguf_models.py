"""Tiny models with random weights in GGUF files, written with the package gguf."""

import json

import gguf
import made_tokenizers
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

_SHAPE = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "initializer_range": 0.3, "tie_word_embeddings": False,
}  # fmt: skip
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


def usual_tokenizer():
    """A byte-level tokenizer with the special tokens of many models."""
    return made_tokenizers.byte_level(("<|end|>", "<|turn|>", "<|endoftext|>"))


def model(architecture, vocabulary):
    """A random model whose greedy tokens are clearly the most probable."""
    torch.manual_seed(0)
    config, kind = (Qwen2Config, Qwen2ForCausalLM) if architecture == "qwen2" else (LlamaConfig, LlamaForCausalLM)
    return kind(config(vocab_size=vocabulary, **_SHAPE)).eval()


def write(path, architecture="qwen2", tokenizer=None, quantised=False, **changes):
    """Write a model to a GGUF file, and return it.

    tokenizer: a byte-level tokenizer; False for a file without one.
    quantised: whether its matrices have 8-bit numbers.
    changes: `stated`, the architecture that the file states; `without`, a tensor that it lacks;
        `broken`, a tensor that holds a nan; `parts`, the number of files it says to be one of.
    """
    tokenizer = usual_tokenizer() if tokenizer is None else tokenizer
    made = model(architecture, len(tokenizer or usual_tokenizer()))
    stated = changes.get("stated", architecture)
    writer = gguf.GGUFWriter(path, stated)
    config = made.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quantised else gguf.LlamaFileType.ALL_F32)
    if "parts" in changes:
        writer.add_uint16("split.count", changes["parts"])
    if tokenizer:
        _add_tokenizer(writer, tokenizer, "qwen2" if architecture == "qwen2" else "default")
    for name, value in made.state_dict().items():
        _add_tensor(writer, name, value, config, stated, quantised, changes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


def _add_tokenizer(writer, tokenizer, rule):
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    special = {token.content for token in tokenizer.added_tokens_decoder.values()}
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_eos_token_id(vocabulary["<|turn|>"])
    # As the files of models without BOS do, it names one and says not to use it.
    writer.add_bos_token_id(vocabulary["<|end|>"])
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _add_tensor(writer, name, value, config, stated, quantised, changes):
    if name == changes.get("without"):
        return
    value = value.clone()
    if name == changes.get("broken"):
        value.view(-1)[0] = float("nan")
    if stated == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        # llama.cpp pairs neighbouring dimensions in rotations, transformers the two halves.
        value = value.view(heads, 2, -1, value.shape[1]).transpose(1, 2).reshape(value.shape)
    for one, other in _NAMES.items():
        name = name.replace(one, other)
    array = value.float().numpy()
    if quantised and array.ndim == 2:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, array)
