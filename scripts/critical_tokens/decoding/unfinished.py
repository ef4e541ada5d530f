"""Answers of a program that was stopped, so that the next run of the program need not sample again.

The answers to a request depend on the request alone. They are therefore written to a file as soon
as all of them are there, and a later run of the same program with the same settings reads them. The
file is removed when the program has written its output.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critical_tokens.decoding.distributions import Distribution
from critical_tokens.decoding.protocol import Completion, Engine, OnAnswers, Request

if TYPE_CHECKING:
    from torch import Tensor

# Seconds between two writes. A program that takes less time writes nothing.
_INTERVAL = 30.0


class ResumingEngine:
    """An engine that keeps finished answers in a file; otherwise see protocol.Engine.

    path: the file.
    settings: everything that the answers depend on besides the requests. A file that was written
        under other settings is not read.
    interval: the shortest time between two writes (seconds).
    """

    def __init__(self, engine: Engine, path: Path, settings: str, interval: float = _INTERVAL) -> None:
        self._engine, self._path, self._interval = engine, path, interval
        self._header = hashlib.sha256(settings.encode()).hexdigest()
        self._known, self._spent = self._read()
        self._fresh: list[str] = []
        self._written = time.monotonic()
        self.context, self.device = engine.context, engine.device
        if self._known:
            print(f"{path}: goes on with {len(self._known)} requests answered before", file=sys.stderr, flush=True)

    @property
    def tokens_generated(self) -> int:
        """See protocol.Engine; tokens of the stopped runs count."""
        return self._spent + self._engine.tokens_generated

    def generate(
        self,
        requests: Sequence[Request],
        distribution: Distribution,
        on_progress: Callable[[int], None] | None = None,
        weighted: bool = False,
        on_answers: OnAnswers | None = None,
    ) -> list[list[Completion]]:
        """See protocol.Engine."""
        keys = [_key(request, distribution, weighted) for request in requests]
        found = {i: self._known[key] for i, key in enumerate(keys) if key in self._known}
        left = [i for i in range(len(requests)) if i not in found]
        before = sum(len(completions) for completions in found.values())

        def keep(index: int, completions: list[Completion]) -> None:
            self._keep(keys[left[index]], completions)
            if on_answers is not None:
                on_answers(left[index], completions)

        def report(done: int) -> None:
            if on_progress is not None:
                on_progress(before + done)

        asked = [requests[i] for i in left]
        found |= zip(left, self._engine.generate(asked, distribution, report, weighted, keep), strict=True)
        return [found[i] for i in range(len(requests))]

    def path_logits(self, prompt: Sequence[int], path: Sequence[int]) -> Tensor:
        """See protocol.Engine."""
        return self._engine.path_logits(prompt, path)

    def remove(self) -> None:
        """Remove the file, because the output of the program is written."""
        self._path.unlink(missing_ok=True)

    def _keep(self, key: str, completions: Sequence[Completion]) -> None:
        answers = [[c.token_ids, c.finished, c.weight] for c in completions]
        self._fresh.append(json.dumps({"key": key, "answers": answers, "tokens": self.tokens_generated}))
        if time.monotonic() - self._written < self._interval:
            return
        new = not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in ([self._header] if new else []) + self._fresh)
        self._fresh.clear()
        self._written = time.monotonic()

    def _read(self) -> tuple[dict[str, list[Completion]], int]:
        """The answers of the file and the tokens that they took; none of another header.

        A line that a stopped program did not finish is cut off.
        """
        if not self._path.is_file():
            return {}, 0
        text = self._path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        lines = whole.decode("utf-8").splitlines()
        if not lines or lines[0] != self._header:
            self._path.unlink()
            return {}, 0
        if len(whole) < len(text):
            self._path.write_bytes(whole)
        records: list[Any] = [json.loads(line) for line in lines[1:]]
        known = {r["key"]: [Completion(tuple(ids), *rest) for ids, *rest in r["answers"]] for r in records}
        return known, records[-1]["tokens"] if records else 0


def _key(request: Request, distribution: Distribution, weighted: bool) -> str:
    """A name of a request that no other request has."""
    return hashlib.sha256(repr((request, distribution, weighted)).encode()).hexdigest()[:32]
