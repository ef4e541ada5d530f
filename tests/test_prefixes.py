"""Shared prefixes: the tree of segments, and what an engine computes of it."""

import random

import pytest
import torch
from test_engine import EOS, one_by_one

from critical_tokens.decoding.distributions import GREEDY, Nucleus
from critical_tokens.decoding.prefix_tree import PrefixTree, common_length
from critical_tokens.decoding.protocol import Request
from critical_tokens.engines import continuous_batching, kv_cache
from critical_tokens.engines.transformers_engine import TransformersEngine

DRAWN = Nucleus(1.0, 0.95)


def tokens(n, seed):
    rng = random.Random(seed)
    return tuple(rng.randrange(3, 100) for _ in range(n))


SHOTS = tokens(50, 0)
QUESTIONS = [tokens(12 + i, i + 1) for i in range(4)]
PATHS = [SHOTS + question + tokens(15, 99) for question in QUESTIONS]
NESTED = [path[:end] for path in PATHS for end in range(len(path) - 15, len(path) + 1, 3)]


def text(place):
    return tuple(token for segment, used in reversed(list(place.path())) for token in segment.tokens[:used])


@pytest.fixture
def computed(monkeypatch):
    """The lengths of the segments that engines compute, as they compute them."""
    found = []
    for module in (continuous_batching, kv_cache):
        compute = module.compute

        def counted(host, segments, keep=1, compute=compute):
            found.extend(len(s.tokens) for s in segments)
            return compute(host, segments, keep)

        monkeypatch.setattr(module, "compute", counted)
    return found


# --- the tree


@pytest.mark.parametrize(("a", "b"), [((), ()), ((1,), ()), ((1, 2, 3), (1, 2, 4)), ((1, 2), (1, 2, 3)), ((1,), (2,))])
def test_the_common_length_is_that_of_the_common_beginning(a, b):
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_length(a, b) == common_length(b, a) == expected


@pytest.mark.parametrize("seed", range(5))
def test_every_prefix_is_found_at_its_place(seed):
    rng = random.Random(seed)
    tree, seen = PrefixTree(), []
    for _ in range(4):
        heads = [h[: rng.randint(0, len(h))] for h in rng.choices([*PATHS, *seen, SHOTS], k=30)]
        prefixes = [head + tokens(rng.randint(0, 20), rng.random()) for head in heads]
        seen += prefixes
        for prefix, place in zip(prefixes, tree.insert(prefixes), strict=True):
            assert text(place) == prefix


def test_what_prefixes_share_is_one_segment_each():
    tree = PrefixTree()
    segments = {segment for place in tree.insert(NESTED) for segment, _ in place.path()}
    assert sorted((s.level, len(s.tokens)) for s in segments) == [(0, 50), *((1, len(p) - 50) for p in PATHS)]


def test_a_few_common_tokens_are_not_shared():
    alike = [(5, 6, 7, *tokens(20, i)) for i in range(6)]
    assert {place.segment.level for place in PrefixTree().insert(alike)} == {0}


# --- the engine


def test_shared_tokens_are_computed_once_in_all_calls(tiny_model, computed):
    engine = TransformersEngine(tiny_model, EOS)
    computed.clear()
    requests = [Request(prefix, 3, i, 10) for i, prefix in enumerate(NESTED)]
    first = engine.generate(requests, DRAWN)
    # The last token of a prefix belongs to the rows.
    assert sum(computed) == 50 + sum(len(path) - 50 - 1 for path in PATHS)
    assert engine.generate(requests[::-1], DRAWN) == first[::-1]
    for path in PATHS:
        engine.path_logits(path[:55], path[55:])
    again = sum(computed) - 50 - sum(len(path) - 51 for path in PATHS)
    assert again == sum(len(path) - 55 for path in PATHS)  # only what has to have logits


@pytest.mark.parametrize("distribution", [GREEDY, DRAWN])
@pytest.mark.parametrize("max_tokens", [60, 300, 700, 100_000])
def test_rows_of_one_tree_are_decoded_as_one_by_one(tiny_model, distribution, max_tokens):
    requests = [Request(prefix, 1 + i % 3, i, 12) for i, prefix in enumerate([*NESTED, *PATHS, QUESTIONS[0], SHOTS])]
    found = TransformersEngine(tiny_model, EOS, max_tokens).generate(requests, distribution)
    for request, completions in zip(requests, found, strict=True):
        assert [(c.token_ids, c.finished) for c in completions] == one_by_one(tiny_model, request, distribution)


def test_uneven_numbers_of_rows_are_decoded_as_one_by_one(tiny_model):
    """A segment with many rows has a product of its own."""
    counts = [70, 1, 2, 1]
    requests = [Request(path, n, i, 4) for i, (path, n) in enumerate(zip(PATHS, counts, strict=True))]
    found = TransformersEngine(tiny_model, EOS, 100_000).generate(requests, DRAWN)
    for request, completions in zip(requests, found, strict=True):
        assert [(c.token_ids, c.finished) for c in completions] == one_by_one(tiny_model, request, DRAWN)


@torch.inference_mode()
def test_logits_of_a_path_are_those_of_the_model(tiny_model):
    engine = TransformersEngine(tiny_model, EOS)
    for _ in range(2):  # from an empty tree, then from a full one
        for path in PATHS:
            for cut in (1, 50, len(path) - 1):
                expected = tiny_model(input_ids=torch.tensor([path])).logits[0, cut - 1 : -1]
                torch.testing.assert_close(engine.path_logits(path[:cut], path[cut:]), expected, rtol=1e-4, atol=1e-4)


def test_shared_tokens_count_once_in_the_bound(tiny_model, monkeypatch):
    """With each prefix counted for each row, hardly any row would fit."""
    sizes = []
    arrange = kv_cache.RowCache.arrange
    monkeypatch.setattr(
        kv_cache.RowCache, "arrange", lambda self, *given: (sizes.append(self.active), arrange(self, *given))[1]
    )
    requests = [Request(SHOTS + question, 16, i, 10) for i, question in enumerate(QUESTIONS)]
    TransformersEngine(tiny_model, EOS, 800).generate(requests, DRAWN)
    assert max(sizes) > 40
    assert 800 // (len(SHOTS) + 12 + 10) < 12
