"""The generated parts of docs/replication.md: claims, studies, kinds of errors, tests, from
results/ and data/paper/.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def _study(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(root / "results" / "studies" / f"{name}.csv")


def _published(root: Path, name: str) -> pd.DataFrame:
    """The paper's numbers of its last version that has them."""
    table = pd.read_csv(root / "data" / "paper" / f"{name}.csv")
    return table[table["version"] == "icml"]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * left + "---:|" * (len(header) - left)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _span(values: pd.Series, scale: float = 1.0, digits: int = 2) -> str:
    if len(values) == 1:
        return f"{scale * values.iloc[0]:.{digits}f}"
    return f"{scale * values.min():.{digits}f} to {scale * values.max():.{digits}f}"


def _signed(value: float, low: float, high: float) -> str:
    """A gap with its interval; bold where that leaves out 0."""
    text = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def _claims(root: Path) -> str:
    """The paper's claims beside what the pocket world shows."""
    results = root / "results"
    curves = pd.read_csv(results / "fig2.csv").set_index(["arm", "k"])["pass_at_k"]
    agreement = pd.read_csv(results / "agreement.csv")
    kinds = pd.read_csv(results / "critical_kinds.csv")
    differ = kinds[kinds["error_kind"] == "total"]["differ"]
    study = _study(root, "table1").set_index(["model", "dataset", "method"])
    hot = _study(root, "temperatures")
    fifth = pd.read_csv(results / "fig5.csv").set_index(["model", "dataset", "condition"])["accuracy"].unstack()
    kept, replaced = (100 * curves[arm, 64] for arm in ("kept", "replaced"))

    def against(other: str) -> str:
        """How often cDPO is ahead, with the gap's interval on one side of 0; the study's gaps are
        the others' to cDPO.
        """
        rows = study.xs(other, level="method")
        ahead, behind = int((rows["gap_high"] < 0).sum()), int((rows["gap_low"] > 0).sum())
        gaps = _span(-rows["gap"], 1, 1)
        cells = f"ahead in {ahead}, behind in {behind}, open in {len(rows) - ahead - behind} of {len(rows)} cells"
        return f"gap {gaps} points; {cells}"

    def at(method: str, temperature: float) -> pd.Series:
        return hot[(hot["method"] == method) & (hot["temperature"] == temperature)].set_index(["model", "dataset"])[
            "mean"
        ]

    def lost(method: str) -> str:
        return _span(at(method, 0) - at(method, 1.5), 1, 1)

    rollouts, truth = (
        f"{_span(agreement[f'auc_contrast_{label}'])} (intervals from {agreement[f'auc_contrast_{label}_low'].min():.2f} to "
        f"{agreement[f'auc_contrast_{label}_high'].max():.2f})"
        for label in ("rollouts", "truth")
    )
    before, very = (_span(agreement[f"critical_{where}_first_wrong"], 100, 0) for where in ("at_or_before", "is"))
    gain = fifth["critical tokens excluded"] - fifth["with critical tokens"]
    rows = [
        ("after a critical token rollouts fail", f"pass@64 with the token kept: {_span(kept, 1, 0)} %"),
        ("another token in its place saves the answer", f"pass@64 with the token replaced: {_span(replaced, 1, 0)} %"),
        (
            "a critical token is often not the first error (v3: 65 % GSM8K, 87 % MATH)",
            f"another in {_span(differ, 1, 0)} %; at or before the first wrong token in {before} %, the very token in {very} %",
        ),
        (
            "contrastive estimation finds the rollouts' critical tokens (ICML: AUC 0.77 GSM8K, 0.84 MATH)",
            f"AUC {rollouts}; against the planted first wrong token {truth}; but the base model's own probability of a token "
            f"alone has {_span(agreement['auc_base_rollouts'])} and {_span(agreement['auc_base_truth'])}",
        ),
        (
            "answers are better without the tokens that contrastive estimation finds (v2's Figure 5)",
            f"{_span(gain, 1, 1)} points of accuracy for the base model",
        ),
        ("cDPO is better than the baseline", against("baseline")),
        ("cDPO is better than SFT", against("sft")),
        ("cDPO is better than DPO from the base model", against("dpo")),
        ("cDPO is better than RPO", against("rpo")),
        (
            "cDPO keeps its accuracy at high temperatures (ICML, Table 5)",
            f"points lost from temperature 0 to 1.5: baseline {lost('baseline')}, cDPO {lost('cdpo')}, SFT {lost('sft')}, "
            f"DPO {lost('dpo')}, RPO {lost('rpo')}",
        ),
    ]
    return _markdown(("claim", "pocket world"), rows, left=2)


def _summary(root: Path, name: str) -> str:
    """A study: mean and spread of every method by cell, and the gap to the method compared with."""
    table = _study(root, name)
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
            row.append("" if pd.isna(r.get("gap")) else _signed(r["gap"], r["gap_low"], r["gap_high"]))
        rows.append(row)
    against = table["against"].dropna().iloc[0]
    header = ["method"] + [text for model, dataset in cells for text in (f"{model}, {dataset}", f"to {against}")]
    note = (
        f"Mean accuracy (%) ± standard deviation over {int(table['seeds'].max())} training seeds; gap to `{against}` with a "
        "95 % interval over test problems and seeds, bold where it leaves out 0."
    )
    return f"{_markdown(header, rows)}\n\n{note}"


def _table1(root: Path) -> str:
    return _summary(root, "table1")


def _controls(root: Path) -> str:
    return _summary(root, "controls")


def _switches(root: Path) -> str:
    return _summary(root, "switches")


def _beta(root: Path) -> str:
    """The beta sweep beside the paper's (ICML, Table 4)."""
    table = _study(root, "beta")
    published = _published(root, "beta").set_index("beta")["accuracy"]
    cells = list(dict.fromkeys(zip(table["model"], table["dataset"], strict=True)))
    rows = []
    for method, own in table.groupby("method", sort=False):
        by_cell = own.set_index(["model", "dataset"])
        value = float(method.rsplit("beta", 1)[1]) if "beta" in method else None
        shown = [f"{by_cell.loc[cell, 'mean']:.1f} ± {by_cell.loc[cell, 'deviation']:.1f}" for cell in cells]
        rows.append(
            [
                f"{value:g}" if value is not None else method,
                *shown,
                f"{published[value]:.1f}" if value in published else "",
            ]
        )
    swept = table[table["method"].str.contains("beta")]
    between = swept.groupby(["model", "dataset"])["mean"].std()
    within = swept.groupby(["model", "dataset"])["deviation"].mean()
    seeds = int(table["seeds"].max())
    note = (
        f"Means ± standard deviation over {seeds} seeds. Between the values of beta the means have a standard deviation of "
        f"{_span(between, 1, 1)} points, between seeds of one value it is {_span(within, 1, 1)} on average; the paper's nine "
        f"numbers, one run each, have {published.std():.1f}."
    )
    header = ["beta", *(f"{model}, {dataset}" for model, dataset in cells), "paper: Llama-3-8B, GSM8K"]
    return f"{_markdown(header, rows)}\n\n{note}"


def _temperatures(root: Path) -> str:
    """Accuracy over temperature, by method."""
    table = _study(root, "temperatures")
    values = sorted(table["temperature"].unique())
    rows = []
    for (model, dataset, method), own in table.groupby(["model", "dataset", "method"], sort=False):
        means = own.set_index("temperature")["mean"]
        rows.append([f"{model}, {dataset}", method, *(f"{means[v]:.1f}" for v in values)])
    for (model, method), own in _published(root, "temperature").groupby(["model", "method"], sort=False):
        means = own.set_index("temperature")["accuracy"]
        rows.append([f"paper: {model}, MATH-500", method, *(f"{means[v]:.1f}" for v in values)])
    return _markdown(["cell", "method", *(f"T = {v:g}" for v in values)], rows, left=2)


def _kinds(root: Path) -> str:
    """v3's Tables 1 and 2, of the pocket cells and of the paper."""
    own = pd.read_csv(root / "results" / "critical_kinds.csv")
    errors, words = _published(root, "error_kinds"), _published(root, "word_kinds")
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
    return _markdown(header, rows, left=2) + "\n\n\\* The paper's numbers contradict one another (`data/paper/`)."


def _exclusion(root: Path) -> str:
    table = pd.read_csv(root / "results" / "fig5.csv")
    conditions = list(dict.fromkeys(table["condition"]))
    rows = []
    for (model, dataset), own in table.groupby(["model", "dataset"], sort=False):
        by = own.set_index("condition")
        shown = [f"{r['accuracy']:.1f} [{r['low']:.1f}, {r['high']:.1f}]" for _, r in by.iterrows()]
        rows.append([f"{model}, {dataset}", *shown, f"{by['p'].min():.3f}"])
    return _markdown(["cell", *conditions, "p of the exclusion (McNemar)"], rows)


def _agreement(root: Path) -> str:
    """AUC of contrastive scores, and where critical tokens are, by variant: means over the cells,
    and ranges.
    """
    table = _study(root, "agreement")
    measures = {
        "AUC against rollouts": ("auc_contrast_rollouts", 1, 2),
        "base model's probability": ("auc_base_rollouts", 1, 2),
        "AUC against the truth": ("auc_contrast_truth", 1, 2),
        "base model's": ("auc_base_truth", 1, 2),
        "critical token at or before the first wrong one (%)": ("critical_at_or_before_first_wrong", 100, 0),
        "that very one (%)": ("critical_is_first_wrong", 100, 0),
    }
    rows = []
    for variant, own in table.groupby("variant", sort=False):
        shown = [
            f"{scale * own[column].mean():.{digits}f} ({_span(own[column], scale, digits)})"
            for column, scale, digits in measures.values()
        ]
        rows.append([variant, *shown])
    note = f"Means over the cells (and their range), {int(table['answers'].max())} answers each."
    return _markdown(["", *measures], rows) + f"\n\n{note}"


def _rule(root: Path) -> str:
    """Other thresholds and fewer rollouts, averaged over the cells."""
    table = _study(root, "critical_rule")
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
        "at or before first wrong (%)",
        "tokens before it",
    ]
    return (
        _markdown(header, rows)
        + "\n\nMeans over the cells; the same token as with the rule of the paper, 5 % and 64 rollouts."
    )


def _significance(root: Path) -> str:
    """How many cells a method is ahead in, beyond doubt, against whom."""
    table = pd.read_csv(root / "results" / "significance.csv")
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
    return "\n".join([*lines, "", "Better and worse: p below 0.05 after correction."])


def _replacement(root: Path) -> str:
    """pass@k of Figure 2 by distribution of the replacements: means over the cells."""
    table = _study(root, "replacement")
    shown = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= table["k"].max()]
    rows = []
    for distribution, own in table.groupby("distribution", sort=False):
        means = 100 * own.groupby("k")[["mean", "deviation"]].mean()
        rows.append([distribution, *(f"{means.loc[k, 'mean']:.1f} ± {means.loc[k, 'deviation']:.1f}" for k in shown)])
    published = pd.read_csv(root / "data" / "paper" / "figure2.csv").query("version == 'icml' and arm == 'replaced'")
    for dataset, own in published.groupby("dataset", sort=False):
        means = own.set_index("k")["pass_at_k"]
        rows.append([f"paper: Llama-3-8B, {dataset}", *(f"{means[k]:.1f}" for k in shown)])
    note = f"Means over the cells ± mean standard deviation over {int(table['seeds'].max())} seeds of the replacements."
    return _markdown(["replacements from", *(f"pass@{k}" for k in shown)], rows) + f"\n\n{note}"


def _released(root: Path) -> str:
    """Table 1 of the released code's preset."""
    return (root / "results" / "released" / "table1.md").read_text(encoding="utf-8")


PARTS = {
    "claims": _claims,
    "table1": _table1,
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
