"""A model with its tokenizer and engine: encodes prompts, samples answers, grades token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critical_tokens.core.progress import Progress
from critical_tokens.core.records import Row
from critical_tokens.data import prompts
from critical_tokens.decoding.distributions import Distribution
from critical_tokens.decoding.protocol import Engine, Request, RequestError, check
from critical_tokens.decoding.stopping import Stop
from critical_tokens.decoding.unfinished import ResumingEngine
from critical_tokens.engines.opening import EngineSettings, open_engine
from critical_tokens.grading import answers, verify
from critical_tokens.models.checkpoints import ModelSource, end_ids, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Sampler:
    """A model with its tokenizer and engine, for problems with one form of prompt.

    adapters: files of adapters, the one nearest to the base model first.
    grader: which verdict grades answers, one of grading.answers.GRADERS.
    unfinished: the file that keeps finished answers until `finish` is called, and everything that
        the answers depend on, see decoding.unfinished; None to keep nothing.
    """

    def __init__(
        self,
        source: ModelSource,
        adapters: Sequence[Path],
        prompt: prompts.Prompt,
        engine: EngineSettings,
        grader: str = "released",
        unfinished: tuple[Path, str] | None = None,
    ) -> None:
        self.prompt, self._grader = prompt, grader
        self._workers = verify.Workers() if grader == "math_verify" else None
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(source, prompt)
        stop = None if prompt.stop is None else Stop(self.tokenizer, prompt.stop)
        self.ends = end_ids(source, self.tokenizer)
        opened = open_engine(engine, source, adapters, self.ends, stop)
        self._resuming = ResumingEngine(opened, *unfinished) if unfinished else None
        self.engine: Engine = self._resuming or opened

    def finish(self) -> None:
        """Forget the answers that were kept, because the output of the program is written."""
        if self._resuming:
            self._resuming.remove()

    def prompt_ids(self, problems: Sequence[Row]) -> list[list[int]]:
        """Token ids of the problems' prompts."""
        return prompts.encode_prompts(self.tokenizer, [p["question"] for p in problems], self.prompt)

    def sample(
        self, problems: Sequence[Row], n: int, distribution: Distribution, max_new_tokens: int, seed: int, label: str
    ) -> list[dict[str, Any]]:
        """`n` samples of each problem as rows of the table "trajectories".

        label: how progress lines name the work.

        Raises RequestError for a problem whose prompt fills the model's context, before anything is
        sampled.
        """
        requests = []
        for problem, ids in zip(problems, self.prompt_ids(problems), strict=True):
            requests.append(Request(tuple(ids), n, seed_of(seed, problem["problem_id"]), max_new_tokens))
            try:
                check(requests[-1:], self.engine.context)
            except RequestError as error:
                remedy = "leave the problem out, ask without shots, or take a model with a longer context"
                raise RequestError(f"problem {problem['problem_id']}: {error}; {remedy}") from error
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
        """A function that grades token ids against a gold answer; it grades equal answers once."""
        known: dict[tuple[int, ...], bool] = {}

        def graded(ids: Sequence[int]) -> bool:
            key = tuple(ids)
            if key not in known:
                known[key] = answers.label(
                    prompts.decode(self.tokenizer, key), gold, self.prompt.style, self._grader, self._workers
                )
            return known[key]

        return graded


def seed_of(seed: int, *names: object) -> int:
    """A seed below 2**31 for what the names identify, such as a sample of a problem."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
