"""Which answers are examined token by token, as trajectories for `branching`, and what is recorded
of their branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from critical_tokens.core.records import ByProblem, Row
from critical_tokens.decoding.distributions import GREEDY, Distribution
from critical_tokens.rollouts.branching import Branch, GenerationSettings, Trajectory, replace_token
from critical_tokens.rollouts.sampler import Sampler, seed_of


def rejected_answers(pairs: Sequence[Row], limit: int | None, seed: int) -> list[Row]:
    """The pairs whose rejected answers are examined: `limit` random ones in file order (None: all).

    Pairs whose rejected answer has no tokens are left out: there is nothing to examine.
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
    """The rejected answers of pairs as trajectories, see `answer_trajectories`."""
    answers = [
        {"problem_id": pair["problem_id"], "sample_id": pair["rejected_id"], "token_ids": pair["rejected"]}
        for pair in pairs
    ]
    return answer_trajectories(sampler, answers, problems, seed)


def answer_trajectories(
    sampler: Sampler, answers: Sequence[Row], problems: Sequence[Row], seed: int
) -> list[Trajectory]:
    """Answers as trajectories for `branching`, each with its own seed derived from `seed`.

    answers: rows with problem_id, sample_id and token_ids.
    problems: rows of the table "problems".

    Raises ArtifactError for an answer to a problem that is not among the problems.
    """
    by_id = ByProblem(problems, "the table of problems")
    asked = [by_id[answer["problem_id"]] for answer in answers]
    return [
        Trajectory(
            name=f"{answer['problem_id']}/{answer['sample_id']}",
            prompt=tuple(ids),
            answer=tuple(answer["token_ids"]),
            grader=sampler.grader(problem["answer"]),
            seed=seed_of(seed, answer["problem_id"], answer["sample_id"]),
        )
        for answer, problem, ids in zip(answers, asked, sampler.prompt_ids(asked), strict=True)
    ]


def generation_settings(sampler: Sampler, distribution: Distribution, max_new_tokens: int) -> GenerationSettings:
    """Settings with which branches end where the model's own answers end."""
    return GenerationSettings(distribution, max_new_tokens, sampler.tokenizer.eos_token_id, frozenset(sampler.ends))


def replacement_row(answer: Row, arm: str, draw: int, branch: Branch) -> dict[str, Any]:
    """A row of the table "replacement": draw number `draw` of an arm of an answer."""
    return {
        "problem_id": answer["problem_id"],
        "sample_id": answer["sample_id"],
        "arm": arm,
        "draw": draw,
        "token_id": branch.token_id,
        "answer": list(branch.answer),
        "correct": branch.correct,
    }


def exclusion_rows(
    sampler: Sampler,
    answers: Sequence[Row],
    problems: Sequence[Row],
    positions: Sequence[int],
    max_new_tokens: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Every answer as it is, and its greedy continuation without the token at its position.

    In the arm "excluded" that token is masked, and greedy decoding goes on from the most probable
    other token. Returns two rows of the table "replacement" per answer, "kept" and "excluded".

    answers: rows with problem_id, sample_id and token_ids.
    """
    trajectories = answer_trajectories(sampler, answers, problems, seed)
    generation = generation_settings(sampler, GREEDY, max_new_tokens)
    excluded = replace_token(sampler.engine, trajectories, positions, 1, generation, GREEDY)
    rows = []
    for answer, trajectory, position, (other,) in zip(answers, trajectories, positions, excluded, strict=True):
        kept = Branch(trajectory.answer[position], trajectory.answer, trajectory.grader(trajectory.answer))
        rows += [replacement_row(answer, "kept", 0, kept), replacement_row(answer, "excluded", 0, other)]
    return rows
