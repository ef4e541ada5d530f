"""Figures are drawn whatever text they contain, and text is never read as mathematics."""

import inspect
import warnings

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.text import Text

from critical_tokens.reporting import canvas, figures, study_figures

# What questions, answers, tokens and names of the wild look like; most of it is no valid mathtext.
NASTY = {
    "two amounts": "A pen is $3 and a book is $5. How much is 2^10 of them?",
    "matrix": r"Find $\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$.",
    "relation": r"For which $x$ is $x \le 3$ and $\dfrac{1}{x} \ge \boxed{2}$?",
    "display": r"$$x$$ and $$\frac{1}{$$",
    "unclosed": r"cost: $\notacommand{",
    "program": r"\input{/etc/passwd} $\write18{x}$ %",
    "names": r"__my_$\le$_model_$5__",
    "control": "a\x00b\x07c\x1b[31md\ttab\r\nline\x7f",
    "scripts": "价格 😀 עברית العربية \u200b\u202e é ∑ ½ \ufeff",
    "long": "x" * 5000,
    "many lines": "line\n" * 200,
    "empty": "",
}


def trajectory(text, length=3):
    branch = [(text, 3, False), (f"{text} {text}", 1, True)]
    tokens = [text, "\n", *(f" {i}" for i in range(length - 2))]
    branches = {"kept": branch, "replaced": branch[::-1]}
    scores = [0.5, *[0.0] * (length - 1)]
    return figures.trajectory_figure(
        figures.Example(text, text, tokens, 0.5, scores, 1, 2, branches, {"kept": 0.0, "replaced": 1.0})
    )


def test_tokens_without_a_score_are_not_drawn_as_a_score_of_0():
    def labels(scores):
        branches = {"kept": [("a", 1, False)], "replaced": [("b", 1, True)]}
        example = figures.Example(
            "q", "1", ["a", "b", "c"], None, scores, 1, None, branches, {"kept": 0, "replaced": 1}
        )
        return figures.trajectory_figure(example).axes[0].get_legend_handles_labels()[1]

    assert "not scored" in labels([None, 0.0, 0.0])
    assert "not scored" not in labels([0.5, 0.0, 0.0])
    assert "critical token" in labels([0.5, 0.0, 0.0])


def contrast(text, length=3):
    tokens, likely = [text, "\n", *(f" {i}" for i in range(length - 2))], [0.5] * length
    return figures.contrast_figure(figures.Illustration(text, tokens, likely, [], likely, 1, None))


def cells(text, **columns):
    """A table of two cells whose names are the text."""
    table = pd.DataFrame(columns)
    return pd.concat([table.assign(model=text, dataset=f"{text} {place}") for place in (1, 2)], ignore_index=True)


def study(text):
    methods = {"method": [text, "dpo"]}
    summary = cells(text, **methods, mean=[50.0, 60.0], low=[40.0, 50.0], high=[60.0, 70.0])
    return study_figures.study_figure(summary, cells(text, **methods, accuracy=[50.0, 60.0]), "dpo")


def log_probabilities(text):
    sides = {f"{side}{end}": [-3.0, -2.0] for side in ("chosen", "rejected") for end in ("", "_low", "_high")}
    return figures.log_probability_figure(cells(text, method=[text, text], step=[1, 2], **sides))


INTERVAL = {"low": [40.0, 40.0, 40.0], "high": [60.0, 60.0, 60.0]}
DRAWN = {
    "trajectory_figure": trajectory,
    "contrast_figure": contrast,
    "study_figure": study,
    "log_probability_figure": log_probabilities,
    "temperature_figure": lambda text: study_figures.temperature_figure(
        cells(text, method=[text] * 3, temperature=[0, 0.5, 1], mean=[50.0] * 3, **INTERVAL)
    ),
    "rule_figure": lambda text: study_figures.rule_figure(
        cells(text, later_below=[0.05, 0.05, 0.1], rollouts=[32, 64, 64], found=[0.5] * 3, same=[0.4] * 3)
    ),
    "pass_at_k_figure": lambda text: figures.pass_at_k_figure(
        cells(
            text,
            arm=["kept"] * 2,
            k=[1, 64],
            pass_at_k=[0.1, 0.2],
            low=[0.0] * 2,
            high=[0.3] * 2,
            trajectories=[30] * 2,
        )
    ),
    "excluded_figure": lambda text: figures.excluded_figure(
        cells(text, condition=["with", "without", text], accuracy=[50.0] * 3, **INTERVAL)
    ),
    "error_figure": lambda text: study_figures.error_figure(
        pd.DataFrame({"method": [text] * 3, "tokens": [70.0, 900.0, 15000.0], "squared_error": [0.1, 0.01, 0.0005]})
    ),
    "growth_figure": lambda text: study_figures.growth_figure(
        pd.DataFrame({"leaving": [1.0], "tokens": [9.0], "length": [25]})
    ),
}


def test_every_figure_is_drawn_here():
    functions = {
        name
        for module in (figures, study_figures)
        for name, _ in inspect.getmembers(module, inspect.isfunction)
        if name.endswith("_figure")
    }
    assert functions == set(DRAWN)


@pytest.fixture
def strict():
    """A warning is an error, and matplotlib's own setting is to read mathematics."""
    with mpl.rc_context({"text.parse_math": True}), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN.keys())
def test_every_figure_is_written_whatever_its_text_is(draw, strict, tmp_path):
    """As PDF and PNG, of usual size, and every piece of text as it stands."""
    figure = draw(NASTY["names"])
    canvas.save(figure, tmp_path / "figure.pdf")
    pieces = figure.findobj(Text)
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert len(pieces) > 5
    assert not any(piece.get_parse_math() or piece.get_usetex() for piece in pieces)
    assert not any("mathdefault" in piece.get_text() for piece in pieces)
    width, height = png_size(tmp_path / "figure.png")
    assert width <= 150 * 16
    assert height <= 150 * 9


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
@pytest.mark.parametrize("draw", [trajectory, contrast])
def test_questions_and_answers_of_any_text_are_drawn(draw, text, strict):
    figure = draw(text)
    figure.draw_without_rendering()  # lays out every piece of text, which is where mathtext would be read
    box = figure.get_tightbbox()
    assert box.width < 16
    assert box.height < 9


def png_size(path):
    header = path.read_bytes()[16:24]
    return int.from_bytes(header[:4]), int.from_bytes(header[4:])


def test_what_cannot_be_drawn_has_a_sign():
    assert canvas.drawable("a\x00b中c\u202e") == "a□b□c□"
    assert canvas.drawable("é ≤ π × …") == "é ≤ π × …"
    assert canvas.line("one\n\n two\tthree", 9) == "one two …"
    assert canvas.token(" \n$x$") == "·⏎$x$"
    assert len(canvas.token("ab" * 100)) == canvas.TOKEN_LENGTH
    assert canvas.paragraph("word " * 100, 20, lines=2).count("\n") == 1
    assert all(len(row) <= 20 for row in canvas.paragraph("x" * 500, 20).split("\n"))


def test_legends_list_names_that_begin_with_an_underscore():
    axes = log_probabilities("_mine").axes[0]
    assert [label.strip() for label in axes.get_legend_handles_labels()[1]] == ["_mine, chosen", "_mine, rejected"]


def test_titles_show_the_question_as_it_is():
    question = "A pen is $3 and a book is $5."
    assert trajectory(question).axes[0].get_title().startswith(question)
    assert contrast(question).axes[0].get_title() == question


def test_a_log_axis_has_plain_numbers():
    figure = DRAWN["error_figure"]("coupled")
    figure.draw_without_rendering()
    across, up = (
        {label.get_text() for label in axis.get_ticklabels()} for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis)
    )
    assert {"100", "1000", "10000"} <= across
    assert {"0.1", "0.01", "0.001"} <= up


@pytest.mark.parametrize("draw", [trajectory, contrast])
def test_a_long_answer_stays_on_the_page_and_its_critical_token_marked(draw, tmp_path):
    figure = draw("So", length=300)
    canvas.save(figure, tmp_path / "figure.pdf")
    assert png_size(tmp_path / "figure.png")[0] < 150 * 45
    labels = figure.axes[0].get_xticklabels()
    assert len(labels) <= figures.MOST_LABELS
    assert [label.get_text() for label in labels if label.get_fontweight() == "bold"] == ["⏎"]


def test_figures_do_not_depend_on_a_users_settings(tmp_path):
    canvas.save(trajectory("So"), tmp_path / "plain.pdf")
    with mpl.rc_context({"text.usetex": True, "font.size": 30, "font.family": "serif", "backend": "agg"}):
        canvas.save(trajectory("So"), tmp_path / "own.pdf")
    assert (tmp_path / "plain.pdf").read_bytes() == (tmp_path / "own.pdf").read_bytes()
