"""Which incorrect answers are examined token by token, as trajectories for `branching`."""

from __future__ import annotations

from collections.abc import Sequence

from critical_tokens.core.records import ByProblem, Row
from critical_tokens.decoding.distributions import Distribution
from critical_tokens.rollouts.branching import GenerationSettings, Trajectory
from critical_tokens.rollouts.sampler import Sampler, seed_of


def rejected_answers(pairs: Sequence[Row], limit: int | None, seed: int) -> list[Row]:
    """The pairs whose incorrect answers are examined token by token: `limit` random ones, in file
    order (None: all).

    An answer that ended before it began has no token to examine.
    """
    pairs = [p for p in pairs if p["rejected"]]
    if limit is None or limit >= len(pairs):
        return pairs
    ranked = sorted(pairs, key=lambda p: seed_of(seed, "examined", p["problem_id"]))
    examined = {p["problem_id"] for p in ranked[:limit]}
    return [p for p in pairs if p["problem_id"] in examined]


def examined_trajectories(
    sampler: Sampler, pairs: Sequence[Row], problems: Sequence[Row], seed: int
) -> list[Trajectory]:
    """The rejected answers of pairs as trajectories for `branching`."""
    by_id = ByProblem(problems, "the table of problems")
    asked = [by_id[pair["problem_id"]] for pair in pairs]
    return [
        Trajectory(
            name=f"{pair['problem_id']}/{pair['rejected_id']}",
            prompt=tuple(ids),
            answer=tuple(pair["rejected"]),
            grader=sampler.grader(problem["answer"]),
            seed=seed_of(seed, pair["problem_id"], pair["rejected_id"]),
        )
        for pair, problem, ids in zip(pairs, asked, sampler.prompt_ids(asked), strict=True)
    ]


def generation_settings(sampler: Sampler, distribution: Distribution, max_new_tokens: int) -> GenerationSettings:
    """How branches of a model's answers are drawn: they end where its answers end."""
    return GenerationSettings(distribution, max_new_tokens, sampler.tokenizer.eos_token_id, frozenset(sampler.ends))
