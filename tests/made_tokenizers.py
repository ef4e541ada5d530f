"""Small tokenizers of the two kinds that split a character into bytes, made on the fly."""

import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_TEXTS = [
    "Question: What is it? Answer: There are 15 trees. The answer is 15.",
    "Problem: Why? Solution: Because x = 5.",
] * 9
_END = "<|end|>"
_NAMES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def byte_level(specials=("<|end|>", "<|turn|>"), eos=_END):
    """Every byte has a letter of its own (GPT-2, Llama 3, Qwen)."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = (pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(_TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=eos)


def byte_fallback():
    """Unknown characters become tokens like <0x0A>, and the first blank is left out of the text
    (Llama 2, Mistral).
    """
    made = Tokenizer(models.BPE(unk_token=_NAMES["unk_token"], byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=list(_NAMES.values()), show_progress=False)
    made.train_from_iterator(_TEXTS, trainer)
    content = json.loads(made.to_str())
    for byte in range(256):
        content["model"]["vocab"].setdefault(f"<0x{byte:02X}>", len(content["model"]["vocab"]))
    made = Tokenizer.from_str(json.dumps(content))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=made, **_NAMES)


def with_hole():
    """A byte-level tokenizer that gives no token to two ids below its last ones."""
    content = json.loads(byte_level().backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    for name in sorted(vocabulary, key=vocabulary.get)[-2:]:
        vocabulary[name] += 2
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)), eos_token=_END)


# --- chat templates of several kinds of models, written for the tests

# Special tokens open and close the messages, and a system message is made up where there is none
# (Qwen2.5, SmolLM2).
CHATML = (
    "{% if messages[0].role != 'system' %}<|turn|>system\nHelp.<|end|>\n{% endif %}"
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
# Only a blank is written in front of an answer, and no system message is taken (Llama 2, Mistral).
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('No system message, please') }}"
    "{% elif m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
# The last answer has a thought in front of it, which is empty in what was said before (Qwen3).
THOUGHTFUL = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def chatting(tokenizer, template):
    """The tokenizer with a chat template."""
    tokenizer.chat_template = template
    return tokenizer
