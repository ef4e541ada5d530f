"""Questions in a chat: the model's chat template, its ends, and its refusals."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import made_tokenizers
import pytest
import yaml
from conftest import ROOT
from made_tokenizers import BRACKETS, CHATML, THOUGHTFUL, chatting
from test_ends import written  # noqa: F401 (a fixture)

from critical_tokens.configuration import completion, model_entries
from critical_tokens.core.records import Failure
from critical_tokens.data import prompts
from critical_tokens.data.prompts import Chat, Prompt, Shot
from critical_tokens.decoding.distributions import GREEDY
from critical_tokens.engines.opening import EngineSettings
from critical_tokens.models.checkpoints import end_ids, load_tokenizer
from critical_tokens.rollouts.sampler import Sampler
from critical_tokens.workflow.refusals import ConfigError

MESSAGE = "{question}\nThink, and put the answer within \\boxed{}."
SHOTS = (Shot("One?", "It is 1."), Shot("Two?", "It is 2."))
KINDS = {
    "chatml": (made_tokenizers.byte_level, CHATML, True),
    "brackets": (made_tokenizers.byte_fallback, BRACKETS, False),
    "thoughtful": (made_tokenizers.byte_level, THOUGHTFUL, True),
}


def test_a_chat_has_the_messages_of_the_config():
    chat = Prompt("gsm8k", "chat", SHOTS[:1], chat=Chat(MESSAGE, "Be brief."))
    assert chat.messages(" Is {question} a word? ") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": MESSAGE.replace("{question}", "One?")},
        {"role": "assistant", "content": "It is 1."},
        {"role": "user", "content": MESSAGE.replace("{question}", "Is {question} a word?")},
    ]
    assert Prompt("gsm8k", "chat").messages("Why?") == [{"role": "user", "content": "Why?"}]
    assert chat.stop is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shots", [(), SHOTS], ids=["zero", "few"])
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_prompt_answer_and_end_are_the_tokens_of_the_whole_chat(kind, shots, system):
    """The model is trained on what its template writes, and an answer from elsewhere has the
    tokens that the model would write.
    """
    make, template, takes_system = KINDS[kind]
    tokenizer = chatting(make(), template)
    prompt, answer = (
        Prompt("math", "chat", shots, chat=Chat(MESSAGE, system if takes_system else None)),
        "There are 15.",
    )
    messages = [*prompt.messages("What is it?"), {"role": "assistant", "content": answer}]
    whole = prompts.encode_texts(tokenizer, [tokenizer.apply_chat_template(messages, tokenize=False)])[0]
    (ids,) = prompts.encode_prompts(tokenizer, ["What is it?"], prompt)
    (own,) = prompts.encode_answers(tokenizer, [f" {answer}\n"], prompt)
    assert whole[: len(ids) + len(own)] == ids + own
    behind = [i for i in whole[len(ids) + len(own) :] if tokenizer.decode([i]).strip()]
    assert behind[0] == tokenizer.eos_token_id
    assert prompts.turn_of(tokenizer, prompt).end == (None if kind == "thoughtful" else tokenizer.eos_token_id)
    if tokenizer.bos_token_id is not None:
        assert (ids[0], ids.count(tokenizer.bos_token_id)) == (tokenizer.bos_token_id, 1)


def test_a_bos_is_added_to_a_template_without_one():
    tokenizer = chatting(made_tokenizers.byte_fallback(), BRACKETS.replace("{{ bos_token }}", ""))
    (ids,) = prompts.encode_prompts(tokenizer, ["Why?"], Prompt("gsm8k", "chat"))
    assert (ids[0], ids.count(tokenizer.bos_token_id)) == (tokenizer.bos_token_id, 1)


def test_a_prompt_does_not_depend_on_the_day():
    tokenizer = chatting(made_tokenizers.byte_level(), "{{ strftime_now('%d %b %Y') }}" + CHATML)
    assert prompts.text_of(tokenizer, "Why?", Prompt("gsm8k", "chat")).startswith("26 Jul 2024<|turn|>")


def test_a_template_without_an_answer_in_it_leaves_the_eos():
    tokenizer = chatting(made_tokenizers.byte_level(), "{{ messages[0].content }}\n")
    assert prompts.turn_of(tokenizer, Prompt("gsm8k", "chat")) == prompts.Turn("", None)


# --- refusals


@pytest.mark.parametrize(
    ("template", "system", "words"),
    [
        (None, None, ["has no chat template", "name an instruct model, or set template: usual"]),
        (
            BRACKETS,
            "Be brief.",
            ["cannot write messages of system, user (No system message, please)", "set chat: system"],
        ),
        ("{{ messages[7].content }}", None, ["cannot write messages of user"]),
        ("{% for m in messages %}", None, ["cannot write messages of user"]),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", None, ["cannot write messages of user"]),
        ("{{ messages.append(1) }}", None, ["cannot write messages of user"]),
        ("{% for i in range(10 ** 9) %}x{% endfor %}", None, ["cannot write messages of user"]),
        ("{{ open('/etc/passwd').read() }}", None, ["cannot write messages of user"]),
    ],
)
def test_a_template_that_cannot_write_the_chat_is_told(template, system, words):
    """A template is a program, and the sandbox lets it do nothing but write."""
    tokenizer = chatting(made_tokenizers.byte_fallback(), template)
    tokenizer.name_or_path = "models/mine"
    with pytest.raises(Failure) as told:
        prompts.encode_prompts(tokenizer, ["Why?"], Prompt("gsm8k", "chat", chat=Chat(MESSAGE, system)))
    assert "models/mine" in str(told.value)
    assert "\n" not in str(told.value)
    assert all(word in str(told.value) for word in words), told.value


# --- ends


def test_a_chat_ends_with_the_token_of_its_template(written):  # noqa: F811
    """Trained and scored answers end as the template's do, and all other ends still count."""
    source = written(chatting(made_tokenizers.byte_level(eos="<|turn|>"), CHATML), 0)
    plain, chat = Prompt("gsm8k"), Prompt("gsm8k", "chat")
    assert load_tokenizer(source, plain).eos_token_id == load_tokenizer(source).eos_token_id == 1
    tokenizer = load_tokenizer(source, chat)
    assert tokenizer.eos_token_id == 0
    assert end_ids(source, tokenizer) == (0, 1)
    problems = [{"problem_id": "a", "question": "What is 1+1?", "answer": "2"}]
    for prompt, ids in ((plain, [0] * 8), (chat, [])):
        row = Sampler(source, [], prompt, EngineSettings(2000)).sample(problems, 1, GREEDY, 8, 0, "x")[0]
        assert (row["token_ids"], row["finished"]) == (ids, not ids)


# --- the workflow


@pytest.fixture(scope="module")
def chatty(tmp_path_factory, pocket_tokenizer):
    """A pocket model with a chat template."""
    folder = tmp_path_factory.mktemp("models") / "chatty"
    shutil.copytree(ROOT / "data" / "models" / "pocket-s", folder)
    end = pocket_tokenizer.eos_token
    (folder / "chat_template.jinja").write_text(CHATML.replace("<|turn|>", "").replace("<|end|>", end))
    return folder


def config_of(folder, **others):
    stage = {"template": "chat"}
    return {
        "models": ["mine"],
        "datasets": ["pocket-gsm"],
        "model_registry": {"mine": {"path": str(folder)}},
        "prompts": dict.fromkeys(("sampling", "answers", "pairs", "evaluation"), stage),
        "chat": {"system": 'It\'s a "test".', "message": MESSAGE},
        **others,
    }


def test_a_model_without_a_template_is_refused_before_any_job(tmp_path, monkeypatch, chatty):
    from test_configuration import read

    monkeypatch.chdir(tmp_path)
    able, _ = read(tmp_path, yaml.safe_dump(config_of(chatty)))
    completion.check_folders(able)
    # A job runs again if the template is another one.
    assert str(chatty / "chat_template.jinja") in model_entries.loaded_files(able, "mine")
    config, _ = read(tmp_path, yaml.safe_dump(config_of(ROOT / "data" / "models" / "pocket-s")))
    with pytest.raises(
        ConfigError,
        match=r"model_registry: mine: .* has no chat template; name an instruct model, or set template: usual",
    ):
        completion.check_folders(config)


@pytest.mark.parametrize("message", ["Why?", "{question} {question}", ""])
def test_a_message_without_its_question_is_refused(tmp_path, message):
    from test_configuration import read

    with pytest.raises(ConfigError, match=r"chat: message is .* with \{question\} once"):
        read(tmp_path, yaml.safe_dump({"chat": {"message": message}}))


@pytest.mark.workflow
def test_a_model_is_checked_for_what_chats_need(tmp_path, chatty):
    def check(folder):
        command = [sys.executable, ROOT / "scripts" / "check_model.py", "--model", folder, "--model-name", "mine"]
        flags = ["--layers", "all-linear", "--template", "chat", "--output", tmp_path / "mine.json"]
        return subprocess.run([*command, *flags], capture_output=True, text=True, timeout=120)

    refused = check(ROOT / "data" / "models" / "pocket-s")
    assert refused.returncode == 1
    assert re.fullmatch(r"error: the tokenizer of \S*pocket-s has no chat template, .*\n", refused.stderr)
    assert not (tmp_path / "mine.json").exists()
    assert check(chatty).returncode == 0


@pytest.mark.workflow
def test_a_chat_reaches_every_stage(clone, tmp_path, chatty):
    """From samples to a row of Table 1, all stages ask their questions in the same words."""
    from test_workflow import snakemake

    own = tmp_path / "own.yaml"
    small = {
        "methods": ["baseline", "cdpo"],
        "trajectories": {"problems": 40, "samples": 4},
        "evaluation": {"problems": 5},
        "dataset_registry": {"pocket-gsm": {"max_new_tokens": 64}},
        "alignment": {"epochs": 0.1},
    }
    own.write_text(yaml.safe_dump(config_of(chatty, **small)))
    folder = clone / "results" / "mine" / "pocket-gsm"
    targets = [f"results/mine/pocket-gsm/{name}/seed1/metrics.json" for name in ("baseline", "cdpo")]
    snakemake("--cores", "2", "--configfile", own, "--", *targets, cwd=clone)
    assert json.loads((folder / "cdpo" / "seed1" / "metrics.json").read_text())["n"] == 5
    facts = [json.loads(path.read_text()) for path in folder.rglob("*.meta.json")]
    asked = [fact["settings"] for fact in facts if "chat_message" in fact["settings"]]
    assert len(asked) >= 6
    assert all(
        (found["template"], found["chat_message"], found["chat_system"]) == ("chat", MESSAGE, 'It\'s a "test".')
        for found in asked
    )
    assert Path(clone / "results" / "checked" / "mine.json").is_file()
