"""The prefixes of all requests as a tree of segments, so that common tokens are computed once.

A segment is a run of tokens that continues its parent behind a given number of the parent's tokens.
The worked examples of few-shot prompts, a question and a trajectory are typical segments. A prefix
is a place in the tree: a segment and the number of its tokens that belong to the prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

# A segment is shared only if at least so many of its tokens are common; every segment is a matrix
# product of its own in every layer.
_WORTH_SHARING = 8


class Segment:
    """A run of tokens that continues another segment.

    parent: the segment in front of it; None for the beginning of a prefix.
    offset: the number of the parent's tokens that are in front of it.
    start: the position of its first token in the prefix.
    level: the number of segments in front of it.
    keys, values: a tensor (key-value heads, tokens, width) for each layer, empty lists until they
        are computed.
    """

    def __init__(self, parent: Segment | None, offset: int, tokens: tuple[int, ...]) -> None:
        self.parent, self.offset, self.tokens = parent, offset, tokens
        self.start: int = parent.start + offset if parent else 0
        self.level: int = parent.level + 1 if parent else 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.last_use = 0
        self._children: dict[tuple[int, tuple[int, ...]], list[Segment]] = {}

    @property
    def computed(self) -> bool:
        """Whether its keys and values are there."""
        return bool(self.keys)

    def children(self) -> list[Segment]:
        """The segments that continue it."""
        return [child for alike in self._children.values() for child in alike]

    def add(self, child: Segment) -> None:
        """Add a segment that continues this one."""
        self._children.setdefault((child.offset, child.tokens[:_WORTH_SHARING]), []).append(child)

    def continued(self, offset: int, tokens: tuple[int, ...]) -> tuple[Segment | None, int]:
        """The child behind `offset` that has most of the first `tokens`, and how many it has."""
        alike: Iterable[Segment] = self._children.get((offset, tokens[:_WORTH_SHARING]), ())
        if len(tokens) < _WORTH_SHARING:
            alike = [c for c in self.children() if c.offset == offset and c.tokens[: len(tokens)] == tokens]
        best: Segment | None = None
        most = 0
        for child in alike:
            common = common_length(child.tokens, tokens)
            if common > most:
                best, most = child, common
        return best, most

    def prune(self) -> None:
        """Remove descendants that are not computed and in front of no computed segment."""
        for key, alike in list(self._children.items()):
            for child in alike:
                child.prune()
            self._children[key] = [c for c in alike if c.computed or c._children]
            if not self._children[key]:
                del self._children[key]


class Place(NamedTuple):
    """A prefix in the tree: the last of its segments, and the number of its tokens that count.

    The segment is None for an empty prefix.
    """

    segment: Segment | None
    used: int

    def path(self) -> Iterator[tuple[Segment, int]]:
        """The segments of the prefix from the last to the first, with their numbers of tokens."""
        last: Segment | None = self.segment
        used = self.used
        while last is not None:
            yield last, used
            used, last = last.offset, last.parent


class PrefixTree:
    """A tree of segments, and which of them are computed."""

    def __init__(self) -> None:
        self._root = Segment(None, 0, ())
        self._clock = 0

    def insert(self, prefixes: Sequence[tuple[int, ...]]) -> list[Place]:
        """The places of prefixes in the tree, which is extended by new segments where needed.

        What several of the prefixes have in common becomes a segment of its own.
        """
        ordered = sorted(set(prefixes))
        # A prefix that another one continues has no segment of its own.
        whole = [a for a, b in pairwise(ordered) if b[: len(a)] != a] + ordered[-1:]
        shared = {a[: common_length(a, b)] for a, b in pairwise(whole)}
        for prefix in sorted(shared, key=len):
            self._place(prefix, _WORTH_SHARING)
        for prefix in whole:
            self._place(prefix, 1)
        known = {prefix: self._place(prefix, 1) for prefix in ordered}
        return [known[prefix] for prefix in prefixes]

    def _place(self, prefix: tuple[int, ...], worth: int) -> Place:
        """The place of a prefix; a rest of at least `worth` new tokens becomes a segment."""
        segment, used, done = self._root, 0, 0
        while done < len(prefix):
            child, common = segment.continued(used, prefix[done:])
            if child is None or (common < _WORTH_SHARING and done + common < len(prefix)):
                break
            segment, used, done = child, common, done + common
        if len(prefix) - done >= worth:
            child = Segment(None if segment is self._root else segment, used, prefix[done:])
            segment.add(child)
            segment, used = child, len(child.tokens)
        return Place(None, 0) if segment is self._root else Place(segment, used)

    def touch(self, places: Iterable[Place]) -> list[Segment]:
        """Mark the segments of places as used now; returns those that are not computed."""
        self._clock += 1
        missing = []
        for place in places:
            for segment, _ in place.path():
                if segment.last_use < self._clock:
                    segment.last_use = self._clock
                    if not segment.computed:
                        missing.append(segment)
        return missing

    def forget(self, room: int, kept: Iterable[Place] = ()) -> None:
        """Drop the keys and values that were used longest ago, until `room` tokens are left.

        Segments of `kept` places stay.
        """
        needed = {segment for place in kept for segment, _ in place.path()}
        held = sorted(self._computed(self._root), key=lambda segment: segment.last_use)
        total = sum(len(segment.tokens) for segment in held)
        for segment in held:
            if total <= room:
                break
            if segment not in needed:
                total -= len(segment.tokens)
                segment.keys, segment.values = [], []

    def prune(self) -> None:
        """Remove segments that are not computed; places that contain them end to be valid."""
        self._root.prune()

    def _computed(self, segment: Segment) -> Iterator[Segment]:
        for child in segment.children():
            if child.computed:
                yield child
            yield from self._computed(child)


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """The number of first tokens that two sequences have in common."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle)
    return low
