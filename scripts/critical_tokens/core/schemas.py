"""The columns of every kind of table, and those that identify a row.

Ids have the same meaning in all tables:
problem_id: a problem of a dataset.
sample_id: one of the sampled answers to a problem.
position: the index of a token in an answer.
"""

from __future__ import annotations

import pyarrow as pa

_IDS = pa.list_(pa.int32())
_NUMBERS = pa.list_(pa.float32())

# Columns that are never null, in whichever table they occur.
_REQUIRED = frozenset((
    "problem_id", "sample_id", "question", "text", "token_ids", "finished", "score", "scores",
    "chosen_id", "rejected_id", "chosen", "rejected", "chosen_finished", "rejected_finished",
))  # fmt: skip


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, type_, nullable=name not in _REQUIRED) for name, type_ in columns.items()])


SCHEMAS: dict[str, pa.Schema] = {
    # answer, solution: the gold answer; a worked solution, or null.
    # The other columns are null unless the problem was generated:
    # world, signature: the pocket world, and a name of the content (see pocket.problems).
    # language: the correct solutions as JSON (see pocket.language).
    # trap, trap_rate: the phrasing that is often misread, and how often (0..1).
    "problems": _schema(
        problem_id=pa.string(), question=pa.string(), answer=pa.string(), solution=pa.string(),
        world=pa.string(), signature=pa.string(), language=pa.string(), trap=pa.string(), trap_rate=pa.float32(),
    ),
    # finished: the model ended the answer itself (EOS). EOS is not among the token ids.
    "trajectories": _schema(
        problem_id=pa.string(), sample_id=pa.int32(), token_ids=_IDS, text=pa.string(), finished=pa.bool_(),
    ),
    # answer: the answer that was extracted from the text; null where none was found.
    # correct: the verdict of the grader that labels the data.
    # released, math_verify: the verdicts of the two graders; math_verify is null at a limit.
    "grades": _schema(
        problem_id=pa.string(), sample_id=pa.int32(), answer=pa.string(), correct=pa.bool_(), released=pa.bool_(),
        math_verify=pa.bool_(),
    ),
    # As in "trajectories", for the positive or the negative set.
    "answers": _schema(problem_id=pa.string(), sample_id=pa.int32(), token_ids=_IDS, finished=pa.bool_()),
    # chosen_id, rejected_id: the sample ids of the two answers; chosen, rejected: their token ids.
    # chosen_finished, rejected_finished: as `finished` in "trajectories".
    "pairs": _schema(
        problem_id=pa.string(), chosen_id=pa.int32(), rejected_id=pa.int32(),
        chosen=_IDS, rejected=_IDS, chosen_finished=pa.bool_(), rejected_finished=pa.bool_(),
    ),
    # position: t stands for the prefix that ends with answer token t, -1 for the bare prompt.
    # n, correct: how many continuations were counted, and how many of them are correct.
    # score, standard_error: the success rate of the prefix (0..1), see rollouts.scores.Score.
    "rollouts": _schema(
        problem_id=pa.string(), sample_id=pa.int32(), position=pa.int32(), n=pa.int32(), correct=pa.int32(),
        score=pa.float32(), standard_error=pa.float32(),
    ),
    # position, token_id: the critical token; null where the answer has none.
    # length: the number of tokens of the answer, without EOS.
    # zero_only: only the first condition of a critical token is met (see rollouts.critical).
    # first_wrong, error_kind: position and kind of the first error, or null where it is not known.
    "critical": _schema(
        problem_id=pa.string(), sample_id=pa.int32(), position=pa.int32(), token_id=pa.int32(), length=pa.int32(),
        zero_only=pa.bool_(), first_wrong=pa.int32(), error_kind=pa.string(),
    ),
    # arm: the token is "kept", "replaced" (another one is sampled) or "excluded" (from decoding).
    # draw: the number of the continuation within its arm.
    # token_id: the token at the critical position.
    # answer: the token ids of the whole answer, with those before the critical position.
    "replacement": _schema(
        problem_id=pa.string(), sample_id=pa.int32(), arm=pa.string(), draw=pa.int32(), token_id=pa.int32(),
        answer=_IDS, correct=pa.bool_(),
    ),
    # token_ids: the rejected answer of the problem's pair, with EOS at its end if it was finished.
    # positive_logps, negative_logps: log-probability of each token under the two models (nats).
    # scores: the contrastive score of each token.
    "contrast": _schema(
        problem_id=pa.string(), sample_id=pa.int32(), token_ids=_IDS,
        positive_logps=_NUMBERS, negative_logps=_NUMBERS, scores=_NUMBERS,
    ),
    # Log-probability of each token of a pair's answers under the reference model (nats).
    "reference": _schema(problem_id=pa.string(), chosen_logps=_NUMBERS, rejected_logps=_NUMBERS),
}  # fmt: skip

_SAMPLE = ("problem_id", "sample_id")
# The columns that identify a row: no two rows of a table have the same values in all of them.
KEYS = {
    "trajectories": _SAMPLE, "grades": _SAMPLE, "answers": _SAMPLE, "rollouts": (*_SAMPLE, "position"),
    "replacement": (*_SAMPLE, "arm", "draw"),
    **dict.fromkeys(("problems", "pairs", "critical", "contrast", "reference"), ("problem_id",)),
}  # fmt: skip
