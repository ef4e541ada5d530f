"""The generated parts on what was replicated: Table 1, studies, kinds of errors, tests.

They are written from docs/*.csv and docs/studies/*.csv, which `docs/generate.py` copies from the
results, and from data/paper/.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import yaml

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT / "scripts"))

from critical_tokens.reporting import table1  # noqa: E402 - the library is found above


def read_table(name: str) -> pd.DataFrame:
    return pd.read_csv(DOCS / f"{name}.csv")


def read_study(name: str) -> pd.DataFrame:
    return read_table(f"studies/{name}")


def read_published(name: str) -> pd.DataFrame:
    """The paper's numbers of its ICML version."""
    table = pd.read_csv(ROOT / "data" / "paper" / f"{name}.csv")
    return table[table["version"] == "icml"]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * left + "---:|" * (len(header) - left)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def span(values: pd.Series, scale: float = 1.0, digits: int = 2) -> str:
    """The smallest and the largest of the values, or one number where they are the same."""
    low, high = (f"{scale * value:.{digits}f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def signed(value: float, low: float, high: float) -> str:
    """A gap with its interval; bold where that leaves out 0."""
    text = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def _summary(name: str) -> str:
    """A study: mean and spread of every method by cell, and the gap to the method compared with."""
    table = read_study(name)
    cells = list(dict.fromkeys(zip(table["model"], table["dataset"], strict=True)))
    rows = []
    for method, own in table.groupby("method", sort=False):
        by_cell = own.set_index(["model", "dataset"])
        row = [method]
        for cell in cells:
            if cell not in by_cell.index:
                row += ["", ""]
                continue
            r = by_cell.loc[cell]
            spread = f" ± {r['deviation']:.1f}" if r["seeds"] > 1 else ""
            row.append(f"{r['mean']:.1f}{spread}")
            row.append("" if pd.isna(r.get("gap")) else signed(r["gap"], r["gap_low"], r["gap_high"]))
        rows.append(row)
    against = table["against"].dropna().iloc[0]
    header = ["method"] + [text for model, dataset in cells for text in (f"{model}, {dataset}", f"to {against}")]
    note = (
        f"Mean accuracy (%) ± standard deviation over {int(table['seeds'].max())} training seeds; gap to `{against}` "
        "with a 95 % interval over test problems and seeds, bold where it does not contain 0."
    )
    return f"{markdown(header, rows)}\n\n{note}"


def _table1() -> str:
    """Table 1 of the default run, in the paper's layout."""
    return table1.markdown(read_table("table1"))


def _table1_over_seeds() -> str:
    return _summary("table1")


def _controls() -> str:
    return _summary("controls")


def _switches() -> str:
    return _summary("switches")


def _beta() -> str:
    """The beta sweep beside the paper's (ICML, Table 4)."""
    table = read_study("beta")
    published = read_published("beta").set_index("beta")["accuracy"]
    cells = list(dict.fromkeys(zip(table["model"], table["dataset"], strict=True)))
    sweep = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["sweeps"]["beta"]
    swept_values = {f"{sweep['method']}-{sweep['key']}{value:g}": value for value in sweep["values"]}
    rows = []
    for method, own in table.groupby("method", sort=False):
        by_cell = own.set_index(["model", "dataset"])
        value = swept_values.get(method)
        shown = [f"{by_cell.loc[cell, 'mean']:.1f} ± {by_cell.loc[cell, 'deviation']:.1f}" for cell in cells]
        rows.append(
            [
                f"{value:g}" if value is not None else method,
                *shown,
                f"{published[value]:.1f}" if value in published else "",
            ]
        )
    swept = table[table["method"].isin(swept_values)]
    between = swept.groupby(["model", "dataset"])["mean"].std()
    within = swept.groupby(["model", "dataset"])["deviation"].mean()
    seeds = int(table["seeds"].max())
    note = (
        f"Means ± standard deviation over {seeds} seeds. The standard deviation of the means between "
        f"values of beta is {span(between, 1, 1)} points; that between the seeds of one value is "
        f"{span(within, 1, 1)} points on average. That of the paper's nine numbers, with one run each, is "
        f"{published.std():.1f} points."
    )
    header = ["beta", *(f"{model}, {dataset}" for model, dataset in cells), "paper: Llama-3-8B, GSM8K"]
    return f"{markdown(header, rows)}\n\n{note}"


def _temperatures() -> str:
    """Accuracy over temperature, by method."""
    table = read_study("temperatures")
    values = sorted(table["temperature"].unique())
    rows = []
    for (model, dataset, method), own in table.groupby(["model", "dataset", "method"], sort=False):
        means = own.set_index("temperature")["mean"]
        rows.append([f"{model}, {dataset}", method, *(f"{means[v]:.1f}" for v in values)])
    for (model, method), own in read_published("temperature").groupby(["model", "method"], sort=False):
        means = own.set_index("temperature")["accuracy"]
        rows.append([f"paper: {model}, MATH-500", method, *(f"{means[v]:.1f}" for v in values)])
    return markdown(["cell", "method", *(f"T = {v:g}" for v in values)], rows, left=2)


def _kinds() -> str:
    """v3's Tables 1 and 2, of the pocket cells and of the paper."""
    own = read_table("critical_kinds")
    errors, words = read_published("error_kinds"), read_published("word_kinds")
    published = errors.merge(words, on=["model", "dataset", "error_kind"], suffixes=("", "_words"))
    columns = ["function", "content", "number", "operator", "punctuation", "before", "after"]
    rows = []
    for table, label in ((own, ""), (published, "paper: ")):
        for r in table.to_dict("records"):
            flags = [r.get(key) for key in ("contradiction", "contradiction_words")]
            mark = "*" if any(isinstance(flag, str) for flag in flags) else ""
            counts = [str(int(r[column])) for column in columns]
            rows.append(
                [
                    f"{label}{r['model']}, {r['dataset']}",
                    f"{r['error_kind']}{mark}",
                    str(int(r["n"])),
                    f"{r['differ']:.1f}",
                    *counts,
                ]
            )
    header = ["cell", "error", "n", "differ (%)", *columns]
    return markdown(header, rows, left=2) + "\n\n\\* The paper's numbers contradict one another (`data/paper/`)."


def _exclusion() -> str:
    table = read_table("fig5")
    conditions = list(dict.fromkeys(table["condition"]))
    rows = []
    for (model, dataset), own in table.groupby(["model", "dataset"], sort=False):
        by = own.set_index("condition")
        shown = [f"{r['accuracy']:.1f} [{r['low']:.1f}, {r['high']:.1f}]" for _, r in by.iterrows()]
        rows.append([f"{model}, {dataset}", *shown, f"{by['p'].min():.3f}"])
    return markdown(["cell", *conditions, "p of the exclusion (McNemar)"], rows)


def _agreement() -> str:
    """AUC of contrastive scores, and where critical tokens are, by variant: means over the cells,
    and ranges.
    """
    table = read_study("agreement")
    measures = {
        "contrast: AUC against rollouts": ("auc_contrast_rollouts", 1, 2),
        "base model: AUC against rollouts": ("auc_base_rollouts", 1, 2),
        "contrast: AUC against the truth": ("auc_contrast_truth", 1, 2),
        "base model: AUC against the truth": ("auc_base_truth", 1, 2),
        "critical token at or before the first wrong token (%)": ("critical_at_or_before_first_wrong", 100, 0),
        "critical token is the first wrong token (%)": ("critical_is_first_wrong", 100, 0),
    }
    rows = []
    for variant, own in table.groupby("variant", sort=False):
        shown = [
            f"{scale * own[column].mean():.{digits}f} ({span(own[column], scale, digits)})"
            for column, scale, digits in measures.values()
        ]
        rows.append([variant, *shown])
    note = f"Means over the cells (and their range), {int(table['answers'].max())} answers each."
    return markdown(["scores", *measures], rows) + f"\n\n{note}"


def _rule() -> str:
    """Other thresholds and fewer rollouts, averaged over the cells."""
    table = read_study("critical_rule")
    means = table.groupby(["later_below", "rollouts"], sort=False)[
        ["found", "same", "at_or_before_first_wrong", "shift"]
    ].mean()
    rows = [
        [f"{100 * later:g} %", str(rollouts), f"{100 * r['found']:.0f}", f"{100 * r['same']:.0f}",
         f"{100 * r['at_or_before_first_wrong']:.0f}", f"{r['shift']:.1f}"]
        for (later, rollouts), r in means.iterrows()
    ]  # fmt: skip
    header = [
        "later scores below",
        "rollouts",
        "found (%)",
        "same token (%)",
        "at or before the first wrong token (%)",
        "tokens before the first wrong token",
    ]
    return (
        markdown(header, rows)
        + '\n\nMeans over the cells. "Same token" compares with the paper\'s rule, 5 % and 64 rollouts.'
    )


def _significance() -> str:
    """In how many cells each method is significantly better or worse than the other."""
    table = read_table("significance")
    lines = ["| method | against the baseline | against the best other method |", "|---|---|---|"]
    for method, rows in table.groupby("method", sort=False):
        words = []
        for role in ("baseline", "best other"):
            of_role = rows[rows["role"] == role]
            sure = of_role[of_role["p_holm"] < 0.05]
            better, worse = int((sure["difference"] > 0).sum()), int((sure["difference"] < 0).sum())
            words.append(
                f"better in {better}, worse in {worse}, open in {len(of_role) - better - worse} of {len(of_role)} cells"
            )
        lines.append(f"| {method} | " + " | ".join(words) + " |")
    return "\n".join(
        [*lines, "", "Better and worse mean that p is below 0.05 after correction; open means that it is not."]
    )


def _replacement() -> str:
    """pass@k of Figure 2 by distribution of the replacements: means over the cells."""
    table = read_study("replacement")
    shown = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= table["k"].max()]
    rows = []
    for distribution, own in table.groupby("distribution", sort=False):
        means = 100 * own.groupby("k")[["mean", "deviation"]].mean()
        rows.append([distribution, *(f"{means.loc[k, 'mean']:.1f} ± {means.loc[k, 'deviation']:.1f}" for k in shown)])
    published = pd.read_csv(ROOT / "data" / "paper" / "figure2.csv").query("version == 'icml' and arm == 'replaced'")
    for dataset, own in published.groupby("dataset", sort=False):
        means = own.set_index("k")["pass_at_k"]
        rows.append([f"paper: Llama-3-8B, {dataset}", *(f"{means[k]:.1f}" for k in shown)])
    note = f"Means over the cells ± mean standard deviation over {int(table['seeds'].max())} seeds of the replacements."
    return markdown(["replacements from", *(f"pass@{k}" for k in shown)], rows) + f"\n\n{note}"


def _released() -> str:
    """Table 1 of the released code's preset."""
    return table1.markdown(read_table("table1_released"))


PARTS: dict[str, Callable[[], str]] = {
    "table1": _table1,
    "table1_over_seeds": _table1_over_seeds,
    "controls": _controls,
    "switches": _switches,
    "beta": _beta,
    "temperatures": _temperatures,
    "kinds": _kinds,
    "exclusion": _exclusion,
    "agreement": _agreement,
    "rule": _rule,
    "replacement": _replacement,
    "released": _released,
    "significance": _significance,
}
