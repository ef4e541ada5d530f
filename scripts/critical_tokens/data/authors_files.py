"""The authors' own data files: SFT answers, preference pairs and scored pairs.

Formats that their pipeline writes (pipeline.py of the released code):
SFT: {config, pos: {id: {question, response, answer}}, neg: {id_k: {…}}}.
preference: {config, prompt, chosen, rejected, answer}; the last four are lists, one row per pair.
scored: {prompt, chosen, rejected, prob_result}, also lists. A prob_result has `pos` (chosen) and
    `neg` (rejected), each with `response_start_idx` and `ce_prob`: the scores of tokens 1 to L-1
    of prompt and response, which were tokenised together.

The contents are not trusted: all of them are checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from critical_tokens.core import records
from critical_tokens.data import prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PATTERNS = {"answers": "*sft_pos*.json", "pairs": "*dpo_top*.json", "scores": "*CE_scored*.json"}
"""File name patterns by content.

The name of a scored file contains that of its preference file, and an unfinished copy of the scored
file may lie beside it.
"""
NAMES = {"gsm8k": "GSM8K", "math": "MATH"}
"""The authors' name of each style's dataset; its file names begin with it (pipeline.py:58-62)."""

Given = Path | tuple[Path, ...]
"""A file, or one file per dataset, from which the style of the problems selects one."""


def files(folder: Path, style: str | None = None) -> dict[str, Given]:
    """The files of a folder by content: answers, pairs and, unless they are missing, scores.

    style: gsm8k or math selects the files of this dataset where a folder has the files of both;
        None returns both.

    Unfinished files are ignored. Raises ArtifactError where answers or pairs are missing, or where
    there are several files of the same dataset.
    """
    found = {}
    for kind, pattern in PATTERNS.items():
        paths = [p for p in sorted(records.expanded(folder).glob(pattern)) if "unfinished" not in p.name]
        paths = [p for p in paths if kind == "scores" or "CE_scored" not in p.name]
        if len(paths) > 1 and style is not None:
            paths = [p for p in paths if _dataset(p) == NAMES[style]] or paths
        several = len(paths) > 1 and (style is not None or {_dataset(p) for p in paths} != set(NAMES.values()))
        if several or len(paths) > len(NAMES) or (not paths and kind != "scores"):
            listed = f" ({', '.join(p.name for p in paths)})" if paths else ""
            raise records.ArtifactError(
                f"{folder}: has {len(paths)} files {pattern}{listed}, must have one per dataset"
            )
        if paths:
            found[kind] = paths[0] if len(paths) == 1 else tuple(paths)
    return found


def _dataset(path: Path) -> str:
    return path.name.split(".")[0].upper()


def _of_style(given: Given, problems: Problems) -> Path:
    """The file of the problems' dataset."""
    return given if isinstance(given, Path) else next(path for path in given if _dataset(path) == NAMES[problems.style])


class Problems:
    """Finds the train problem of a row in the authors' files, by its question.

    A row is left out where no train problem has its question; problems without a gold answer are
    not among the train problems. `left_out` counts these rows by file. MATH has one question twice;
    the rows of both problems are assigned to the first one.
    """

    def __init__(self, problems: Sequence[records.Row], style: str, prompt: prompts.Prompt | None = None) -> None:
        self.prompt = prompt or prompts.Prompt(style)
        self.left_out: Counter[str] = Counter()
        self.style = style
        self._ids: dict[str, str] = {}
        for problem in problems:
            self._ids.setdefault(_plain(problem["question"]), problem["problem_id"])

    def of_prompt(self, text: Any) -> str | None:
        """The id of the problem that a zero-shot prompt asks; None where there is none."""
        question = prompts.question_of(text, self.style) if isinstance(text, str) else None
        return self.of_question(text if question is None else question)

    def of_question(self, question: Any) -> str | None:
        """The id of the problem with this question; None where there is none."""
        return self._ids.get(_plain(question)) if isinstance(question, str) else None

    def known(self, names: Sequence[str | None], path: Path) -> list[tuple[int, str]]:
        """The index and problem id of the rows that have a problem; the other rows are counted.

        Raises ArtifactError where no row has a problem.
        """
        rows = [(i, name) for i, name in enumerate(names) if name is not None]
        if names and not rows:
            raise records.ArtifactError(f"{path}, row 0: no train problem has its question, nor that of any other row")
        if len(rows) < len(names):
            self.left_out[path.name] += len(names) - len(rows)
        return rows


def _plain(text: str) -> str:
    return " ".join(text.split())


def answers(given: Given, side: str, problems: Problems, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """The positive set (side "pos") or negative set ("neg"), as rows of the table "answers"."""
    path = _of_style(given, problems)
    content = _mapping(path).get(side)
    if not isinstance(content, Mapping):
        raise records.ArtifactError(f"{path}: has no answers under {side!r}")
    rows = list(content.items())
    names = [problems.of_question(row.get("question") if isinstance(row, Mapping) else None) for _, row in rows]
    kept = problems.known(names, path)
    texts = [_text(rows[i][1].get("response"), f"{path}, {side}, {rows[i][0]}", "response") for i, _ in kept]
    numbers: Counter[str] = Counter()
    found = []
    for (_, name), ids in zip(kept, prompts.encode_answers(tokenizer, texts, problems.prompt), strict=True):
        found.append({"problem_id": name, "sample_id": numbers[name], "token_ids": ids, "finished": True})
        numbers[name] += 1
    return found


def pairs(given: Given, problems: Problems, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """The preference pairs, as rows of the table "pairs".

    The chosen answer is sample 0 of its problem, the rejected answer sample 1. Where a problem has
    several pairs, the first one is used.
    """
    path = _of_style(given, problems)
    columns = _columns(path, ("prompt", "chosen", "rejected"))
    names = [problems.of_prompt(text) for text in columns["prompt"]]
    first = {name: i for i, name in reversed(list(enumerate(names)))}
    kept = problems.known([name if first[name] == i else None for i, name in enumerate(names)], path)
    sides = {}
    for side in ("chosen", "rejected"):
        texts = [_text(columns[side][i], f"{path}, row {i}", side) for i, _ in kept]
        sides[side] = prompts.encode_answers(tokenizer, texts, problems.prompt)
    return [
        {
            "problem_id": name, "chosen_id": 0, "rejected_id": 1, "chosen": chosen, "rejected": rejected,
            "chosen_finished": True, "rejected_finished": True,
        }
        for (_, name), chosen, rejected in zip(kept, sides["chosen"], sides["rejected"], strict=True)
    ]  # fmt: skip


def scores(
    given: Given, rows: Sequence[records.Row], problems: Problems, tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, Any]]:
    """Contrastive scores of the pairs' rejected answers, as rows of the table "contrast".

    The log-probabilities of these rows are null. The authors tokenise prompt and response together;
    here they are tokenised separately. Each of our tokens takes the score of the authors' token
    that contains its first character. EOS was not scored, and gets the score 0. This is the weight
    1 that the released cDPO gives it (train_cdpo.py:138).
    Raises ArtifactError where the scores belong to another tokenizer or to other pairs.
    """
    path = _of_style(given, problems)
    columns = _columns(path, ("prompt", "rejected", "prob_result"))
    asked = [problems.of_prompt(prompt) for prompt in columns["prompt"]]
    found: dict[str, _Scored] = {}
    for i, name in problems.known(asked, path):
        where = f"{path}, row {i}"
        rejected = _text(columns["rejected"][i], where, "rejected")
        stated = _rejected_scores(columns["prob_result"][i], where)
        found.setdefault(name, _Scored(where, columns["prompt"][i], rejected, stated))
    lead = len(prompts.turn_of(tokenizer, problems.prompt).lead)
    out = []
    for row in rows:
        if row["problem_id"] not in found:
            raise records.ArtifactError(f"{path}: has no scores for the pair of problem {row['problem_id']}")
        scored = found[row["problem_id"]]
        if prompts.encode_answers(tokenizer, [scored.rejected], problems.prompt)[0] != row["rejected"]:
            what = f"its rejected answer is not that of the pair of problem {row['problem_id']}"
            raise records.ArtifactError(f"{scored.where}: {what}")
        out.append({
            "problem_id": row["problem_id"], "sample_id": row["rejected_id"],
            "token_ids": [*row["rejected"], tokenizer.eos_token_id],
            "positive_logps": None, "negative_logps": None,
            "scores": [*_own_scores(scored, row["rejected"], lead, tokenizer), 0.0],
        })  # fmt: skip
    return out


class _Scored(NamedTuple):
    where: str
    prompt: str
    rejected: str
    scores: list[float]


def _own_scores(scored: _Scored, own: Sequence[int], lead: int, tokenizer: PreTrainedTokenizerBase) -> list[float]:
    """The scores of our tokens of an answer.

    own: our token ids of the answer.
    lead: the length of the text, often a blank, that our text has in front of the answer.
    """
    joint = tokenizer(scored.prompt + scored.rejected, return_offsets_mapping=True)
    ids, spans = joint["input_ids"], joint["offset_mapping"]
    if len(scored.scores) not in (len(ids) - 1, len(ids)):
        what = f"{len(scored.scores)} scores for {len(ids)} tokens: another tokenizer?"
        raise records.ArtifactError(f"{scored.where}: {what}")
    # The scores begin with the second token. For some tokenizers without BOS there is one more,
    # that of the first token (train_cdpo.py:134).
    of_char: dict[int, float] = {}
    for (start, end), score in zip(spans[len(ids) - len(scored.scores) :], scored.scores, strict=True):
        of_char.update(dict.fromkeys(range(start, end), min(float(score), 1.0)))
    # Our text begins here in the authors' text, which may lack the leading blank.
    first = len(scored.prompt) + len(scored.rejected) - len(scored.rejected.lstrip())
    found, last = [], of_char.get(first - 1, 0.0)
    for start, end in pairwise([0, *prompts.token_ends(tokenizer, own)]):
        # Some tokenizers leave blanks out of spans; then the first character with a score counts.
        # Where several tokens form one character, each of them takes the score of this character.
        span = range(first - lead + max(start, lead), first - lead + max(end, start + 1))
        last = next((of_char[c] for c in span if c in of_char), last)
        found.append(last)
    return found


def _rejected_scores(result: Any, where: str) -> list[float]:
    """The scores of the rejected answer in a prob_result."""
    side = result.get("neg") if isinstance(result, Mapping) else None
    scored = side.get("ce_prob") if isinstance(side, Mapping) else None
    if not isinstance(scored, list) or not all(isinstance(s, (int, float)) and 0 <= s <= 1.001 for s in scored):
        raise records.ArtifactError(f"{where}: ce_prob is no list of scores between 0 and 1")
    return scored


def _mapping(path: Path) -> Mapping[str, Any]:
    content = records.read_json(path)
    if not isinstance(content, Mapping):
        raise records.ArtifactError(f"{path}: is no JSON object")
    return content


def _columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """The lists of a file by name; ArtifactError where one is missing or their lengths differ."""
    content = _mapping(path)
    missing = [name for name in names if not isinstance(content.get(name), list)]
    if missing:
        raise records.ArtifactError(f"{path}: has no list {', '.join(missing)}")
    lengths = {name: len(content[name]) for name in names}
    if len(set(lengths.values())) > 1:
        raise records.ArtifactError(f"{path}: its lists have different lengths, {lengths}")
    return {name: content[name] for name in names}


def _text(value: Any, where: str, name: str) -> str:
    if not isinstance(value, str) or not value or any("\ud800" <= c <= "\udfff" for c in value):
        raise records.ArtifactError(f"{where}: {name} is no text")
    return value
