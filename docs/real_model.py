"""The generated parts on a real language model, from what `docs/real_run.py` copied of a run."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from evidence import markdown, read_published
from real_run import REAL, RELEASED

from critical_tokens.reporting import estimates

_QUARTERS = ("first", "second", "third", "last")


def _run() -> dict[str, Any]:
    return json.loads((REAL / "run.json").read_text(encoding="utf-8"))


def _curves() -> pd.DataFrame:
    """Figure 2, with pass@k in %."""
    table = pd.read_csv(REAL / "fig2.csv")
    table[["pass_at_k", "low", "high"]] *= 100
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _item(text: str) -> str:
    """An item of a list, in lines of at most 100 characters."""
    return textwrap.fill(text, 100, initial_indent="- ", subsequent_indent="  ")


def _setting() -> str:
    """The model, its answers, and how many problems have right and wrong ones."""
    found = _run()
    model, answers = found["model"], found["answers"]
    number = answers["problems"] * answers["samples"]
    low, high = answers["interval"]
    file = f"`{model['name']}` ({model['quantisation']}, {model['parameters']:,} parameters, SHA-256"
    sampled = f"{answers['samples']} to each of {answers['problems']} train problems of GSM8K"
    drawn = f"at temperature {answers['temperature']:g} and top-p {answers['top_p']:g}"
    shots = f"with {answers['shots']} worked examples as earlier messages of a chat"
    right = f"{_percent(answers['correct'])} are correct (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    cut = f"{_percent(answers['truncated'] / number)} were cut off at the longest length"
    mixed = f"{answers['mixed']} of the problems have correct and incorrect answers, so as many pairs can be made."
    return "\n".join([
        _item(f"Model: {file} `{model['checksum'].removeprefix('sha256:')}`), computed in {model['dtype']}."),
        _item(f"Answers: {sampled}, {drawn}, {shots}. {right}, and {cut}."),
        _item(mixed),
    ])  # fmt: skip


def _replaced() -> str:
    """pass@k of the real model beside the paper's, and how often a critical token was found."""
    found = _run()["critical"]
    own, published = _curves(), read_published("figure2").query("dataset == 'gsm8k'")
    shown = [k for k in (1, 2, 4, 8, 16, 32, 64) if k in set(own["k"])]
    rows = []
    for arm, of_arm in own.groupby("arm", sort=False):
        by_k = of_arm.set_index("k")
        cells = [f"{by_k.pass_at_k[k]:.1f} [{by_k.low[k]:.1f}, {by_k.high[k]:.1f}]" for k in shown]
        rows.append([f"token {arm}", str(int(of_arm["trajectories"].iloc[0])), *cells])
        theirs = published[published["arm"] == arm].set_index("k")["pass_at_k"]
        rows.append([f"paper: Llama-3-8B, token {arm}", "100", *(f"{theirs[k]:.1f}" for k in shown)])
    told = f"A critical token was found in {found['found']} of {found['trajectories']} incorrect answers."
    return "\n".join([told, "", markdown(["arm", "answers", *(f"pass@{k}" for k in shown)], rows)])


def _share(row: pd.Series) -> str:
    """pass@k with its interval, both in %."""
    return f"{row.pass_at_k:.0f} % [{row.low:.0f}, {row.high:.0f}]"


def _verdict() -> str:
    """What the real model shows, in one paragraph."""
    found, own = _run(), _curves()
    most = own["k"].max()
    kept, replaced = (own[(own["arm"] == arm) & (own["k"] == most)].iloc[0] for arm in ("kept", "replaced"))
    found_in = f"{found['critical']['found']} of {found['critical']['trajectories']} incorrect answers"
    sentences = (
        f"A critical token was found in {found_in}.",
        f"If it is kept, at least one of {most} continuations is correct in {_share(kept)} of them; if it is replaced,",
        f"in {_share(replaced)}.",
    )
    contrast = found["contrast"]
    compared = (
        f"Contrastive scores find critical tokens with an AUC of {_interval(contrast, 'auc_contrast_rollouts')},",
        f"the base model's own probability of a token with {_interval(contrast, 'auc_base_rollouts')}.",
    )
    return "\n".join(map(_item, (" ".join(sentences), " ".join(compared))))


def _interval(numbers: Mapping[str, float], name: str) -> str:
    """A number with its interval."""
    value, low, high = (numbers[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _anchor() -> str:
    """Accuracy on all test problems by both graders, beside published numbers of the family."""
    found, shots = _run()["anchor"], _run()["answers"]["shots"]
    n, graders = found["n"], {"released": "the released rules", "math_verify": "Math-Verify"}
    rows = []
    for key, name in graders.items():
        low, high = estimates.wilson_interval(found[key], n)
        accuracy = f"{100 * found[key] / n:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        rows.append(["this run", f"{shots} worked examples in a chat, graded by {name}", accuracy])
    published = pd.read_csv(REAL / "published.csv")
    rows += [[row.model, row.prompt, f"{row.accuracy:.1f}"] for row in published.itertuples()]
    cut = f"{_percent(found['truncated'] / n)} of the {n:,} answers were cut off at the longest length."
    return "\n".join([markdown(["model", "prompt", "correct (%)"], rows, left=2), "", cut])


def _contrast() -> str:
    """AUC of the contrastive scores and of the base model, and how far the two models are apart."""
    found = _run()["contrast"]
    training, sides = found["training"], ("positive", "negative")
    number = (f"{found[side]['answers']} answers ({found[side]['updates']} updates)" for side in sides)
    how = (
        f"The positive model was trained on {next(number)}, and the negative model on {next(number)}. Both have",
        f"LoRA of rank {training['lora_rank']} on the layers {', '.join(training['lora_layers'])}, learning rate",
        f"{training['learning_rate']:g} and batches of {training['batch_size']}; epochs: {training['epochs']:g}.",
    )
    rows = [
        ["contrastive score", _interval(found, "auc_contrast_rollouts")],
        ["probability of the base model", _interval(found, "auc_base_rollouts")],
    ]
    sentences = (
        "On average, the log-probabilities of a token under the positive and the negative model differ by",
        f"{found['apart']:.2f} nats. The token with the lowest contrastive score is the critical token in a share of",
        f"{_interval(found, 'lowest_is_critical')} of the answers that have one.",
    )
    table = markdown(["score", "AUC against the critical tokens"], rows)
    return "\n\n".join([textwrap.fill(" ".join(how), 100), table, textwrap.fill(" ".join(sentences), 100)])


def _words() -> str:
    """Where critical tokens are, their kinds, and the most frequent ones."""
    words = _run()["words"]
    places = markdown(["quarter of the answer", *_QUARTERS], [["critical tokens", *map(str, words["quarters"])]])
    kinds = markdown(
        ["tokens", *words["kinds"]],
        [[name, *_shares(words[key])] for name, key in (("critical", "kinds"), ("all of these answers", "all_kinds"))],
    )
    most = markdown(
        ["token", "critical", "in these answers"],
        [[_visible(row["token"]), str(row["critical"]), str(row["all"])] for row in words["most_frequent"]],
    )
    return "\n\n".join([places, kinds, most])


def _shares(counts: Mapping[str, int]) -> list[str]:
    return [_percent(count / sum(counts.values())) for count in counts.values()]


def _visible(text: str) -> str:
    """A token as code, with its blanks and line ends shown."""
    shown = text.replace(" ", "␣").replace("\n", "⏎").replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def _examples() -> str:
    """Answers up to their critical token and behind it, with the scores of both."""
    parts = []
    for example in _run()["words"]["examples"]:
        before, score = (f"{100 * example[name]:.0f} %" for name in ("score_before", "score"))
        asked = f"Problem `{example['problem_id']}`, correct answer {example['gold']}."
        told = f"Continuations are correct in {before} before the critical token and in {score} after it:"
        text = f"{example['before']}【{example['token']}】{example['after']}"
        parts += [f"{asked} {told}", "\n".join(f"    {line}" for line in text.splitlines())]
    return "\n\n".join(parts)


def _tokens_spent() -> str:
    """What the search for critical tokens cost against the released procedure, in tokens."""
    found = _run()["tokens"]
    answers = f"{found['answers']} answers, which have {found['mean_length']:.0f} tokens on average"
    sentences = (
        f"The search took {found['generated']:,} generated tokens for {answers}.",
        f"The released procedure would take about {found['released'] / 1e6:.1f} million,",
        f"{found['released'] / found['generated']:.0f} times as many: {RELEASED} continuations of every token,",
        "each decoded by itself.",
    )
    return textwrap.fill(" ".join(sentences), 100)


def _plan() -> str:
    """Planned and measured hours of every rule."""
    numbers = [(row["rule"], row["planned"], row["measured"]) for row in _run()["hours"]]
    rows = [[f"`{rule}`", f"{said:.2f}", f"{took:.2f}", f"{took / said:.1f}"] for rule, said, took in numbers]
    return markdown(["rule", "planned hours", "measured hours", "ratio"], rows)


PARTS: dict[str, Callable[[], str]] = {
    "real_verdict": _verdict,
    "real_setting": _setting,
    "real_replaced": _replaced,
    "real_words": _words,
    "real_examples": _examples,
    "real_tokens": _tokens_spent,
    "real_anchor": _anchor,
    "real_contrast": _contrast,
    "real_plan": _plan,
}
