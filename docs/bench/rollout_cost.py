"""What rollout scores cost, and how good they are for it: tokens, time, error."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from critical_tokens.data import sources
from critical_tokens.data.prompts import Prompt
from critical_tokens.decoding.distributions import Distribution, Nucleus
from critical_tokens.decoding.protocol import Completion, Engine, Request
from critical_tokens.engines.opening import EngineSettings
from critical_tokens.models.checkpoints import ModelSource
from critical_tokens.reporting import canvas, study_figures
from critical_tokens.rollouts import critical, scores
from critical_tokens.rollouts.branching import GenerationSettings, Trajectory, keep_token, replace_token
from critical_tokens.rollouts.sampler import Sampler

ROOT = Path(__file__).resolve().parent.parent.parent
DRAWS = Nucleus(1.0, 0.95)
SOFTMAX = Nucleus(1.0, 1.0)
LIMIT = 96
N = 64


class _Counted:
    """The engine, which also counts the tokens of all completions, as if each was decoded alone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.tokens_returned = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, *args: Any) -> list[list[Completion]]:
        results = self._engine.generate(*args)
        self.tokens_returned += sum(len(c.token_ids) + c.finished for of_it in results for c in of_it)
        return results


@cache
def _sampler() -> Sampler:
    sampler = Sampler(
        ModelSource(str(ROOT / "data" / "models" / "pocket-s")),
        [],
        Prompt("gsm8k", blank="prompt"),
        EngineSettings(24_576),
    )
    sampler.engine = _Counted(sampler.engine)
    return sampler


def _generation(distribution: Distribution = DRAWS, limit: int = LIMIT) -> GenerationSettings:
    return GenerationSettings(distribution, limit, _sampler().tokenizer.eos_token_id)


@cache
def _incorrect(count: int) -> tuple[Trajectory, ...]:
    """One incorrect sampled answer for each of the first train problems that have one."""
    sampler = _sampler()
    problems = sources.generated("pocket-gsm", "train", 8 * count, 0)
    prompts = sampler.prompt_ids(problems)
    sampled = sampler.engine.generate([Request(tuple(p), 1, i, LIMIT) for i, p in enumerate(prompts)], DRAWS)
    found = []
    for problem, prompt, (answer,) in zip(problems, prompts, sampled, strict=True):
        grader = sampler.grader(problem["answer"])
        if answer.token_ids and not grader(answer.token_ids):
            found.append(Trajectory(problem["problem_id"], tuple(prompt), answer.token_ids, grader, len(found)))
    if len(found) < count:
        raise SystemExit(f"bench: {len(found)} incorrect answers, {count} wanted")
    return tuple(found[:count])


class _Meter:
    """Tokens and seconds of what is done inside it."""

    def __enter__(self) -> _Meter:
        engine = _sampler().engine
        self._tokens, self._returned, self._start = (engine.tokens_generated, engine.tokens_returned, time.monotonic())
        return self

    def __exit__(self, *exception: object) -> None:
        engine = _sampler().engine
        self.tokens, self.returned = (engine.tokens_generated - self._tokens, engine.tokens_returned - self._returned)
        self.seconds = time.monotonic() - self._start


def _entry(ours: float, theirs: float, unit: str, **more: Any) -> dict[str, Any]:
    """`ratio` is how many times less ours takes."""
    return {"ours": round(ours, 3), "theirs": round(theirs, 3), "ratio": round(theirs / ours, 2), "unit": unit, **more}


def released_procedure(_: Path, count: int = 12) -> dict[str, Any]:
    """Cost of scores and Figure 2: coupled, backward, stratified rollouts, and the released code.

    The released procedure rolls out 64 times from every token, and at every token draws 64
    replacements and continues each.
    """
    engine, generation, trajectories = _sampler().engine, _generation(), _incorrect(count)

    def figure2(curves: list[list[scores.Score]], zero: float = 0.0) -> None:
        places = []
        for trajectory, of_it in zip(trajectories, curves, strict=True):
            scored = [s for s in of_it if s.position >= 0]
            found = critical.find_critical([s.score for s in scored], 0.05, zero)
            if found:
                places.append((trajectory, scored[found.position].position))
        chosen, positions = zip(*places, strict=True)
        keep_token(engine, chosen, positions, N, generation)
        replace_token(engine, chosen, positions, N, generation, SOFTMAX)

    with _Meter() as theirs:
        independent = scores.score(engine, trajectories, scores.independent(N), generation)
        places = [(t, position) for t in trajectories for position in range(len(t.answer))]
        replace_token(engine, *zip(*places, strict=True), N, generation, SOFTMAX)
    with _Meter() as curve:
        coupled = scores.score(engine, trajectories, scores.coupled(N), generation)
        figure2(coupled)
    with _Meter() as backward:
        figure2(scores.score(engine, trajectories, scores.coupled(N), generation, settled=critical.settled))
    settled = partial(critical.settled, zero_up_to=0.01)
    with _Meter() as stratified:
        figure2(scores.score(engine, trajectories, scores.stratified(8), generation, settled=settled), zero=0.01)
    pairs = [(a, b) for of_a, of_b in zip(coupled, independent, strict=True) for a, b in zip(of_a, of_b, strict=True)]
    z = [
        (a.score - b.score) / (2 * share * (1 - share) / N) ** 0.5
        for a, b in pairs
        if 0.05 < (share := (a.score + b.score) / 2) < 0.95
    ]
    same = sum(
        critical.find_critical([s.score for s in a[1:]]) == critical.find_critical([s.score for s in b[1:]])
        for a, b in zip(coupled, independent, strict=True)
    )
    agreement = {
        "positions": len(z),
        "mean_z": round(sum(z) / len(z), 3),
        "root_mean_square_z": round((sum(x * x for x in z) / len(z)) ** 0.5, 3),
        "same_critical_token": f"{same} of {count}",
    }
    result = {"rollout_agreement": agreement}
    for name, meter in (("", curve), ("_backward", backward), ("_stratified", stratified)):
        result[f"rollout_tokens{name}"] = _entry(meter.tokens / count, theirs.tokens / count, "tokens per trajectory")
        each = theirs.returned / count
        result[f"rollout_tokens{name}_unshared"] = _entry(meter.tokens / count, each, "tokens per trajectory")
        result[f"rollout_wall{name}"] = _entry(meter.seconds / count, theirs.seconds / count, "seconds per trajectory")
    return result


def error_over_tokens(pictures: Path, count: int = 6, repeats: int = 4) -> dict[str, Any]:
    """Mean squared error of the scores over tokens, by procedure; truth from 4,096 samples each."""
    import pandas as pd

    engine, generation, trajectories = _sampler().engine, _generation(), _incorrect(count)
    truth = scores.score(
        engine, [replace(t, seed=10_000 + t.seed) for t in trajectories], scores.coupled(4096), generation
    )
    plans = {
        "independent": [(n, scores.independent(n)) for n in (4, 16, 64)],
        "coupled": [(n, scores.coupled(n)) for n in (4, 16, 64)],
        "stratified": [(k, scores.stratified(k)) for k in (1, 2, 4, 8, 16, 24, 32, 64)],
    }
    rows = []
    for method, sizes in plans.items():
        for size, planner in sizes:
            # Independent rollouts are dear and their error well known: one repeat is enough.
            times = 1 if method == "independent" else repeats
            again = [replace(t, seed=1000 * (r + 1) + t.seed) for r in range(times) for t in trajectories]
            with _Meter() as meter:
                estimated = scores.score(engine, again, planner, generation)
            squares = [
                (a.score - b.score) ** 2
                for of_a, of_b in zip(estimated, truth * times, strict=True)
                for a, b in zip(of_a, of_b, strict=True)
            ]
            error = sum(squares) / len(squares)
            tokens = meter.tokens / len(again)
            each = meter.returned / len(again)
            row = {"tokens": round(tokens, 1), "unshared": round(each, 1), "squared_error": error}
            rows.append({"method": method, "size": size, **row})
    table = pd.DataFrame(rows)
    canvas.save(study_figures.error_figure(table), pictures / "bench_error.png")
    target = table[(table["method"] == "independent") & (table["size"] == 64)].iloc[0]
    result: dict[str, Any] = {"error_over_tokens": rows}
    for method, key in (("stratified", "tokens_at_equal_error"), ("coupled", "tokens_at_equal_error_coupled")):
        enough = table[(table["method"] == method) & (table["squared_error"] <= target["squared_error"])]
        if len(enough):
            best = enough.sort_values("tokens").iloc[0]
            ours, size = float(best["tokens"]), float(best["size"])
            result[key] = _entry(ours, float(target["tokens"]), "tokens per trajectory", size=size)
            result[f"{key}_unshared"] = _entry(ours, float(target["unshared"]), "tokens per trajectory", size=size)
    return result


def growth(pictures: Path) -> dict[str, Any]:
    """Tokens that coupled scores take, by length, and by the expected number of leaving samples."""
    import pandas as pd

    sampler = _sampler()
    generation = _generation(SOFTMAX, 200)
    problems = sources.generated("pocket-gsm", "train", 12, 0)
    rows = []
    for problem, prompt in zip(problems, sampler.prompt_ids(problems), strict=True):
        # A long trajectory is several answers in a row: whatever follows is possible at temperature
        # 1 without a nucleus.
        answer: tuple[int, ...] = ()
        while len(answer) < 200:
            request = Request((*prompt, *answer), 1, len(answer), 200 - len(answer))
            answer += sampler.engine.generate([request], SOFTMAX)[0][0].token_ids or (prompt[-1],)
        chances = SOFTMAX.probabilities(sampler.engine.path_logits(prompt, answer))
        staying = chances.gather(-1, _column(answer)).squeeze(-1)
        for length in (25, 50, 100, 150, 200):
            trajectory = Trajectory(problem["problem_id"], tuple(prompt), answer[:length], lambda ids: False, length)
            with _Meter() as meter:
                scores.score(sampler.engine, [trajectory], scores.coupled(N), generation)
            rows.append({
                "length": length,
                "leaving": round(float((1 - staying[:length]).sum()), 3),
                "tokens": meter.tokens,
            })  # fmt: skip
    table = pd.DataFrame(rows)
    canvas.save(study_figures.growth_figure(table), pictures / "bench_growth.png")
    means = table.groupby("length", as_index=False).mean()
    return {
        "growth": {
            "by_length": means.round(2).to_dict("records"),
            "correlation_of_tokens_with_leaving": round(float(table["tokens"].corr(table["leaving"])), 4),
            "unit": "tokens; leaving is the sum of 1 - q",
        }
    }


def _column(ids: tuple[int, ...]) -> Any:
    import torch

    return torch.tensor(ids).unsqueeze(-1)


def thresholds(_: Path, count: int = 60) -> dict[str, Any]:
    """How often thresholds on stratified scores find the paper's critical tokens of 64 counts.

    A second set of counts shows how often the paper's rule agrees with itself, which is not always.
    """
    engine, generation, trajectories = _sampler().engine, _generation(), _incorrect(count)

    def scored(planner: scores.Planner, seed: int) -> list[list[scores.Score]]:
        return scores.score(engine, [replace(t, seed=seed + t.seed) for t in trajectories], planner, generation)

    def found(curves: list[list[scores.Score]], later: float = 0.05, zero: float = 0.0) -> list[Any]:
        return [critical.find_critical([s.score for s in of_it[1:]], later, zero) for of_it in curves]

    paper = found(scored(scores.coupled(N), 1_000))
    again, strata = scored(scores.coupled(N), 2_000), scored(scores.stratified(8), 3_000)

    def share(others: list[Any]) -> float:
        return round(sum(a == b for a, b in zip(paper, others, strict=True)) / len(paper), 3)

    grid = [
        {"later": later, "zero": zero, "same": share(found(strata, later, zero))}
        for later in (0.02, 0.05, 0.1)
        for zero in (0.0, 0.003, 0.01, 0.02, 0.03, 0.05)
        if zero <= later
    ]
    best = max(grid, key=lambda row: row["same"])
    return {"thresholds": {"trajectories": count, "best": best, "counts_again": share(found(again)), "grid": grid}}
