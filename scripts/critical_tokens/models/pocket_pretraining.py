"""What a pocket model is made of: its corpus, its tokenizer and its untrained network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from critical_tokens.data import prompts
from critical_tokens.pocket.worlds import WORLDS, documents

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"
# In the corpus of these models, the blank before an answer is the last token of the prompt (see
# prompts.BLANKS).
BLANK = "prompt"
CONTEXT = 2048


@dataclass(frozen=True)
class Shape:
    """The size of a pocket model.

    layers: the number of layers.
    width: the dimension of the hidden states.
    heads: the number of attention heads, each of dimension width / heads.
    mlp: the width of the MLP.
    """

    layers: int
    width: int
    heads: int
    mlp: int


def corpus(n_documents: int, seed: int) -> list[tuple[str, str]]:
    """`n_documents` pairs of prompt and solution, taken from all worlds in turn."""
    streams = [(documents(name, seed), world.style) for name, world in WORLDS.items()]
    per_world = -(-n_documents // len(streams))
    worded = [
        [(prompts.Prompt(style, blank=BLANK).text(q), a) for q, a in islice(stream, per_world)]
        for stream, style in streams
    ]
    return [document for group in zip(*worded, strict=True) for document in group][:n_documents]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer in which every digit is a token of its own.

    A space before a digit belongs to the token of the digit. Every text can be encoded, because all
    256 bytes are in the vocabulary.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r" ?\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, model_max_length=CONTEXT
    )


def build_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """An untrained Llama of the given shape for a tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)
