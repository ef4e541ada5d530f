"""How every figure looks, how text in figures is drawn, and how figures are written to files.

Text in a figure comes from data sets, models and configs: questions in LaTeX, amounts in dollars,
tokens of any bytes. It is drawn as it is. Matplotlib never reads it as mathematics (mathtext or
TeX), and a sign replaces every character that cannot be drawn.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, StrMethodFormatter

from critical_tokens.core import records

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

STYLE: dict[RcKeyType, Any] = {
    "text.parse_math": False,
    "text.usetex": False,
    # The fonts come with matplotlib, so figures do not depend on the fonts of a machine.
    "font.family": ["DejaVu Sans"],
    "font.monospace": ["DejaVu Sans Mono"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
}
# The colours of Okabe and Ito, which remain distinct for colour-blind readers and in greyscale.
COLOURS = {"cdpo": "#0072B2", "rpo": "#009E73", "dpo": "#D55E00", "kept": "#D55E00", "replaced": "#0072B2"}
OTHER_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Replaces control characters and characters that the fonts lack.
ABSENT = "□"
# Ends a text that was cut.
CUT = "…"
# The most characters of a method's name in a legend or at an axis, and of a token at an axis.
NAME_LENGTH, TOKEN_LENGTH = 40, 20
# Characters of a title that fit on an inch, at 8 or 9 points.
PER_INCH = 14


def panels(rows: int, columns: int, width: float = 4.2, height: float = 3.0) -> tuple[Figure, list[list[Axes]]]:
    """A figure of equal panels, and its axes by row and column; sizes of a panel are in inches."""
    _settle_style()
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PDF and, beside it, as PNG; the same numbers give the same bytes."""
    # The style is set once more, because an axis makes the labels of its ticks when it is drawn.
    _settle_style()
    for suffix in (".png", ".pdf"):
        with records.replacing(path.with_suffix(suffix)) as temporary:
            metadata = {"CreationDate": None} if suffix == ".pdf" else {"Software": None}
            figure.savefig(temporary, format=suffix[1:], dpi=150, bbox_inches="tight", metadata=metadata)


def _settle_style() -> None:
    """Set matplotlib's defaults and STYLE, whatever a user's matplotlibrc says."""
    mpl.rcdefaults()
    mpl.rcParams.update(STYLE)


def grid(ax: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Draw light grid lines for both axes or for one of them."""
    ax.grid(axis=axis, color="0.9", linewidth=0.8)


def drawable(text: str) -> str:
    """The text with ABSENT in place of every character that cannot be drawn."""
    return "".join(character if ord(character) in _characters() else ABSENT for character in text)


@cache
def _characters() -> frozenset[int]:
    """Code points, without control characters, that all the fonts in use can draw."""
    families, weights = ("DejaVu Sans", "DejaVu Sans Mono"), ("normal", "bold")
    fonts = [font_manager.FontProperties(family=family, weight=weight) for family in families for weight in weights]
    maps = [
        font_manager.get_font(font_manager.findfont(font, fallback_to_default=False)).get_charmap() for font in fonts
    ]
    common = set.intersection(*(set(characters) for characters in maps))
    return frozenset(code for code in common if chr(code).isprintable())


def line(text: str, length: int) -> str:
    """The text in one line of at most `length` characters; white space becomes single blanks."""
    words = drawable(" ".join(text.split()))
    return words if len(words) <= length else words[: length - 1] + CUT


def paragraph(text: str, length: int, lines: int = 3) -> str:
    """The text in at most `lines` lines of at most `length` characters, broken between words.

    Only a word that is longer than a line is broken itself.
    """
    words = drawable(" ".join(text.split()))
    return "\n".join(textwrap.wrap(words, length, max_lines=lines, placeholder=f" {CUT}"))


def name(text: str) -> str:
    """A name for a legend or an axis, of at most NAME_LENGTH characters.

    Matplotlib shows no legend for names that are empty or begin with an underscore, so a blank is
    put in front of them.
    """
    words = line(text, NAME_LENGTH)
    return words if words and not words.startswith("_") else f" {words}"


def token(text: str) -> str:
    """A token for an axis, with visible blanks and line breaks."""
    shown = drawable(text.replace(" ", "·").replace("\n", "⏎"))
    return shown if len(shown) <= TOKEN_LENGTH else shown[: TOKEN_LENGTH - 1] + CUT


def title(ax: Axes, text: str, fontsize: float = 9) -> None:
    """Give a panel of `panels` a title as wide as the panel, cut after three lines."""
    figure, grid_spec = ax.figure, ax.get_gridspec()
    assert isinstance(figure, Figure) and grid_spec is not None  # noqa: S101 - `panels` made it so
    ax.set_title(paragraph(text, int(PER_INCH * figure.get_figwidth() / grid_spec.ncols)), fontsize=fontsize)


def logarithmic(axis: Axis) -> None:
    """Make an axis logarithmic, with plain numbers at its ticks.

    Matplotlib's own labels would be powers of ten in mathtext.
    """
    (axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale)("log")
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(LogFormatter())


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour per method; the methods of the paper's Figure 6 always have the same colours."""
    spare = cycle(OTHER_COLOURS)
    return {method: COLOURS.get(method) or next(spare) for method in methods}
