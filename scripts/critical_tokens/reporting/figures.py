"""Figures: data frames in, matplotlib figures out. Every figure's numbers are written beside the
tables by its program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from critical_tokens.reporting import canvas
from critical_tokens.reporting.canvas import GRID, panels

QUESTION_LENGTH, GOLD_LENGTH, CONTINUATION_LENGTH = 290, 60, 110  # characters
MOST_LABELS = 280  # tokens labelled at an axis


def pass_at_k_figure(curves: pd.DataFrame) -> Figure:
    """Figure 2: pass@k with the critical token kept and replaced; columns model, dataset, arm, k,
    pass_at_k, low, high, n.
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
            ax.grid(**GRID)
            n = int(cell["trajectories"].max()) if len(cell) else 0
            canvas.title(ax, f"{model}, {dataset} ({n} trajectories)")
            ax.set_xlabel("k")
            ax.set_ylabel("pass@k (%)")
    axes[0][0].legend(frameon=False, loc="center right")
    return figure


def log_probability_figure(history: pd.DataFrame) -> Figure:
    """Figure 6: log-probabilities of chosen and rejected answers over training; columns model,
    dataset, method, step, …
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
                width = 1.3 + 1.2 * (len(methods) - 1 - place)  # curves that coincide stay visible under one another
                for side, line in (("chosen", "-"), ("rejected", "--")):
                    style = {"color": colours[method], "linewidth": width, "label": canvas.name(f"{method}, {side}")}
                    ax.plot(curve["step"], curve[side], line, **style)
                    band = (curve[f"{side}_low"], curve[f"{side}_high"])
                    ax.fill_between(curve["step"], *band, color=colours[method], alpha=0.12, lw=0)
            ax.grid(**GRID)
            canvas.title(ax, f"{model}, {dataset}")
            ax.set_xlabel("updates")
            ax.set_ylabel("log-probability of an answer")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=max(1, len(methods)), frameon=False)
    return figure


@dataclass(frozen=True)
class Example:
    """What Figure 1 draws: a trajectory's tokens, their scores, its critical token and samples of
    both branches.

    scores[t] belongs to tokens[t], `start` to the bare prompt (None: not scored). A branch is (text
    after the critical position, how many of its continuations, correct).
    """

    question: str
    gold: str
    tokens: Sequence[str]
    start: float | None
    scores: Sequence[float | None]
    critical: int
    first_wrong: int | None
    branches: dict[str, Sequence[tuple[str, int, bool]]]
    rates: dict[str, float]


def trajectory_figure(example: Example) -> Figure:
    """Figure 1: rollout scores along one incorrect trajectory, and what follows with and without
    its critical token.
    """
    figure, axes = panels(2, 1, width=_token_width(example.tokens), height=2.6)
    curve, below = axes[0][0], axes[1][0]
    positions = range(len(example.tokens))
    curve.bar(positions, [100 * (s or 0.0) for s in example.scores], color="0.75", width=0.8)
    if example.start is not None:
        curve.axhline(100 * example.start, color="0.4", lw=0.8, ls=":", label="from the bare prompt")
    curve.bar([example.critical], [103], color=canvas.COLOURS["kept"], alpha=0.25, width=1.0, label="critical token")
    if example.first_wrong is not None and example.first_wrong < len(example.tokens):
        curve.plot(
            [example.first_wrong], [-4], "^", color="black", clip_on=False, label="first wrong token (exact checker)"
        )
    _label_tokens(curve, example.tokens, example.critical)
    curve.set_ylim(-6, 105)
    curve.set_ylabel("correct rollouts (%)")
    canvas.title(
        curve, f"{canvas.line(example.question, QUESTION_LENGTH)}   [gold: {canvas.line(example.gold, 60)}]", fontsize=8
    )
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
    """Inches of a panel in which the labels of the tokens do not touch one another, as far as a
    page can be wide.
    """
    return min(max(9.0, 0.14 * len(tokens)), 0.14 * MOST_LABELS)


def _label_tokens(ax: Axes, tokens: Sequence[str], critical: int | None) -> None:
    """Every token at the axis, the critical one marked; of a very long answer every n-th, the
    critical one among them.
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
    """What Figure 3 draws: an incorrect answer's tokens, their probabilities under both models (if
    known), and their scores.
    """

    question: str
    tokens: Sequence[str]
    positive: Sequence[float]
    negative: Sequence[float]
    scores: Sequence[float]
    critical: int | None
    first_wrong: int | None


def contrast_figure(illustration: Illustration) -> Figure:
    """Figure 3: likelihoods of the positive and the negative model along an incorrect answer, and
    the contrastive scores.
    """
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
            ax.axvspan(illustration.critical - 0.5, illustration.critical + 0.5, color=canvas.COLOURS["kept"], alpha=0.2, lw=0,
                       label="critical token (rollouts)")  # fmt: skip
        if illustration.first_wrong is not None and illustration.first_wrong < len(illustration.tokens):
            ax.plot([illustration.first_wrong], [-0.05], "^", color="black", clip_on=False, label="first wrong token")
        ax.set_ylim(-0.05, 1.05)
        _label_tokens(ax, illustration.tokens, illustration.critical)
    above.legend(frameon=False, fontsize=8, ncols=2)
    canvas.title(above, canvas.line(illustration.question, QUESTION_LENGTH), fontsize=8)
    return figure


def excluded_figure(table: pd.DataFrame) -> Figure:
    """Figure 5: accuracy by condition and cell, with intervals; columns model, dataset, condition,
    accuracy, low, high.
    """
    cells = list(dict.fromkeys(zip(table["model"], table["dataset"], strict=True)))
    conditions = list(dict.fromkeys(table["condition"]))
    figure, axes = panels(1, 1, width=max(5.2, 1.6 + 1.6 * len(cells)))  # at least as wide as the legend
    ax = axes[0][0]
    for place, (condition, colour) in enumerate(
        zip(conditions, ("0.6", canvas.COLOURS["kept"], canvas.COLOURS["cdpo"]), strict=True)
    ):
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
