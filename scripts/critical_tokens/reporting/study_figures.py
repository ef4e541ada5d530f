"""Figures of the studies and of the benchmarks; `figures` has the figures of the paper."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from critical_tokens.reporting import canvas
from critical_tokens.reporting.canvas import panels
from critical_tokens.rollouts import critical


def study_figure(summary: pd.DataFrame, seeds: pd.DataFrame, against: str) -> Figure:
    """Accuracy by method, a panel per cell: a dot per seed, the interval, and a line at the mean.

    summary: rows of `study_summaries.summary_rows`.
    seeds: columns model, dataset, method and accuracy, a row per seed.
    against: the method that the others are compared with; it is drawn in colour.
    """
    cells = list(dict.fromkeys(zip(summary["model"], summary["dataset"], strict=True)))
    methods = list(dict.fromkeys(summary["method"]))[::-1]
    columns = min(2, len(cells))
    figure, axes = panels(-(-len(cells) // columns), columns, height=0.7 + 0.24 * len(methods))
    for place, (model, dataset) in enumerate(cells):
        ax = axes[place // columns][place % columns]
        means = summary[(summary["model"] == model) & (summary["dataset"] == dataset)].set_index("method")
        dots = seeds[(seeds["model"] == model) & (seeds["dataset"] == dataset)]
        for y, method in enumerate(methods):
            if method not in means.index:
                continue
            row, colour = means.loc[method], canvas.COLOURS["cdpo"] if method == against else "0.4"
            ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=5, alpha=0.2, solid_capstyle="butt")
            ax.plot([row["mean"]] * 2, [y - 0.32, y + 0.32], color=colour, lw=2)
            values = dots.loc[dots["method"] == method, "accuracy"]
            ax.scatter(values, [y] * len(values), color=colour, s=9, zorder=3)
        ax.axvline(means.loc[against, "mean"], color=canvas.COLOURS["cdpo"], lw=0.6, ls=":")
        ax.set_yticks(range(len(methods)), [canvas.name(method) for method in methods])
        canvas.grid(ax, "x")
        canvas.title(ax, f"{model}, {dataset}")
        ax.set_xlabel("accuracy (%)")
    for ax in axes[-1][len(cells) - columns * (len(axes) - 1) :]:
        ax.axis("off")
    return figure


def temperature_figure(table: pd.DataFrame) -> Figure:
    """Accuracy over the sampling temperature, a panel per cell and a curve per method.

    table: rows of `study_summaries.summary_rows` with a column temperature.
    """
    cells = list(dict.fromkeys(zip(table["model"], table["dataset"], strict=True)))
    colours = canvas.method_colours(list(dict.fromkeys(table["method"])))
    figure, axes = panels(1, len(cells))
    for ax, (model, dataset) in zip(axes[0], cells, strict=True):
        cell = table[(table["model"] == model) & (table["dataset"] == dataset)]
        for method, curve in cell.groupby("method", sort=False):
            ax.plot(
                curve["temperature"],
                curve["mean"],
                color=colours[method],
                marker="o",
                markersize=3,
                label=canvas.name(method),
            )
            ax.fill_between(curve["temperature"], curve["low"], curve["high"], color=colours[method], alpha=0.12, lw=0)
        canvas.grid(ax)
        ax.set_ylim(bottom=0)
        canvas.title(ax, f"{model}, {dataset}")
        ax.set_xlabel("temperature")
        ax.set_ylabel("accuracy (%)")
    axes[0][0].legend(frameon=False)
    return figure


def rule_figure(table: pd.DataFrame) -> Figure:
    """Critical tokens that are found, over the threshold and over the rollouts per token.

    table: rows of `critical.rule_rows` with columns model and dataset.
    """
    figure, axes = panels(1, 2)
    most = table["rollouts"].max()
    sides = (
        ("later_below", table[table["rollouts"] == most], "later scores below (%)", 100),
        ("rollouts", table[table["later_below"] == critical.LATER_BELOW], "rollouts per token", 1),
    )
    cells = list(dict.fromkeys(zip(table["model"], table["dataset"], strict=True)))
    for ax, (column, rows, label, scale) in zip(axes[0], sides, strict=True):
        for place, (model, dataset) in enumerate(cells):
            style: dict[str, Any] = {
                "color": mpl.colormaps["viridis"](place / max(1, len(cells))),
                "marker": "o",
                "markersize": 3,
            }
            curve = rows[(rows["model"] == model) & (rows["dataset"] == dataset)].sort_values(column)
            ax.plot(scale * curve[column], 100 * curve["found"], label=canvas.name(f"{model}, {dataset}"), **style)
            ax.plot(scale * curve[column], 100 * curve["same"], ls="--", **style)
        ax.set(xlabel=label, ylabel="answers (%)", ylim=(-3, 103))
        canvas.grid(ax)
    axes[0][1].set_xscale("log", base=2)
    sizes = sorted(table["rollouts"].unique())
    axes[0][1].set_xticks(sizes, [str(size) for size in sizes])
    axes[0][0].legend(
        frameon=False, title="found (dashed: the same token)", title_fontsize=8, fontsize=8, loc="lower right"
    )
    return figure


def error_figure(errors: pd.DataFrame) -> Figure:
    """Squared error of rollout scores over the tokens that they take.

    errors: columns method, tokens (per trajectory) and squared_error (mean over scores).
    """
    figure, axes = panels(1, 1)
    ax = axes[0][0]
    for colour, (method, curve) in zip(canvas.OTHER_COLOURS, errors.groupby("method", sort=False), strict=False):
        ax.plot(
            curve["tokens"], curve["squared_error"], color=colour, marker="o", markersize=3, label=canvas.name(method)
        )
    canvas.logarithmic(ax.xaxis)
    canvas.logarithmic(ax.yaxis)
    ax.set(xlabel="tokens per trajectory", ylabel="mean squared error of a score")
    canvas.grid(ax)
    ax.legend(frameon=False)
    return figure


def growth_figure(costs: pd.DataFrame) -> Figure:
    """Tokens that coupled scores take, over the expected number of rollouts that leave.

    costs: a row per trajectory, with these columns:
    length: number of tokens of the trajectory.
    leaving: sum of 1 - q over its tokens, where q is the probability of the trajectory's own token.
    tokens: generated tokens.
    """
    figure, axes = panels(1, 1)
    ax = axes[0][0]
    points = ax.scatter(costs["leaving"], costs["tokens"], c=costs["length"], s=14, cmap="viridis")
    ax.set(xlabel="sum of 1 - q over the trajectory", ylabel="tokens generated")
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    canvas.grid(ax)
    figure.colorbar(points, label="tokens of the trajectory")
    return figure
