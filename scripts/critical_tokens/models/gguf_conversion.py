"""Conversion of a GGUF file into an ordinary model folder: safetensors, tokenizer and configs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critical_tokens.core.records import ArtifactError, read_object, replacing_folder, write_json
from critical_tokens.data.prompts import encode_texts
from critical_tokens.models import gguf_files
from critical_tokens.models.checkpoints import check_weights, reading

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_CONFIG = "config.json"
_REMEDY = "take the model's own safetensors, or another quantisation of it"
# The token that transformers adds to byte-level tokenizers (see `_written`).
_ADDED = "<|endoftext|>"
# Special tokens that end a text or a message in the models that use them, whatever else the file
# says. A GGUF file states one EOS only, and instruct models end with several.
_ENDS = (
    "<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<EOT>",
    "<|eot|>", "<|endofturn|>", "<|end_of_turn|>", "</s>",
)  # fmt: skip
# Entries of the file that name further tokens that end a text or a message.
_END_ENTRIES = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
# Texts in whose tokens tokenizers differ: numbers, blanks, line breaks, formulas, other scripts.
_SAMPLES = (
    "Natalia sold 48/2 = 24 clips in May, so 48+24 = 72 clips in all.",
    "1234567890 3.14159 1,000,000 $5.50 50% 007 2024-07-26",
    " one  two   three\tfour    five ",
    "Answer:\n\nIt is 4.\n\n\n So:\r\n\t- a\n  - b\n",
    "So \\(x^2 = \\frac{1}{2}\\), and the answer is $\\boxed{\\sqrt{x}}$.",
    "I'll say they've DON'T it's O'Neil's",
    "na\u00efve caf\u00e9 e\u0301 \u03a9\u03bc\u03ad\u03b3\u03b1 \u041f\u0440\u0438\u0432\u0435\u0442",
    "\u6570\u5b66\u95ee\u9898 \u0639\u0631\u0628 \U0001f600\U0001f44d\U0001f3fd \u00bd \u00d7 \u2260",
    "def f(x):\n    return x ** 2  # comment\n",
)


def convert(path: Path, folder: Path, dtype: str, tokenizer: Path | None = None) -> gguf_files.Header:
    """Write the model of a GGUF file into `folder`; returns the header of the file.

    dtype: the number format of the written weights.
    tokenizer: the folder of the original tokenizer, which is written instead of that in the file.

    transformers computes the weights from the packed numbers. The file's bytes stay mapped, and the
    model is held twice while it is written. Nothing is written where this raises ArtifactError: the
    file is broken, its architecture cannot be converted, or the tokenizers differ.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    found = gguf_files.header(path)
    _check_architecture(path, found.architecture)
    with tempfile.TemporaryDirectory() as place:
        # transformers sees the file alone, because it prefers a tokenizer that lies beside it.
        alone = Path(place, "file", f"model{gguf_files.SUFFIX}")
        alone.parent.mkdir()
        alone.symlink_to(path.resolve())
        with reading(path, "its config", _REMEDY):
            config = AutoConfig.from_pretrained(alone.parent, gguf_file=alone.name, trust_remote_code=False)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            what = f"is of the architecture {found.architecture}, which does not continue texts"
            raise ArtifactError(f"{path}: {what}; take a causal language model, such as a Llama or a Qwen")
        written = Path(place, "tokenizer")
        own = _written(_own_tokenizer(path, alone, found), config, written) if found.has_tokenizer else None
        if tokenizer is not None:
            written = Path(place, "original")
            _check_alike(tokenizer, _written(_named_tokenizer(tokenizer), config, written), own, path)
        elif own is None:
            what = "has no tokenizer; name the original's in `tokenizer` of the model's entry"
            raise ArtifactError(f"{path}: {what}")
        with replacing_folder(folder) as target:
            _write_model(path, alone, dtype, ends(found, _read(written)), target)
            for file in written.iterdir():
                if file.name != _CONFIG:
                    shutil.copy(file, target)
            # A chat template of an earlier conversion would be read along with the new files.
            for old in folder.glob("*"):
                if old.is_file() and not (target / old.name).exists():
                    old.unlink()
    return found


def _check_architecture(path: Path, architecture: str) -> None:
    from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = sorted({*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_ARCHS})
    if architecture not in known:
        what = f"which transformers cannot convert; it can convert {', '.join(known)}"
        raise ArtifactError(f"{path}: is of the architecture {architecture}, {what}; take the model's own safetensors")


def _own_tokenizer(path: Path, alone: Path, found: gguf_files.Header) -> PreTrainedTokenizerBase:
    """The tokenizer in a GGUF file, without a BOS that the file says not to use."""
    from transformers import AutoTokenizer

    with reading(path, "its tokenizer", _REMEDY):
        tokenizer = AutoTokenizer.from_pretrained(alone.parent, gguf_file=alone.name, trust_remote_code=False)
    if found.stated.get("tokenizer.ggml.add_bos_token") is False:
        # The original's tokenizer has no BOS then, but files name one all the same.
        tokenizer.bos_token = None
    tokenizer.init_kwargs["name_or_path"] = tokenizer.name_or_path = str(path)
    return tokenizer


def _named_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder."""
    with reading(folder, "its tokenizer"):
        tokenizer = _read(folder)
    tokenizer.name_or_path = str(folder)
    return tokenizer


def _read(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _written(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer as it is read after it was written into `folder`, beside the model's config.

    It may differ from what was written, because transformers has rules of its own for the
    tokenizers of some architectures, such as the normalisation of Qwen2's. transformers also adds
    <|endoftext|> to the byte-level tokenizer of a GGUF file that has no such token. It is removed
    here, because the model has no weights for it. Raises ArtifactError where other tokens are
    beyond the vocabulary of the model, and where there is no tokenizer.json.
    """
    vocabulary = config.get_text_config(decoder=True).vocab_size
    name, path = tokenizer.name_or_path, folder / "tokenizer.json"
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    remedy = "name a folder with the tokenizer of the same model in `tokenizer`"
    if not path.is_file():
        raise ArtifactError(f"{name}: its tokenizer cannot be written as {path.name}; {remedy}")
    beyond = [token for token, i in tokenizer.get_vocab().items() if i >= vocabulary]
    if beyond == [_ADDED]:
        content, settings = read_object(path), read_object(folder / "tokenizer_config.json")
        content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != _ADDED]
        write_json(path, content)
        settings = {key: None if value == _ADDED else value for key, value in settings.items()}
        write_json(folder / "tokenizer_config.json", settings)
    with reading(Path(name), "its tokenizer"):
        found = _read(folder)
    if max(found.get_vocab().values(), default=0) >= vocabulary:
        raise ArtifactError(f"{name}: its tokenizer has tokens that the model lacks ({vocabulary:,} at most); {remedy}")
    return found


def _check_alike(
    folder: Path, tokenizer: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase | None, path: Path
) -> None:
    """Raise ArtifactError where a tokenizer encodes texts differently from that in the file."""
    if own is None:
        return
    for text in _SAMPLES:
        if encode_texts(tokenizer, [text]) != encode_texts(own, [text]):
            what = f"encodes {text!r} differently from the tokenizer in {path}"
            raise ArtifactError(f"{folder}: {what}; name the tokenizer of the same model, or leave out `tokenizer`")


def _write_model(path: Path, alone: Path, dtype: str, ends: Sequence[int], target: Path) -> None:
    """Write weights and configs of a model; `ends` are the ids of the tokens that end texts."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    with reading(path, "its model", _REMEDY):
        # The declared return type is a model, but with output_loading_info a pair is returned.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            alone.parent,
            gguf_file=alone.name,
            quantization_config=GgufConfig(alone.name, dequantize=True),
            dtype=getattr(torch, dtype),
            trust_remote_code=False,
            output_loading_info=True,
        )
    model, told = loaded
    check_weights(model, path, told["missing_keys"])
    # A generation config of its own, because `end_ids` trusts it more than a copy of the config.
    model.generation_config = GenerationConfig(eos_token_id=list(ends))
    model.config._name_or_path = ""
    model.save_pretrained(target, max_shard_size="1000TB")


def ends(found: gguf_files.Header, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of all tokens with which the model of a GGUF file may end an answer.

    They are those that the tokenizer and the file name, and known special tokens.
    """
    special = {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    stated = [tokenizer.eos_token_id, *(found.stated.get(name) for name in _END_ENTRIES)]
    named = [special[name] for name in _ENDS if name in special]
    return list(dict.fromkeys(i for i in (*stated, *named) if isinstance(i, int)))
