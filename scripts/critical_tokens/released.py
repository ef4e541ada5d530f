"""The authors' own data files: SFT answers, preference pairs and scored pairs, as their pipeline writes them.

Formats (released code, pipeline.py): SFT is {config, pos: {id: {question, response, answer}}, neg: {id_k: {…}}}; preference is
{config, prompt, chosen, rejected, answer}, lists side by side; scored is {prompt, chosen, rejected, prob_result}, where a
prob_result has `pos` and `neg` (chosen and rejected) with `ce_prob`, the scores of tokens 1 to L-1 of prompt and response
tokenised together, and `response_start_idx`. Everything in them is text to be checked, never trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from critical_tokens import prompts, records

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PATTERNS = {"answers": "*sft_pos*.json", "pairs": "*dpo_top*.json", "scores": "*CE_scored*.json"}
"""Names of the files, of which a folder has one each; scored files carry the name of the preference file too."""


def files(folder: Path) -> dict[str, Path]:
    """The files of a folder by what they hold: answers, pairs and, unless they are missing, scores.

    Raises ArtifactError where one is missing or there are several.
    """
    found = {}
    for kind, pattern in PATTERNS.items():
        paths = sorted(p for p in folder.glob(pattern) if kind == "scores" or "CE_scored" not in p.name)
        if len(paths) > 1 or (not paths and kind != "scores"):
            raise records.ArtifactError(f"{folder}: has {len(paths)} files {pattern}, must have one")
        if paths:
            found[kind] = paths[0]
    return found


class Problems:
    """Train problems by question, to name the released rows."""

    def __init__(self, problems: Sequence[records.Row], style: str) -> None:
        self._style = style
        self._ids = {_plain(p["question"]): p["problem_id"] for p in problems}

    def of_prompt(self, text: Any, where: str) -> str:
        """The problem that a zero-shot prompt asks. Raises ArtifactError naming the row for none of them."""
        question = prompts.question_of(text, self._style) if isinstance(text, str) else None
        return self.of_question(text if question is None else question, where)

    def of_question(self, question: Any, where: str) -> str:
        """The problem with that question; errors as `of_prompt`."""
        found = self._ids.get(_plain(question)) if isinstance(question, str) else None
        if found is None:
            raise records.ArtifactError(f"{where}: its question is none of the train problems")
        return found


def _plain(text: str) -> str:
    return " ".join(text.split())


def answers(path: Path, side: str, problems: Problems, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """The positive (`pos`) or negative (`neg`) set, as rows of the table "answers"."""
    content = _mapping(path).get(side)
    if not isinstance(content, Mapping):
        raise records.ArtifactError(f"{path}: has no answers under {side!r}")
    names, texts = [], []
    for key, row in content.items():
        where = f"{path}, {side}, {key}"
        names.append(problems.of_question(row.get("question") if isinstance(row, Mapping) else None, where))
        texts.append(_text(row.get("response"), where, "response"))
    encoded = prompts.encode_texts(tokenizer, texts)
    seen: dict[str, int] = {}
    rows = []
    for name, ids in zip(names, encoded, strict=True):
        seen[name] = seen.get(name, -1) + 1
        rows.append({"problem_id": name, "sample_id": seen[name], "token_ids": ids, "finished": True})
    return rows


def pairs(path: Path, problems: Problems, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """The preference pairs, as rows of the table "pairs"; chosen is sample 0 of its problem, rejected sample 1."""
    columns = _columns(path, ("prompt", "chosen", "rejected"))
    names = [problems.of_prompt(text, f"{path}, row {i}") for i, text in enumerate(columns["prompt"])]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise records.ArtifactError(f"{path}: problem {min(twice)} has several pairs")
    sides = {
        side: prompts.encode_texts(tokenizer, [_text(t, f"{path}, row {i}", side) for i, t in enumerate(columns[side])])
        for side in ("chosen", "rejected")
    }
    return [
        {
            "problem_id": name, "chosen_id": 0, "rejected_id": 1, "chosen": chosen, "rejected": rejected,
            "chosen_finished": True, "rejected_finished": True,
        }
        for name, chosen, rejected in zip(names, sides["chosen"], sides["rejected"], strict=True)
    ]  # fmt: skip


def scores(
    path: Path, rows: Sequence[records.Row], problems: Problems, tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, Any]]:
    """Contrastive scores of the pairs' rejected answers, as rows of the table "contrast" without log-probabilities.

    The authors tokenise prompt and response together, we apart: a token of ours has the score of that of theirs which its first
    character belongs to. EOS was not scored and has 0, the weight 1 that the released cDPO gives it (train_cdpo.py:138).
    Raises ArtifactError where the scores are those of another tokenizer or of other pairs.
    """
    columns = _columns(path, ("prompt", "rejected", "prob_result"))
    found = {}
    for i, (prompt, rejected, result) in enumerate(zip(*columns.values(), strict=True)):
        where = f"{path}, row {i}"
        found[problems.of_prompt(prompt, where)] = (prompt, _text(rejected, where, "rejected"), _scored(result, where), where)
    out = []
    for row in rows:
        if row["problem_id"] not in found:
            raise records.ArtifactError(f"{path}: has no scores for the pair of problem {row['problem_id']}")
        prompt, rejected, scored, where = found[row["problem_id"]]
        if prompts.encode_texts(tokenizer, [rejected])[0] != row["rejected"]:
            raise records.ArtifactError(f"{where}: its rejected answer is not that of the pair of problem {row['problem_id']}")
        joint = tokenizer(prompt + rejected, return_offsets_mapping=True)
        ids, spans = joint["input_ids"], joint["offset_mapping"]
        if len(scored) not in (len(ids) - 1, len(ids)):
            what = f"{len(scored)} scores for {len(ids)} tokens: another tokenizer?"
            raise records.ArtifactError(f"{where}: {what}")
        # Scores begin with the second token; some of their tokenizers have no BOS, and a score in front (train_cdpo.py:134).
        of_char: dict[int, float] = {}
        for (start, end), score in zip(spans[len(ids) - len(scored) :], scored, strict=True):
            of_char.update(dict.fromkeys(range(start, end), min(float(score), 1.0)))
        own, last = [], of_char.get(len(prompt) - 1, 0.0)
        for start, end in pairwise([0, *prompts.token_ends(tokenizer, row["rejected"])]):
            # Some tokenizers count no blanks: then the token's first character that is counted.
            # One of several tokens of a character has that character's.
            span = range(len(prompt) + start, len(prompt) + max(end, start + 1))
            last = next((of_char[c] for c in span if c in of_char), last)
            own.append(last)
        out.append({
            "problem_id": row["problem_id"], "sample_id": row["rejected_id"],
            "token_ids": [*row["rejected"], tokenizer.eos_token_id],
            "positive_logps": None, "negative_logps": None, "scores": [*own, 0.0],
        })  # fmt: skip
    return out


def _scored(result: Any, where: str) -> list[float]:
    """The rejected answer's scores in a prob_result."""
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
    """Lists side by side. Raises ArtifactError where one is missing or their lengths differ."""
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
