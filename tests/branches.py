"""What the tests of branches and of rollouts share: answers of a tiny model, and an engine that
keeps what it is asked.
"""

import torch

from critical_tokens.decoding.distributions import Distribution
from critical_tokens.decoding.protocol import Completion, Request
from critical_tokens.engines.transformers_engine import TransformersEngine
from critical_tokens.rollouts.branching import Trajectory

EOS = 2
DRAWS = Distribution(1.0, 0.95)


def correct(ids):
    """An arbitrary but smooth criterion on whole answers."""
    return sum(ids) % 3 == 0


def trajectories(model, n=3, length=4, distribution=DRAWS):
    """Distinct sampled answers of exactly `length` tokens."""
    sampled = TransformersEngine(model, EOS).generate([Request((5, 6, 7), 50, 11, length)], distribution)[0]
    distinct = list(dict.fromkeys(c for c in sampled if len(c.token_ids) == length))[:n]
    return [Trajectory(f"t{i}", (5, 6, 7), c.token_ids, correct, i) for i, c in enumerate(distinct)]


class RecordingEngine:
    """Continues every prefix with one token 9; EOS, 30, 31 and 40 are equally probable everywhere."""

    context = 10_000

    def __init__(self):
        self.asked = []

    def generate(self, requests, distribution, on_progress=None, weighted=False):
        self.asked += requests
        return [[Completion((9,), True)] * r.n for r in requests]

    def path_logits(self, prompt, path):
        logits = torch.full((len(path), 50), -torch.inf)
        logits[:, [EOS, 30, 31, 40]] = 0.0
        return logits
