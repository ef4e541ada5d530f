"""The paper's figures: which examples Figures 1 and 3 show, and how every figure is drawn.

A function that ends with `_figure` takes the numbers and returns a matplotlib figure. Its program
writes the same numbers to a file. `study_summaries` makes the numbers of Figures 2, 5 and 6.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from critical_tokens.core.records import ArtifactError, Row
from critical_tokens.data import prompts
from critical_tokens.reporting import canvas
from critical_tokens.reporting.canvas import panels

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The most characters of a question, of a gold answer and of a continuation.
QUESTION_LENGTH, GOLD_LENGTH, CONTINUATION_LENGTH = 290, 60, 110
# The most tokens that are labelled at an axis.
MOST_LABELS = 280
# The most different continuations of each arm that Figure 1 shows.
_MOST_CONTINUATIONS = 4


def pass_at_k_figure(curves: pd.DataFrame) -> Figure:
    """Figure 2: pass@k with the critical token kept and replaced, a panel per cell.

    curves: columns model, dataset, arm, k, trajectories, pass_at_k, low and high (shares).
    """
    models, datasets = (list(dict.fromkeys(curves[c])) for c in ("model", "dataset"))
    figure, axes = panels(len(models), len(datasets))
    labels = {"kept": "critical token kept", "replaced": "critical token replaced"}
    for row, model in enumerate(models):
        for column, dataset in enumerate(datasets):
            ax = axes[row][column]
            cell = curves[(curves["model"] == model) & (curves["dataset"] == dataset)]
            for arm, curve in cell.groupby("arm", sort=False):
                ax.plot(
                    curve["k"],
                    100 * curve["pass_at_k"],
                    color=canvas.COLOURS[arm],
                    label=labels[arm],
                    marker="o",
                    markersize=2.5,
                )
                ax.fill_between(
                    curve["k"], 100 * curve["low"], 100 * curve["high"], color=canvas.COLOURS[arm], alpha=0.15, lw=0
                )
            ax.set_xscale("log", base=2)
            ticks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= cell["k"].max()]
            ax.set_xticks(ticks, [str(k) for k in ticks])
            ax.set_ylim(-3, 103)
            canvas.grid(ax)
            n = int(cell["trajectories"].max()) if len(cell) else 0
            canvas.title(ax, f"{model}, {dataset} ({n} trajectories)")
            ax.set_xlabel("k")
            ax.set_ylabel("pass@k (%)")
    axes[0][0].legend(frameon=False, loc="center right")
    return figure


def log_probability_figure(history: pd.DataFrame) -> Figure:
    """Figure 6: log-probabilities of chosen and rejected answers over training, a panel per cell.

    history: columns model, dataset, method, step, chosen and rejected, the latter two also with
        their bounds (_low, _high), see `study_summaries.log_probability_curves`.
    """
    models, datasets = (list(dict.fromkeys(history[c])) for c in ("model", "dataset"))
    methods = list(dict.fromkeys(history["method"]))
    figure, axes = panels(len(models), len(datasets))
    colours = canvas.method_colours(methods)
    for row, model in enumerate(models):
        for column, dataset in enumerate(datasets):
            ax = axes[row][column]
            cell = history[(history["model"] == model) & (history["dataset"] == dataset)]
            for place, method in enumerate(methods):
                curve = cell[cell["method"] == method]
                # Curves that coincide stay visible, because those below are wider.
                width = 1.3 + 1.2 * (len(methods) - 1 - place)
                for side, line in (("chosen", "-"), ("rejected", "--")):
                    name = canvas.name(f"{method}, {side}")
                    ax.plot(curve["step"], curve[side], line, color=colours[method], linewidth=width, label=name)
                    band = (curve[f"{side}_low"], curve[f"{side}_high"])
                    ax.fill_between(curve["step"], *band, color=colours[method], alpha=0.12, lw=0)
            canvas.grid(ax)
            canvas.title(ax, f"{model}, {dataset}")
            ax.set_xlabel("updates")
            ax.set_ylabel("log-probability of an answer")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=max(1, len(methods)), frameon=False)
    return figure


@dataclass(frozen=True)
class Example:
    """What Figure 1 shows of one incorrect trajectory.

    question, gold: the problem and its gold answer.
    tokens: the texts of the trajectory's tokens.
    start: the rollout score of the bare prompt; None where it was not scored.
    scores: the rollout scores of the tokens; None for tokens that were not scored.
    critical, first_wrong: indices of tokens; the latter is None where it is unknown.
    branches: the most frequent continuations of the arms "kept" and "replaced", each as its text
        from the critical position on, how often it came, and whether it is correct.
    rates: the share of correct continuations, by arm.
    """

    question: str
    gold: str
    tokens: Sequence[str]
    start: float | None
    scores: Sequence[float | None]
    critical: int
    first_wrong: int | None
    branches: Mapping[str, Sequence[tuple[str, int, bool]]]
    rates: Mapping[str, float]


def clearest_fall(critical: Sequence[Row], scores: Mapping[str, Mapping[int, float]]) -> Row | None:
    """The row of the trajectory that Figure 1 shows; None where no trajectory is suitable.

    Suitable are trajectories with a critical token that met both conditions and is not their first
    token, because only these show a fall. If the first wrong token is known, trajectories that are
    lost before it are preferred ("owed" in the paper). Among those, the trajectory with the highest
    score before its critical token is chosen.

    critical: rows of the table "critical".
    scores: rollout scores by problem id and position.
    """

    def clarity(row: Row) -> tuple[bool, float, str]:
        early = row["first_wrong"] is not None and row["position"] < row["first_wrong"]
        return early, scores[row["problem_id"]][row["position"] - 1], row["problem_id"]

    return max((row for row in critical if row["position"] and not row["zero_only"]), key=clarity, default=None)


def trajectory_example(
    chosen: Row,
    problem: Row,
    pair: Row,
    scores: Mapping[int, float],
    continued: Sequence[Row],
    where: object,
    tokenizer: PreTrainedTokenizerBase,
) -> Example:
    """What Figure 1 shows of the trajectory that `clearest_fall` chose.

    chosen, problem, pair: its rows of the tables "critical", "problems" and "pairs".
    scores: its rollout scores by position; -1 is the bare prompt.
    continued: its rows of the table "replacement".
    where: the file of that table, for messages.

    Raises ArtifactError if an arm has no continuations.
    """
    position, ids = chosen["position"], pair["rejected"]
    branches, rates = {}, {}
    for arm in ("kept", "replaced"):
        rows = [row for row in continued if row["arm"] == arm]
        if not rows:
            raise ArtifactError(f"{where}: has no {arm} answers to problem {chosen['problem_id']}")
        texts = Counter((prompts.decode(tokenizer, row["answer"][position:]).strip(), row["correct"]) for row in rows)
        branches[arm] = [(text, n, correct) for (text, correct), n in texts.most_common(_MOST_CONTINUATIONS)]
        rates[arm] = sum(row["correct"] for row in rows) / len(rows)
    return Example(
        question=problem["question"],
        gold=problem["answer"],
        tokens=[prompts.decode(tokenizer, [token]) for token in ids],
        start=scores.get(-1),
        scores=[scores.get(t) for t in range(len(ids))],
        critical=position,
        first_wrong=chosen["first_wrong"],
        branches=branches,
        rates=rates,
    )


def trajectory_figure(example: Example) -> Figure:
    """Figure 1: rollout scores along one trajectory, and the continuations of both arms."""
    figure, axes = panels(2, 1, width=_token_width(example.tokens), height=2.6)
    curve, below = axes[0][0], axes[1][0]
    positions = range(len(example.tokens))
    curve.bar(positions, [100 * (s or 0.0) for s in example.scores], color="0.75", width=0.8)
    if example.start is not None:
        curve.axhline(100 * example.start, color="0.4", lw=0.8, ls=":", label="from the bare prompt")
    unscored = [t for t, score in enumerate(example.scores) if score is None]
    if unscored:
        bars = curve.bar(unscored, [111] * len(unscored), bottom=-6, width=1.0, label="not scored", color="none")
        for bar in bars:
            bar.set(edgecolor="0.85", hatch="////", linewidth=0.0)
    curve.axvline(example.critical, color=canvas.COLOURS["kept"], lw=1.5, ls="--", label="critical token")
    if example.first_wrong is not None and example.first_wrong < len(example.tokens):
        curve.plot(
            [example.first_wrong], [-4], "^", color="black", clip_on=False, label="first wrong token (exact checker)"
        )
    _label_tokens(curve, example.tokens, example.critical)
    curve.set_ylim(-6, 105)
    curve.set_ylabel("correct rollouts (%)")
    question, gold = canvas.line(example.question, QUESTION_LENGTH), canvas.line(example.gold, GOLD_LENGTH)
    canvas.title(curve, f"{question}   [gold: {gold}]", fontsize=8)
    curve.legend(frameon=False, fontsize=8)

    below.axis("off")
    y = 1.0
    for arm, title in (("kept", "critical token kept"), ("replaced", "critical token replaced")):
        text = f"{title}: {100 * example.rates[arm]:.0f} % of the continuations are correct"
        below.text(0.0, y, text, color=canvas.COLOURS[arm], fontweight="bold", va="top", transform=below.transAxes)
        y -= 0.10
        for words, count, correct in example.branches[arm]:
            line = f"{count:3d} × {'right' if correct else 'wrong'}  … {canvas.line(words, CONTINUATION_LENGTH)}"
            below.text(0.02, y, line, family="monospace", fontsize=7.5, va="top", transform=below.transAxes)
            y -= 0.085
        y -= 0.05
    return figure


def _token_width(tokens: Sequence[str]) -> float:
    """Width of a panel in inches: the labels of up to MOST_LABELS tokens do not overlap."""
    return min(max(9.0, 0.14 * len(tokens)), 0.14 * MOST_LABELS)


def _label_tokens(ax: Axes, tokens: Sequence[str], critical: int | None) -> None:
    """Label the tokens at the axis, and mark the critical one.

    Of more than MOST_LABELS tokens only every n-th has a label, the critical one among them.
    """
    step = -(-len(tokens) // MOST_LABELS)
    places = range((critical or 0) % step, len(tokens), step)
    labels = [canvas.token(tokens[place]) for place in places]
    ax.set_xticks(places, labels, rotation=90, fontsize=7, family="monospace")
    ax.set_xlim(-0.7, len(tokens) - 0.3)
    if critical is not None:
        ax.get_xticklabels()[places.index(critical)].set(color=canvas.COLOURS["kept"], fontweight="bold")


@dataclass(frozen=True)
class Illustration:
    """What Figure 3 shows of one incorrect answer.

    question: the problem.
    tokens: the texts of the answer's tokens.
    positive, negative: probabilities of the tokens under both models; empty where only the scores
        are known.
    scores: contrastive scores of the tokens.
    critical, first_wrong: indices of tokens; None where there is none or it is unknown.
    """

    question: str
    tokens: Sequence[str]
    positive: Sequence[float]
    negative: Sequence[float]
    scores: Sequence[float]
    critical: int | None
    first_wrong: int | None


def contrast_illustration(problem: Row, scored: Row, found: Row, tokenizer: PreTrainedTokenizerBase) -> Illustration:
    """What Figure 3 shows of an answer, from its rows of "problems", "contrast" and "critical"."""
    # The length in the table "critical" is without EOS.
    length = found["length"]

    def probabilities(logps: Sequence[float] | None) -> list[float]:
        # The authors' files have scores without log-probabilities.
        return [math.exp(logp) for logp in (logps or [])[:length]]

    return Illustration(
        question=problem["question"],
        tokens=[prompts.decode(tokenizer, [token]) for token in scored["token_ids"][:length]],
        positive=probabilities(scored["positive_logps"]),
        negative=probabilities(scored["negative_logps"]),
        scores=list(scored["scores"][:length]),
        critical=found["position"],
        first_wrong=found["first_wrong"],
    )


def contrast_figure(illustration: Illustration) -> Figure:
    """Figure 3: probabilities under the positive and the negative model, and contrastive scores."""
    figure, axes = panels(2, 1, width=_token_width(illustration.tokens), height=2.3)
    positions = range(len(illustration.tokens))
    above, below = axes[0][0], axes[1][0]
    sides = (("positive", illustration.positive, "rpo", "o"), ("negative", illustration.negative, "dpo", "s"))
    for name, probabilities, colour, marker in sides:
        x = range(len(probabilities))
        above.plot(x, probabilities, color=canvas.COLOURS[colour], marker=marker, markersize=3, label=f"{name} model")
    above.set_ylabel("probability of the token")
    below.bar(positions, illustration.scores, color="0.6", width=0.8)
    below.set_ylabel("contrastive score s")
    for ax in (above, below):
        if illustration.critical is not None:
            span = (illustration.critical - 0.5, illustration.critical + 0.5)
            ax.axvspan(*span, color=canvas.COLOURS["kept"], alpha=0.2, lw=0, label="critical token (rollouts)")
        if illustration.first_wrong is not None and illustration.first_wrong < len(illustration.tokens):
            ax.plot([illustration.first_wrong], [-0.05], "^", color="black", clip_on=False, label="first wrong token")
        ax.set_ylim(-0.05, 1.05)
        _label_tokens(ax, illustration.tokens, illustration.critical)
    above.legend(frameon=False, fontsize=8, ncols=2)
    canvas.title(above, canvas.line(illustration.question, QUESTION_LENGTH), fontsize=8)
    return figure


def excluded_figure(table: pd.DataFrame) -> Figure:
    """Figure 5: accuracy by cell under three conditions.

    table: columns model, dataset, condition, accuracy, low and high, in percent.
    """
    cells = list(dict.fromkeys(zip(table["model"], table["dataset"], strict=True)))
    conditions = list(dict.fromkeys(table["condition"]))
    # The figure is at least as wide as its legend.
    figure, axes = panels(1, 1, width=max(5.2, 1.6 + 1.6 * len(cells)))
    ax = axes[0][0]
    colours = ("0.6", canvas.COLOURS["kept"], canvas.COLOURS["cdpo"])
    for place, (condition, colour) in enumerate(zip(conditions, colours, strict=True)):
        bars = table[table["condition"] == condition]
        x = [i + 0.27 * (place - 1) for i in range(len(cells))]
        errors = [bars["accuracy"] - bars["low"], bars["high"] - bars["accuracy"]]
        ax.bar(
            x,
            bars["accuracy"],
            width=0.25,
            color=colour,
            label=canvas.name(condition),
            yerr=errors,
            error_kw={"lw": 0.8},
        )
    ax.set_xticks(
        range(len(cells)),
        [f"{canvas.paragraph(model, 22)}\n{canvas.paragraph(dataset, 22)}" for model, dataset in cells],
    )
    ax.set_ylabel("accuracy (%)")
    ax.set_ylim(0, 100)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure
