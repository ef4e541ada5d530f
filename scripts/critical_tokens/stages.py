"""What several stages do in the same way: load a model, its engine and its prompts; sample and grade."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critical_tokens import answers, prompts
from critical_tokens.branching import Trajectory
from critical_tokens.checkpoints import ModelSource, load_model, load_tokenizer
from critical_tokens.engines.protocol import Request
from critical_tokens.progress import Progress
from critical_tokens.sampling import Distribution

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from critical_tokens.engines.transformers import TransformersEngine

Row = Mapping[str, Any]


class Sampler:
    """A model with its tokenizer and engine, for problems of one prompt style."""

    def __init__(self, source: ModelSource, adapters: Sequence[Path], style: str, max_batch_tokens: int) -> None:
        from critical_tokens.engines.transformers import TransformersEngine

        self.style = style
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(source)
        model = load_model(source, adapters)
        self.device = str(model.device)
        self.engine: TransformersEngine = TransformersEngine(model, self.tokenizer.eos_token_id, max_batch_tokens)

    def prompt_ids(self, problems: Sequence[Row]) -> list[list[int]]:
        """Token ids of the problems' prompts."""
        return prompts.encode_prompts(self.tokenizer, [p["question"] for p in problems], self.style)

    def sample(
        self, problems: Sequence[Row], n: int, distribution: Distribution, max_new_tokens: int, seed: int, label: str
    ) -> list[dict[str, Any]]:
        """`n` samples of each problem as rows of the table "trajectories". `label` names the work in progress lines."""
        requests = [
            Request(tuple(ids), n, seed_of(seed, problem["problem_id"]), max_new_tokens)
            for problem, ids in zip(problems, self.prompt_ids(problems), strict=True)
        ]
        progress = Progress(label, n * len(requests), "answers")
        results = self.engine.generate(requests, distribution, progress.update)
        progress.close()
        return [
            {
                "problem_id": problem["problem_id"],
                "sample_id": sample_id,
                "token_ids": list(completion.token_ids),
                "text": prompts.decode(self.tokenizer, completion.token_ids),
                "finished": completion.finished,
            }
            for problem, completions in zip(problems, results, strict=True)
            for sample_id, completion in enumerate(completions)
        ]

    def grader(self, gold: str) -> Callable[[Sequence[int]], bool]:
        """Grades an answer's token ids against a gold answer; equal answers are graded once."""
        known: dict[tuple[int, ...], bool] = {}

        def graded(ids: Sequence[int]) -> bool:
            key = tuple(ids)
            if key not in known:
                known[key] = answers.grade(prompts.decode(self.tokenizer, key), gold, self.style).correct
            return known[key]

        return graded


def seed_of(seed: int, *names: object) -> int:
    """A seed below 2**31 for a thing that names identify, e.g. a problem and a sample."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def grade_rows(samples: Sequence[Row], problems: Sequence[Row], style: str) -> list[dict[str, Any]]:
    """Grades of samples as rows of the table "grades"."""
    gold = {p["problem_id"]: p["answer"] for p in problems}
    rows = []
    for sample in samples:
        result = answers.grade(sample["text"], gold[sample["problem_id"]], style)
        rows.append({
            "problem_id": sample["problem_id"],
            "sample_id": sample["sample_id"],
            "answer": result.answer,
            "correct": result.correct,
        })  # fmt: skip
    return rows


def rejected_answers(pairs: Sequence[Row], limit: int | None, seed: int) -> list[Row]:
    """The pairs whose incorrect answers are examined token by token: `limit` random ones, in file order (None: all)."""
    if limit is None or limit >= len(pairs):
        return list(pairs)
    ranked = sorted(pairs, key=lambda p: seed_of(seed, "examined", p["problem_id"]))
    examined = {p["problem_id"] for p in ranked[:limit]}
    return [p for p in pairs if p["problem_id"] in examined]


def examined_trajectories(sampler: Sampler, pairs: Sequence[Row], problems: Sequence[Row], seed: int) -> list[Trajectory]:
    """The rejected answers of pairs as trajectories for `branching`."""
    by_id = {p["problem_id"]: p for p in problems}
    asked = [by_id[pair["problem_id"]] for pair in pairs]
    return [
        Trajectory(
            prompt=tuple(ids),
            answer=tuple(pair["rejected"]),
            finished=pair["rejected_finished"],
            grader=sampler.grader(problem["answer"]),
            seed=seed_of(seed, pair["problem_id"], pair["rejected_id"]),
        )
        for pair, problem, ids in zip(pairs, asked, sampler.prompt_ids(asked), strict=True)
    ]


def with_eos(ids: Sequence[int], finished: bool, eos_token_id: int) -> list[int]:
    """Answer token ids as they are trained on and scored: EOS at the end of a finished answer."""
    return [*ids, eos_token_id] if finished else list(ids)


def answer_examples(
    tokenizer: PreTrainedTokenizerBase, answered: Sequence[Row], problems: Sequence[Row], style: str
) -> list[dict[str, Any]]:
    """Training examples of the negative log-likelihood from rows of the table "answers"."""
    from critical_tokens.alignment import answer_example

    encoded = prompts_by_problem(tokenizer, answered, problems, style)
    eos = tokenizer.eos_token_id
    return [answer_example(encoded[r["problem_id"]], with_eos(r["token_ids"], r["finished"], eos)) for r in answered]


def prompts_by_problem(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], problems: Sequence[Row], style: str
) -> dict[str, list[int]]:
    """Prompt token ids of the problems that rows refer to."""
    wanted = {r["problem_id"] for r in rows}
    asked = [p for p in problems if p["problem_id"] in wanted]
    encoded = prompts.encode_prompts(tokenizer, [p["question"] for p in asked], style)
    return {p["problem_id"]: ids for p, ids in zip(asked, encoded, strict=True)}


def pair_examples(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Row],
    problems: Sequence[Row],
    style: str,
    reference: Sequence[Row] | None,
    contrast: Sequence[Row] | None,
) -> list[dict[str, Any]]:
    """Training examples of a preference objective; with `contrast`, rejected tokens weigh 1 - s_t."""
    from critical_tokens.alignment import pair_example

    encoded = prompts_by_problem(tokenizer, pairs, problems, style)
    references = {r["problem_id"]: (r["chosen_logps"], r["rejected_logps"]) for r in reference or ()}
    weights = {r["problem_id"]: [1.0 - s for s in r["scores"]] for r in contrast or ()}
    eos = tokenizer.eos_token_id
    return [
        pair_example(
            encoded[pair["problem_id"]],
            with_eos(pair["chosen"], pair["chosen_finished"], eos),
            with_eos(pair["rejected"], pair["rejected_finished"], eos),
            references[pair["problem_id"]] if reference is not None else None,
            weights[pair["problem_id"]] if contrast is not None else None,
        )
        for pair in pairs
    ]
