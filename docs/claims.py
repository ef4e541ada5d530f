"""The generated parts that sum up: verdict, claims of the paper, critical tokens by cell.

They are written from docs/*.csv and data/paper/, like the parts of docs/evidence.py.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pandas as pd
from evidence import markdown, read_published, read_study, read_table, span

CELL = ["model", "dataset"]


def _verdict() -> str:
    """The five main results, as a numbered list."""
    curves = read_table("fig2").set_index(["arm", "k"])["pass_at_k"]
    kept, replaced = (span(100 * curves[arm, 64], 1, 0) for arm in ("kept", "replaced"))
    agreement = read_table("agreement")
    contrast, base = (span(agreement[f"auc_{scores}_rollouts"]) for scores in ("contrast", "base"))
    dpo, rpo = (_gaps("table1", other) for other in ("dpo", "rpo"))
    sft, shuffled = -_gaps("table1", "sft")["gap"], -_gaps("controls", "cdpo_shuffled")["gap"]
    lines = [
        f"After a critical token, answers fail: of 64 continuations, at least one is correct in {kept} % of the "
        f"incorrect answers. With another token in its place, this share is {replaced} %.",
        f"Contrastive scores find these tokens (AUC {contrast} against rollouts). The base model's own probability of "
        f"a token finds them nearly as well ({base}).",
        f"Trained from the base model, cDPO is ahead of DPO and RPO by "
        f"{span(pd.concat([dpo['gap'], rpo['gap']]), 1, 1)} points. "
        f"The 95 % interval of the gap is above 0 in {_ahead(dpo)} for DPO, and in {_ahead(rpo)} for RPO.",
        "The gain is not due to which tokens the contrastive scores mark: the same weights in random order are better "
        f"than cDPO by {span(shuffled, 1, 1)} points."
        if (shuffled > 0).all()
        else f"The same weights in random order differ from cDPO by {span(shuffled, 1, 1)} points.",
        f"Plain SFT on the sampled correct answers is better than cDPO by {span(sft, 1, 1)} points."
        if (sft > 0).all()
        else f"Plain SFT on the sampled correct answers differs from cDPO by {span(sft, 1, 1)} points.",
    ]
    return "\n".join(
        textwrap.fill(f"{number}. {line}", 100, subsequent_indent="   ") for number, line in enumerate(lines, 1)
    )


def _gaps(study: str, other: str) -> pd.DataFrame:
    """cDPO minus another method, with 95 % intervals, by cell; studies have the reverse."""
    rows = read_study(study).set_index([*CELL, "method"]).xs(other, level="method")
    return pd.DataFrame({"gap": -rows["gap"], "gap_low": -rows["gap_high"], "gap_high": -rows["gap_low"]})


def _ahead(gaps: pd.DataFrame) -> str:
    return f"{int((gaps['gap_low'] > 0).sum())} of {len(gaps)} cells"


def _claims() -> str:
    """The paper's claims: its numbers, those of the pocket world, and whether the claim holds."""
    curves = read_table("fig2").set_index(["arm", "k"])["pass_at_k"]
    theirs = read_published("figure2").set_index(["arm", "k"])["pass_at_k"]
    agreement = read_table("agreement")
    auc = read_published("other").set_index("quantity")["value"]["auc_contrast_rollouts"].astype(float)
    differ = read_table("critical_kinds").set_index("error_kind")["differ"]["total"]
    their_differ = read_published("error_kinds").set_index("error_kind")["differ"]["total"]
    kept, replaced = (100 * curves[arm, 64] for arm in ("kept", "replaced"))
    before, very = (span(agreement[f"critical_{where}_first_wrong"], 100, 0) for where in ("at_or_before", "is"))
    fifth = read_table("fig5").set_index([*CELL, "condition"])["accuracy"].unstack()
    gain = fifth["critical tokens excluded"] - fifth["with critical tokens"]
    found, truth = (
        f"{span(agreement[f'auc_contrast_{label}'])} (intervals from "
        f"{agreement[f'auc_contrast_{label}_low'].min():.2f} to {agreement[f'auc_contrast_{label}_high'].max():.2f})"
        for label in ("rollouts", "truth")
    )
    rows = [
        [
            "after a critical token, rollouts fail",
            f"pass@64 with the token kept: {span(theirs['kept', 64], 1, 0)} %",
            f"{span(kept, 1, 0)} %",
            _holds(kept < 10),
        ],
        [
            "another token in its place saves the answer",
            f"pass@64 with the token replaced: {span(theirs['replaced', 64], 1, 0)} %",
            f"{span(replaced, 1, 0)} %",
            _holds(replaced > 90),
        ],
        [
            "a critical token is often not the first error",
            f"another token in {span(their_differ, 1, 0)} % of the answers",
            f"another token in {span(differ, 1, 0)} % of the answers, the same token in {very} %, the same or an "
            f"earlier token in {before} %",
            _holds(differ > 25),
        ],
        [
            "contrastive estimation finds the rollouts' critical tokens",
            f"AUC {span(auc)}",
            f"AUC {found}; against the planted first wrong token {truth}; the AUC of the base model's own "
            f"probability of a token is {span(agreement['auc_base_rollouts'])} and {span(agreement['auc_base_truth'])}",
            _holds(agreement["auc_contrast_rollouts_low"] > 0.5) + ", but the contrast adds little",
        ],
        [
            "answers are better without the tokens that contrastive estimation finds",
            "v2, Figure 5",
            f"{span(gain, 1, 1)} points of accuracy for the base model",
            _holds(gain > 0) + ", by little",
        ],
        *(
            [f"cDPO is better than {words}", _published_gaps(other), *_own_gaps(other)]
            for other, words in (
                ("baseline", "the baseline"), ("sft", "SFT"), ("dpo", "DPO from the base model"), ("rpo", "RPO"),
            )
        ),
        ["cDPO keeps its accuracy at high temperatures", *_heat()],
    ]  # fmt: skip
    return markdown(["claim", "paper", "here", "verdict"], rows, left=4)


def _holds(cells: pd.Series) -> str:
    """In words, in how many cells a claim holds."""
    if cells.all():
        return "holds"
    return f"holds in {int(cells.sum())} of {len(cells)} cells" if cells.any() else "does not hold"


def _published_gaps(other: str) -> str:
    """cDPO minus another method in the paper's cells that have both."""
    accuracy = read_published("table1").set_index([*CELL, "method"])["accuracy"].unstack()
    gaps = (accuracy["cdpo"] - accuracy[other]).dropna()
    return f"gap {span(gaps, 1, 1)} points in {len(gaps)} cells"


def _own_gaps(other: str) -> list[str]:
    gaps = _gaps("table1", other)
    ahead, behind = int((gaps["gap_low"] > 0).sum()), int((gaps["gap_high"] < 0).sum())
    counts = f"ahead in {ahead}, behind in {behind}, open in {len(gaps) - ahead - behind} of {len(gaps)} cells"
    verdict = "the reverse holds" if behind == len(gaps) else _holds(gaps["gap_low"] > 0)
    return [f"gap {span(gaps['gap'], 1, 1)} points; {counts}", verdict]


def _heat() -> list[str]:
    """Points of accuracy lost from temperature 0 to 1.5: the paper's, the study's, the verdict."""
    names = {"baseline": "baseline", "cdpo": "cDPO", "sft": "SFT", "dpo": "DPO", "rpo": "RPO"}
    paper, own = (
        _lost(read_published("temperature"), "accuracy"),
        _lost(read_study("temperatures"), "mean"),
    )
    shown = []
    for lost in (paper, own):
        each = [f"{word} {span(lost[key], 1, 1)}" for key, word in names.items() if key in lost]
        shown.append(f"points lost from T = 0 to 1.5: {', '.join(each)}")
    return [*shown, _holds(own["cdpo"] < own["baseline"])]


def _lost(table: pd.DataFrame, column: str) -> dict[str, pd.Series]:
    """By method, how much the cells lose."""
    by = table.pivot(index=["method", *CELL], columns="temperature", values=column)
    lost = by[0] - by[1.5]
    return {method: lost[method] for method in dict.fromkeys(table["method"])}


def _findings() -> str:
    """Critical tokens by cell: how many were found, and pass@k with the token kept and replaced."""
    counts = read_table("critical").set_index(CELL)
    rows = []
    for (model, dataset), cell in read_table("fig2").groupby(CELL, sort=False):
        own, at = counts.loc[(model, dataset)], cell.set_index(["arm", "k"])["pass_at_k"]
        rows.append([
            model,
            dataset,
            f"{own['found'] - own['zero_only']} of {own['trajectories']}",
            f"{own['at_or_before_first_wrong']} of {own['with_known_first_wrong']}",
            *(f"{100 * at[place]:.0f}" for place in (("kept", 64), ("replaced", 1), ("replaced", 64))),
        ])  # fmt: skip
    header = ["model", "dataset", "critical token found", "at or before the first wrong token"]
    return markdown([*header, "pass@64 kept", "pass@1 replaced", "pass@64 replaced"], rows, left=2)


PARTS: dict[str, Callable[[], str]] = {"verdict": _verdict, "claims": _claims, "findings": _findings}
