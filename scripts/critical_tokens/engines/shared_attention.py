"""Attention of rows over tokens that they share and tokens of their own, with one softmax.

transformers calls the function of this module in every layer of a model (AttentionInterface). The
tokens that a row attends to lie in several places: a segment of the prefix tree at every level, and
the row's own tokens. All rows below a segment are one matrix product with its keys. The scores of
all places are put side by side, one softmax is taken, and the values are summed in the same way.
Query heads are grouped by key-value head, so no key or value is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from critical_tokens.decoding.prefix_tree import Place
from critical_tokens.models.inference import attending

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "shared_prefix"
# A segment with more rows than this, and with more than this multiple of the mean number of rows,
# has a matrix product of its own. The other segments of a level are padded to the same number of
# rows and have one batched product.
_MANY_ROWS, _MULTIPLE = 16, 4
# Settings that transformers gives to attention functions and that need nothing of this one. Windows
# are left to `architecture`, which gives no sequence to this module that exceeds one. A model that
# gives any other setting is decoded in another way.
_IGNORED = frozenset({
    "cache_position", "dropout", "is_causal", "output_attentions", "output_router_logits", "position_ids",
    "sliding_window", "use_cache",
})  # fmt: skip


class Level:
    """Segments at one level of the prefix tree, and which row attends to which of them.

    places: the prefixes that the rows continue.
    level: the level of the segments in the tree.

    A row whose prefix has no segment at this level is treated as a row of the first segment of
    which it sees no token.
    """

    def __init__(self, places: Sequence[Place], level: int, device: torch.device) -> None:
        paths = [[found for found in place.path() if found[0].level == level] for place in places]
        segments = list(dict.fromkeys(segment for path in paths for segment, _ in path))
        index = {segment: i for i, segment in enumerate(segments)}
        self._of_place = torch.tensor([index[p[0][0]] if p else 0 for p in paths], device=device)
        self._used = torch.tensor([p[0][1] if p else 0 for p in paths], device=device)
        self.columns = int(self._used.max())
        self._keys = [self._stacked(tensors) for tensors in zip(*(s.keys for s in segments), strict=True)]
        self._values = [self._stacked(tensors) for tensors in zip(*(s.values for s in segments), strict=True)]
        self._rows = 0
        self._many: list[tuple[int, torch.Tensor]] = []
        self._grid = self._segment = self._slot = torch.zeros(0, dtype=torch.long, device=device)

    def _stacked(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Keys or values (segments, key-value heads, columns, width), with zeros at the end."""
        if len(tensors) == 1:
            return tensors[0][None, :, : self.columns]
        heads, _, width = tensors[0].shape
        out = tensors[0].new_zeros((len(tensors), heads, self.columns, width))
        for row, tensor in zip(out, tensors, strict=True):
            part = tensor[:, : self.columns]
            row[:, : part.shape[1]] = part
        return out

    def arrange(self, place: torch.Tensor) -> torch.Tensor | None:
        """Take rows as they are now; returns which columns are hidden, shape (rows, columns).

        None if every row sees all columns.

        place: the index of each row's place among `places`.
        """
        segment = self._of_place[place]
        self._rows = len(place)
        self._many, count = [], len(self._keys[0])
        if count > 1:
            order = segment.argsort(stable=True)
            counts = torch.bincount(segment, minlength=count)
            starts = counts.cumsum(0) - counts
            bound = max(_MANY_ROWS, _MULTIPLE * self._rows // count)
            for i in (counts > bound).nonzero().squeeze(-1).tolist():
                self._many.append((i, order[starts[i] : starts[i] + counts[i]]))
            few = int(counts.masked_fill(counts > bound, 0).max())
            slot = torch.empty_like(segment)
            slot[order] = torch.arange(self._rows, device=place.device) - starts[segment[order]]
            # The rows of every segment, padded with row 0, and where each row is among them.
            in_grid = slot < few
            self._grid = torch.zeros((count, few), dtype=torch.long, device=place.device)
            self._grid[segment[in_grid], slot[in_grid]] = in_grid.nonzero().squeeze(-1)
            self._segment, self._slot = segment, slot.clamp_max(max(0, few - 1))
        used = self._used[place]
        if int(used.min()) == self.columns:
            return None
        return torch.arange(self.columns, device=place.device) >= used[:, None]

    def scores(self, layer: int, queries: torch.Tensor) -> torch.Tensor:
        """Scores (heads, rows, queries, columns) of queries (heads, rows, queries, width)."""
        return self._product(queries, self._keys[layer].transpose(-1, -2))

    def values(self, layer: int, weights: torch.Tensor) -> torch.Tensor:
        """Sums of the values (heads, rows, queries, width) with `weights` of the columns."""
        return self._product(weights, self._values[layer])

    def _product(self, rows: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
        """The product of each row (queries, inner) with its segment's (inner, outer), by head.

        rows: (heads, rows, queries, inner).
        matrices: (segments, heads, inner, outer).
        """
        if len(matrices) == 1:
            return _one_product(rows, matrices[0])
        heads, number, queries, inner = rows.shape
        segments, few = self._grid.shape
        if few:
            # Segments come first here, as in the matrices, which would be copied otherwise.
            grid = rows[:, self._grid.flatten()].reshape(heads, segments, few * queries, inner).transpose(0, 1)
            found = (grid @ matrices).view(segments, heads, few, queries, -1)
            out = found[self._segment, :, self._slot].transpose(0, 1)
        else:
            out = rows.new_empty((heads, number, queries, matrices.shape[-1]))
        for segment, which in self._many:
            out[:, which] = _one_product(rows[:, which], matrices[segment])
        return out


def _one_product(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The product of rows (heads, rows, queries, inner) with (heads, inner, outer) for all rows."""
    return (rows.flatten(1, 2) @ matrix).view(*rows.shape[:3], -1)


class Pass(Protocol):
    """What the rows of one forward pass attend to.

    levels: segments of the prefix tree.
    hidden: for each level, and last for the rows' own tokens, True where a row's new token must not
        attend to a column; shape (rows, 1 or new tokens, columns). None if nothing is hidden.
    """

    @property
    def levels(self) -> Sequence[Level]: ...  # noqa: D102

    @property
    def hidden(self) -> Sequence[torch.Tensor | None]: ...  # noqa: D102

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep keys and values of new tokens; returns those of all own tokens of the rows."""


class PassCache(Cache):
    """The form of a Pass that transformers' models take as their key-value cache."""

    def __init__(self, forward: Pass) -> None:
        super().__init__(layers=[])
        self.forward = forward
        self.layer = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep keys and values of new tokens in a layer; returns those of all own tokens."""
        self.layer = layer_idx
        return self.forward.store(layer_idx, key_states, value_states)


# The cache of the forward pass that is running. The models do not hand it on to attention.
_running: list[PassCache] = []


@contextmanager
def running(forward: Pass) -> Iterator[PassCache]:
    """The cache to give to the model for one forward pass."""
    _running.append(PassCache(forward))
    try:
        yield _running[-1]
    finally:
        _running.pop()


def installed(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Let the model's layers call this module within the block, see inference.attending."""
    return attending(model, NAME)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **settings: object,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer, in the form that AttentionInterface asks for.

    query: (rows, heads, new tokens, width).
    key, value: those of the rows' own tokens, as `Pass.store` returned them.
    softcap: bound of the scores (Gemma 2).

    Returns (rows, new tokens, heads, width). Raises NotImplementedError for settings that this
    function does not know.
    """
    unknown = [name for name, given in settings.items() if given is not None and name not in _IGNORED]
    if unknown:
        raise NotImplementedError(f"attention with {', '.join(sorted(unknown))}")
    cache = _running[-1]
    forward, layer = cache.forward, cache.layer
    rows, heads, new, width = query.shape
    groups = key.shape[1]
    scaled = query * (width**-0.5 if scaling is None else scaling)
    by_row = scaled.reshape(rows, groups, heads // groups * new, width)
    # Key-value heads come first, so that the rows of a segment are neighbours. The products with
    # the rows' own keys and values keep the order of these, because copying them would take long.
    queries = by_row.transpose(0, 1).contiguous()
    parts = [level.scores(layer, queries) for level in forward.levels]
    parts.append((by_row @ key.transpose(-1, -2)).transpose(0, 1))
    scores = torch.cat(parts, -1)
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    sizes = [part.shape[-1] for part in parts]
    by_token = scores.view(groups, rows, heads // groups, new, -1)
    for part, hidden in zip(by_token.split(sizes, -1), forward.hidden, strict=True):
        if hidden is not None:
            part.masked_fill_(hidden[:, None], -torch.inf)
    # In half precision, torch computes the softmax in float32 and rounds the result.
    *shared, own = scores.softmax(-1).split(sizes, -1)
    out = (own.transpose(0, 1) @ value).transpose(0, 1)
    for level, part in zip(forward.levels, shared, strict=True):
        out += level.values(layer, part)
    out = out.view(groups, rows, heads // groups, new, -1).permute(1, 3, 0, 2, 4)
    return out.flatten(2, 3), None


AttentionInterface.register(NAME, attention)


def levels_of(places: Sequence[Place], device: torch.device) -> list[Level]:
    """The levels of all segments on the paths of places, the first segments first."""
    most = max((place.segment.level + 1 for place in places if place.segment), default=0)
    return [Level(places, level, device) for level in range(most)]
