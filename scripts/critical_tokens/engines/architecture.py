"""How a model must be decoded; found by trying it when an engine is opened, and from its config.

In `continuous_batching` every token sees all tokens in front of it, in all layers, through the
attention of `shared_attention`. That is correct for most models, but not for layers that see only a
window, keep a recurrent state, compute position biases from a mask, or have attention of their own.
Therefore it is tried on a few random tokens: its logits must equal those of the plain forward pass.
If they differ, `plain` is tried in the same way, and a model that fails there too is refused.

Few tokens cannot show the length at which a window starts to cut tokens off or a rotary embedding
changes. That length is read from the config.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from critical_tokens.core.records import Failure
from critical_tokens.decoding.distributions import GREEDY
from critical_tokens.decoding.protocol import Request
from critical_tokens.decoding.stopping import Ends
from critical_tokens.engines.continuous_batching import Batch
from critical_tokens.engines.plain import Place, Plain
from critical_tokens.models.inference import Host

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# Lengths of the prefixes that are tried, new tokens of each, and samples of each.
_LENGTHS, _STEPS, _SAMPLES = (4, 11, 23), 3, 2
# Config keys that bound the number of tokens a layer sees, and keys that look alike but do not.
_BOUND = re.compile(r"window|chunk|local_att|block_size|^index_")
_OTHER = re.compile(r"layers|pattern|feed_forward|lm_head|^num_|_num_|_dim$|heads")
# Keys whose value is the width of the window. Others may count both sides together, such as
# ModernBERT's local_attention, so half of their value is taken.
_WIDTHS = ("sliding_window", "attention_chunk_size")
# Types of rotary embeddings whose frequencies do not depend on the length of the text.
_FIXED = ("default", "linear", "llama3", "yarn", "proportional")
# A model is refused if logits differ by more than this, in the units of `_Rehearsal._distance`:
# rounding cannot explain so much.
_REFUSED = 4.0
# Trained models in half precision may have larger rounding errors than random ones. Up to this
# number of parameters a model is tried again in float32, where rounding and a wrong mask cannot be
# confused.
_EXACT = 3e9
_WAY_OUT = "take another model, or `engine: vllm` if vLLM knows the architecture"


@torch.inference_mode()
def shared_reach(host: Host) -> tuple[int, int]:
    """The longest sequence that `continuous_batching` decodes correctly; the vocabulary size.

    The length is 0 if it decodes no sequence correctly, sys.maxsize if it decodes all. Raises
    Failure for a model that is not a causal language model or cannot be decoded here.
    """
    if host.model.config.is_encoder_decoder or not host.model.can_generate():
        raise Failure(f"{host.name} is not a causal language model; {_WAY_OUT}")
    rehearsal = _Rehearsal(host)
    if rehearsal.error(_RehearsedBatch) <= 1.0:
        return config_reach(host.model.config), rehearsal.vocabulary
    if host.dtype.itemsize < 4 and host.model.num_parameters() <= _EXACT:
        with _in_float32(host.model):
            return shared_reach(Host(host.model))
    if rehearsal.error(_RehearsedPlain) <= _REFUSED:
        return 0, rehearsal.vocabulary
    raise Failure(f"{host.name} cannot be decoded by the transformers engine: {rehearsal.trouble}; {_WAY_OUT}")


@contextmanager
def _in_float32(model: PreTrainedModel) -> Iterator[None]:
    """The model's parameters in float32 for a while.

    Buffers are not converted, because rotary frequencies have a dtype of their own.
    """
    kept = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        for parameter, data in kept:
            parameter.data = data.float()
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


def config_reach(config: PreTrainedConfig) -> int:
    """Length up to which no window cuts tokens off and the rotary embedding stays the same.

    It is in tokens, and sys.maxsize if the config sets no bound.
    """
    text = config.get_text_config(decoder=True).to_dict()
    bounds = [sys.maxsize]
    full = set(text.get("layer_types") or ()) == {"full_attention"}
    for key, value in _integers(text):
        if value > 0 and _BOUND.search(key) and not _OTHER.search(key) and not (full and key == "sliding_window"):
            bounds.append(value if key in _WIDTHS else value // 2)
    for rope in _ropes(text):
        original = rope.get("original_max_position_embeddings", text.get("original_max_position_embeddings"))
        scaled = rope.get("llama_4_scaling_beta") or rope.get("rope_type", rope.get("type", "default")) not in _FIXED
        if scaled and original:
            bounds.append(original)
    return min(bounds)


def _integers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """All whole numbers in a config with their keys, nested sections included."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _integers(inner, str(name))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _integers(inner, key)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value


def _ropes(value: Any) -> Iterator[Mapping[str, Any]]:
    """All settings of rotary embeddings in a config; some models have several."""
    if isinstance(value, Mapping):
        if "rope_type" in value or "type" in value:
            yield value
        for inner in value.values():
            yield from _ropes(inner)


class _Rehearsal:
    """Random prefixes with random continuations, and their logits by the plain forward pass."""

    def __init__(self, host: Host) -> None:
        self.host, self.trouble = host, ""
        room = host.context - _STEPS
        if room < 1:
            raise Failure(f"{host.name} has a context of {host.context} tokens, must have at least {_STEPS + 1}")
        ids = _ordinary_ids(host.model.config)
        generator = torch.Generator().manual_seed(0)
        draw = lambda n: ids[torch.randint(len(ids), (n,), generator=generator)]  # noqa: E731
        self.prefixes = [draw(min(length, room)) for length in _LENGTHS]
        self.tokens = torch.stack([draw(_SAMPLES * _STEPS).view(_SAMPLES, _STEPS) for _ in _LENGTHS])
        # The two samples of a prefix differ in their first token.
        self.tokens[:, 1, 0] = ids[(torch.searchsorted(ids, self.tokens[:, 0, 0].contiguous()) + 1) % len(ids)]
        self.requests = [Request(tuple(p.tolist()), _SAMPLES, i, _STEPS) for i, p in enumerate(self.prefixes)]
        self._truth = self._plain_forward()
        self.vocabulary = self._truth.shape[-1]

    def _plain_forward(self) -> torch.Tensor:
        """Logits (prefixes, samples, steps, vocabulary).

        Raises Failure if the model has no such logits or if they depend on later tokens.
        """
        found = []
        for prefix, tokens in zip(self.prefixes, self.tokens, strict=True):
            ids = torch.cat([prefix.expand(_SAMPLES, -1), tokens[:, :-1]], 1).to(self.host.device)
            try:
                found.append(self.host.logits(_STEPS, input_ids=ids, use_cache=False).float())
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                raise Failure(
                    f"{self.host.name} does not run on token ids alone ({_first_line(error)}); {_WAY_OUT}"
                ) from error
        truth = torch.stack(found)
        if truth.isnan().any():
            what = f"its weights are broken, or its dtype {self.host.dtype} is too narrow"
            raise Failure(f"{self.host.name} gives logits that are not numbers: {what}")
        if self._distance(truth[:, 0, :1], truth[:, 1, :1]) > _REFUSED:
            raise Failure(
                f"{self.host.name} is not a causal language model as it is configured: what it predicts depends on "
                f"later tokens (encoders need is_decoder); {_WAY_OUT}"
            )
        return truth

    def error(self, decoder: type[_RehearsedBatch | _RehearsedPlain]) -> float:
        """Distance of a decoder's logits from those of the plain forward pass, see `_distance`.

        The decoder is made to draw the tokens of the rehearsal. Infinite if it fails.
        """
        ends = Ends(frozenset(), None, self.vocabulary, self.host.device)
        try:
            rehearsed = decoder(self.host, ends, sys.maxsize, self.requests, GREEDY, False)
            rehearsed.prepare(self.tokens.to(self.host.device), self.vocabulary)
            rehearsed.run()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # any error means that this decoder cannot decode this model
            self.trouble = _first_line(error)
            return math.inf
        self.trouble = "token by token it has other logits than in one pass"
        return self._distance(rehearsed.seen.flatten(1, 2), self._truth.flatten(1, 2))

    def _distance(self, found: torch.Tensor, truth: torch.Tensor) -> float:
        """Distance between logits (prefixes, rows, vocabulary), in units of sqrt(eps) of the dtype.

        The distance of two rows is relative to the size of the true logits. The median over the
        rows of a prefix is taken, because rounding may send a token of a mixture of experts to
        another expert; then the largest over the prefixes.
        """
        found, truth = (t.masked_fill(t.isinf(), 0.0) for t in (found, truth))
        size = (truth - truth.mean(-1, keepdim=True)).norm(dim=-1)
        apart = ((found - truth).norm(dim=-1) / size.clamp_min(torch.finfo(torch.float32).tiny)).sort(-1).values
        most = apart[:, apart.shape[-1] // 2].max()
        return float(most) / torch.finfo(self.host.dtype).eps ** 0.5


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def _ordinary_ids(config: PreTrainedConfig) -> torch.Tensor:
    """Token ids in order, without those that a config names, such as BOS, EOS and padding."""
    named = {value for key, value in _integers(config.to_dict()) if "token" in key}
    vocabulary = config.get_text_config(decoder=True).vocab_size
    return torch.tensor([i for i in range(vocabulary) if i not in named])


class _RehearsedBatch(Batch):
    """Continuous batching that draws given tokens and keeps the logits."""

    def prepare(self, tokens: torch.Tensor, vocabulary: int) -> None:
        self._given, self.seen = (tokens, tokens.new_zeros((*tokens.shape, vocabulary), dtype=torch.float32))

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        where = (self._request[self._row], self._samples.number, self._step[self._row])
        self.seen[where] = logits[self._row].float()
        return self._given[where]


class _RehearsedPlain(Plain):
    """Plain decoding that draws given tokens and keeps the logits."""

    def prepare(self, tokens: torch.Tensor, vocabulary: int) -> None:
        self._given, self.seen = (tokens, tokens.new_zeros((*tokens.shape, vocabulary), dtype=torch.float32))

    def draw(self, logits: torch.Tensor, places: Sequence[Place], step: int) -> torch.Tensor:
        request = torch.tensor([place.request for place in places], device=logits.device)
        number = torch.tensor([place.number for place in places], device=logits.device)
        self.seen[request, number, step] = logits.float()
        return self._given[request, number, step]
