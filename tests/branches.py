"""What the tests of branches, rollouts and engines share: answers of a tiny model, an engine that
records its requests, and a distribution that the library does not have.
"""

from dataclasses import dataclass

import torch

from critical_tokens.core.records import Failure
from critical_tokens.decoding.distributions import Distribution, Nucleus
from critical_tokens.decoding.protocol import Completion, Request
from critical_tokens.engines.transformers_engine import TransformersEngine
from critical_tokens.rollouts.branching import Trajectory

EOS = 2
DRAWS = Nucleus(1.0, 0.95)


@dataclass(frozen=True)
class MinP(Distribution):
    """Softmax cut to tokens at least `share` times as probable as the most probable one."""

    share: float

    def probabilities(self, logits):
        probabilities = logits.float().softmax(-1)
        kept = probabilities.masked_fill(probabilities < self.share * probabilities.amax(-1, keepdim=True), 0.0)
        return kept / kept.sum(-1, keepdim=True)

    def allows(self, logits, tokens):
        probabilities = logits.float().softmax(-1)
        own = probabilities.gather(-1, torch.tensor(tokens).unsqueeze(-1))
        return (own >= (self.share - 1e-3) * probabilities.amax(-1, keepdim=True)).squeeze(-1).tolist()

    def parameters(self):
        raise Failure("min-p is not sampled by vLLM here")


def correct(ids):
    """An arbitrary but smooth criterion on whole answers."""
    return sum(ids) % 3 == 0


def trajectories(model, n=3, length=4, distribution=DRAWS):
    """Distinct sampled answers of exactly `length` tokens."""
    sampled = TransformersEngine(model, EOS).generate([Request((5, 6, 7), 50, 11, length)], distribution)[0]
    distinct = list(dict.fromkeys(c for c in sampled if len(c.token_ids) == length))[:n]
    return [Trajectory(f"t{i}", (5, 6, 7), c.token_ids, correct, i) for i, c in enumerate(distinct)]


class RecordingEngine:
    """Continues each prefix with token 9 alone; EOS, 30, 31 and 40 are always equally probable."""

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
