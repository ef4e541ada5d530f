"""The look of every figure, what its text may do, and how it is written.

Text in a figure comes from data sets, models and configs: questions in LaTeX, amounts in dollars,
tokens of any bytes. It is drawn as it stands. Matplotlib never reads it as mathematics (mathtext or
TeX), and a character that cannot be drawn has a sign in its place.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, StrMethodFormatter

from critical_tokens.core import records

STYLE = {
    "text.parse_math": False,
    "text.usetex": False,
    "font.family": ["DejaVu Sans"],  # ships with matplotlib, so figures do not depend on the fonts of a machine
    "font.monospace": ["DejaVu Sans Mono"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
}
# Okabe and Ito's colours, which survive colour blindness and greyscale.
COLOURS = {"cdpo": "#0072B2", "rpo": "#009E73", "dpo": "#D55E00", "kept": "#D55E00", "replaced": "#0072B2"}
OTHER_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")
GRID = {"color": "0.9", "linewidth": 0.8}
ABSENT = "□"  # for control characters and for characters that the fonts lack
CUT = "…"
NAME_LENGTH = 40  # characters of a method's name in a legend or at an axis
TOKEN_LENGTH = 20  # characters of a token at an axis
PER_INCH = 14  # characters of a title, at 8 or 9 points


def panels(rows: int, columns: int, width: float = 4.2, height: float = 3.0) -> tuple[Figure, list[list[Axes]]]:
    """A figure of equal panels, `width` and `height` in inches."""
    _settle_style()
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PDF and, beside it, as PNG; the same numbers give the same bytes."""
    _settle_style()  # an axis makes the text of its ticks when it is drawn
    for suffix in (".png", ".pdf"):
        with records.replacing(path.with_suffix(suffix)) as temporary:
            metadata = {"CreationDate": None} if suffix == ".pdf" else {"Software": None}
            figure.savefig(temporary, format=suffix[1:], dpi=150, bbox_inches="tight", metadata=metadata)


def _settle_style() -> None:
    """Matplotlib's defaults and STYLE, whatever a user's matplotlibrc says."""
    mpl.rcdefaults()
    mpl.rcParams.update(STYLE)


def drawable(text: str) -> str:
    """The text with a sign in place of every character that cannot be drawn."""
    return "".join(character if ord(character) in _characters() else ABSENT for character in text)


@cache
def _characters() -> frozenset[int]:
    """Code points that every font in use has, without control characters."""
    families, weights = ("DejaVu Sans", "DejaVu Sans Mono"), ("normal", "bold")
    fonts = [font_manager.FontProperties(family=family, weight=weight) for family in families for weight in weights]
    maps = [
        font_manager.get_font(font_manager.findfont(font, fallback_to_default=False)).get_charmap() for font in fonts
    ]
    common = set.intersection(*(set(characters) for characters in maps))
    return frozenset(code for code in common if chr(code).isprintable())


def line(text: str, length: int) -> str:
    """The text in one line of at most `length` characters, runs of blanks and line breaks as one
    blank.
    """
    words = drawable(" ".join(text.split()))
    return words if len(words) <= length else words[: length - 1] + CUT


def paragraph(text: str, length: int, lines: int = 3) -> str:
    """The text in at most `lines` lines of at most `length` characters, broken between words where
    that can be.
    """
    words = drawable(" ".join(text.split()))
    return "\n".join(textwrap.wrap(words, length, max_lines=lines, placeholder=f" {CUT}"))


def name(text: str) -> str:
    """A name for a legend or an axis. Matplotlib leaves names that are empty or begin with an
    underscore out of legends.
    """
    words = line(text, NAME_LENGTH)
    return words if words and not words.startswith("_") else f" {words}"


def token(text: str) -> str:
    """A token for an axis, its blanks and line breaks visible."""
    shown = drawable(text.replace(" ", "·").replace("\n", "⏎"))
    return shown if len(shown) <= TOKEN_LENGTH else shown[: TOKEN_LENGTH - 1] + CUT


def title(ax: Axes, text: str, fontsize: float = 9) -> None:
    """A title as wide as the figure's share for the panel, cut after three lines."""
    figure = ax.get_figure()
    columns = ax.get_gridspec().ncols
    ax.set_title(paragraph(text, int(PER_INCH * figure.get_figwidth() / columns)), fontsize=fontsize)


def logarithmic(axis: Axis) -> None:
    """A logarithmic axis with plain numbers at its ticks; matplotlib's own are powers in mathtext."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(LogFormatter())


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour per method, the same one in every figure for those of the paper's Figure 6."""
    spare = cycle(OTHER_COLOURS)
    return {method: COLOURS.get(method) or next(spare) for method in methods}
