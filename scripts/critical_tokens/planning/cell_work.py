"""The work of every rule in a cell: jobs, tokens and operations, from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from critical_tokens.workflow.selections import BASE, UNTRAINED

# Operations per token and parameter. A forward pass takes 2, and so does a backward pass through a
# base model's weights, which have no gradients. Gradient checkpointing repeats the forward pass.
FORWARD = BACKWARD = 2.0
# Tokens of a prompt, the share of max_new_tokens that an answer uses, and the probability that a
# continuation leaves a trajectory at a token.
PROMPT_TOKENS, ANSWER_SHARE, LEAVING = 150, 0.4, 0.05
# The share of problems that have correct and incorrect answers, of which pairs are made.
MIXED = 0.6
# Assumed number of problems of a dataset of unknown length.
UNKNOWN_ROWS = 10_000


@dataclass(frozen=True)
class Work:
    """The work of one rule, for one method if it has methods, in one cell.

    name: the rule, followed by the method.
    kind: sample, score or train; none for work without a model.
    jobs: the number of jobs.
    tokens: tokens that all jobs together generate, score or train on.
    read: tokens that a job that generates reads.
    operations: operations per token and parameter.
    """

    name: str
    kind: str
    jobs: int
    tokens: float
    read: float = 0.0
    operations: float = FORWARD


def cell_work(config: Mapping[str, Any], dataset: Mapping[str, Any], rows: tuple[int, int]) -> list[Work]:
    """The work of all rules in one cell.

    dataset: its entry in the registry.
    rows: the numbers of its train and test problems.
    """
    sampling, rolling = config["trajectories"], config["rollouts"]
    contrast, alignment = config["contrast"], config["alignment"]
    length = ANSWER_SHARE * dataset["max_new_tokens"]
    problems = min(rows[0], sampling["problems"] or rows[0])
    mixed = MIXED * problems
    examined = min(mixed, rolling["trajectories"] or mixed)
    # The number of tokens after a position, summed over all positions of an answer.
    behind = length * length / 2
    continued = {
        "independent": rolling["samples"] * behind,
        "coupled": rolling["samples"] * LEAVING * behind,
        "stratified": rolling["stratified"]["branches"] * LEAVING * behind,
    }[rolling["method"]]
    text = PROMPT_TOKENS + length
    drawn = examined * 2 * rolling["replacement_draws"] * length / 2
    # An answer of each such problem, and pairs, which share their prompt where they are packed.
    answers, pairs = mixed * text, mixed * (2 * text - alignment["packing"] * PROMPT_TOKENS)
    # Incorrect answers are taken from all problems, and from some of them several.
    fitted = 2 * problems * text * contrast["epochs"]
    work = [
        Work("sample", "sample", sampling["shards"], problems * sampling["samples"] * length, problems * PROMPT_TOKENS),
        Work("grade", "none", sampling["shards"], 0),
        Work("score_rollouts", "sample", rolling["shards"], examined * continued, examined * text),
        Work("replace_critical", "sample", 1, drawn, examined * text),
        Work("train_contrast", "train", 2, fitted, operations=_training(contrast)),
        Work("score_contrast", "score", 1, answers, operations=2 * FORWARD),
        Work("score_base_reference", "score", 1, pairs),
    ]
    if any(config["method_registry"][method].get("weights") == "rollouts" for method in config["methods"]):
        labelled = mixed * rolling["label_branches"] * LEAVING * behind
        work.append(Work("label_rollouts", "sample", 1, labelled, answers))
    starts = dict.fromkeys(config["method_registry"][method]["start"] for method in config["methods"])
    work += [Work(f"score_reference {start}", "score", 1, pairs) for start in starts if start != BASE]
    tested = min(rows[1], config["evaluation"]["problems"] or rows[1])
    for method in config["methods"]:
        entry = alignment | config["method_registry"][method]
        seeds = len(config["seeds"]) if entry["objective"] != UNTRAINED else 1
        asked = seeds * tested * PROMPT_TOKENS
        work.append(Work(f"evaluate_method {method}", "sample", seeds, seeds * tested * length, asked))
        if entry["objective"] != UNTRAINED:
            trained = seeds * entry["epochs"] * (answers if entry["objective"] == "nll" else pairs)
            work.append(Work(f"align {method}", "train", seeds, trained, operations=_training(entry)))
    return work


def _training(settings: Mapping[str, Any]) -> float:
    """Operations per token and parameter of training an adapter."""
    return FORWARD * (1 + settings["gradient_checkpointing"]) + BACKWARD


def work_of(config: Mapping[str, Any], dataset: str, name: str, method: str) -> Work:
    """The work called `name` in a cell.

    method: its method, which need not be selected (those of studies and of `tuning` are not).
    """
    entry = config["dataset_registry"][dataset]
    found = cell_work({**config, "methods": [method]}, entry, dataset_rows(entry))
    return next(work for work in found if work.name == name)


def dataset_rows(dataset: Mapping[str, Any]) -> tuple[int, int]:
    """The numbers of train and test problems of a dataset; UNKNOWN_ROWS where one is not known."""
    sources = (dataset.get(split, {}) for split in ("train", "test"))
    train, test = (source.get("problems") or source.get("rows") or UNKNOWN_ROWS for source in sources)
    return train, test
