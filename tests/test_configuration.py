"""Mistakes in a config: each is told in a sentence that names the key, the value and what is
allowed, before any job.

The table runs the checks in this process, as rules/config.smk does; a few mistakes go through
Snakemake itself.
"""

import copy
import json
import os
import shutil
import subprocess
import sys

import dry_runs
import pytest
from conftest import ROOT

from critical_tokens.configuration import completion, files, model_entries, schema
from critical_tokens.core.records import Failure
from critical_tokens.models import model_files
from critical_tokens.objectives.registry import REGISTRY
from critical_tokens.reporting import study_summaries
from critical_tokens.workflow.refusals import ConfigError

MINE = "method_registry: {mine: {objective: %s, start: base, %s}}"
SET = "datasets: [mine]\ndataset_registry: {mine: {style: gsm8k, max_new_tokens: 64, %s}}"
FILES = "train: {path: train.jsonl, question: q, answer: a}, test: {path: test.jsonl, question: q, answer: a}"


def merge(config, values):
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            merge(config[key], value)
        else:
            config[key] = value


def read(folder, text="", command_line=None, preset=None):
    """A config as rules/config.smk completes it, from files and from what Snakemake makes of the
    command line.
    """
    own = folder / "own.yaml"
    own.write_text(text or "{}", encoding="utf-8")
    paths = [ROOT / "config.yaml", *([ROOT / "presets" / preset] if preset else []), own]
    layers = files.read_files(paths)
    config = {}
    for layer in layers:
        merge(config, copy.deepcopy(dict(layer.content)))
    if command_line:
        merge(config, command_line)
        layers.append(files.Layer(files.COMMAND_LINE, command_line))
    return config, completion.complete(config, layers, ROOT)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to run in, with problems and models."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"q": "1 + 1?", "a": "2"}\n')
    return tmp_path


FROM_FILES = {
    # --- keys without effect, and what contradicts itself
    "model_registry: {pocket-s: {revision: abc}}": ["pocket-s: revision is 'abc'", "local folder"],
    "model_registry: {pocket-s: {context: 128}}": ["pocket-s: context is 128", "which only has an effect with engine: vllm"],
    "figures: {figure5_method: baseline}": ["figure5_method is 'baseline'", "trains nothing"],
    "pathvars: {results: /}": ["pathvars: results is '/'", "a folder of its own"],
    "pathvars: {results: .}": ["pathvars: results is '.'", "a folder of its own"],
    "alignment: {lora: {layers: ['(a+)+$']}}": ["alignment: lora: layers", "(a+)+$"],
    # --- how it is written
    "seeds: [1]\nseeds: [2]": ["own.yaml, line 2", "seeds is already in line 1"],
    "contrast:\n  beta: 1.0\n  epochs: 1\n  beta: 2.0": ["line 4", "contrast: beta is already in line 2"],
    '{"seeds": [1],\t"seeds": [2]}': ["seeds is already in line 1"],
    "trajectories: {seed: 010}": ["trajectories: seed is 010", "octal", "write 10"],
    "seeds: [1, 007]": ["007", "octal", "write 7"],
    "longest_minutes: 2:30": ["longest_minutes is 2:30", "base 60"],
    "seeds: !!python/object/apply:os.system ['touch pwned']": ["line 1", "python/object/apply:os.system", "use no tags"],
    "models: !!set {pocket-s}": ["models", "set"],
    "model_registry: {pocket-s: {revision: 2024-01-01}}": ["revision", "timestamp", "quotes"],
    "model_registry: {true: {path: x}}": ["model_registry", "bool", "quotes"],
    "? [1, 2]\n: 3": ["is not text"],
    "model_registry: {5: {path: x}}": ["the key '5' of model_registry is of type int", "quotes"],
    "[1, 2]": ["own.yaml: is a list", "mapping"],
    "5": ["is '5'", "mapping"],
    "hello": ["is 'hello'", "mapping"],
    "# nothing": ["is empty", "mapping"],
    "seeds: [1\nmodels: x": ["line 2", "is not YAML"],
    "\tseeds: [1]": ["is not YAML", "blanks"],
    "seeds: [1]\n---\nseeds: [2]": ["is not YAML", "document"],
    "__use_yte__: true": ["__use_yte__", "Python expressions"],
    # --- thresholds and temperatures at which nothing would happen, or no number would be left
    "rollouts: {later_below: 0}": ["rollouts: later_below is 0, must be above 0"],
    "rollouts: {stratified: {later_below: 0}}": ["rollouts: stratified: later_below is 0, must be above 0"],
    "rollouts: {stratified: {zero_up_to: 0.05}}": [
        "rollouts: stratified: zero_up_to is 0.05, must be below later_below, which is 0.05"
    ],
    "studies: {critical_rule: {later_below: [0]}}": ["critical_rule: later_below, entry 1 is 0, must be above 0"],
    "evaluation: {temperature: 1.0e-300}": ["evaluation: temperature is 1e-300, must be 0 (greedy) or from 0.01 to 10"],
    "studies: {temperatures: {values: [11]}}": ["studies: temperatures: values, entry 1 is 11, must be 0 (greedy) or from 0.01"],
    "trajectories: {temperature: 1.0e-300}": ["trajectories: temperature is 1e-300, must be at least 0.01"],
    # --- keys and types
    "modls: [pocket-s]": ["modls: there is no such key", "'models'"],
    "alignment: {learnign_rate: 1.0e-4}": ["alignment: learnign_rate", "'learning_rate'", "batch_size"],
    "contrast: {lora: {rnk: 8}}": ["contrast: lora: rnk", "'rank'"],
    "method_registry: {cdpo: {beta: 0.5}}": ["method_registry: cdpo: beta: there is no such key", "gamma"],
    "model_registry: {mine: {dtype: float32}}": ["model_registry: mine: path is missing", "text"],
    "dataset_registry: {mine: {style: gsm8k}}": ["dataset_registry: mine: max_new_tokens is missing"],
    "method_registry: {mine: {objective: dpo}}": ["method_registry: mine: start is missing"],
    "models: pocket-s": ["models is 'pocket-s', must be a list"],
    "models: []": ["models is empty", "at least 1"],
    "models: [pocket-s, pocket-s]": ["models", "'pocket-s'", "may appear only once"],
    "models: null": ["models is null, must be a list"],
    "model_registry: 5": ["model_registry is 5, must be a mapping"],
    "studies: []": ["studies is empty, must be a mapping"],
    "seeds: [1, 1]": ["seeds", "1 may appear only once"],
    "seeds: [1.0]": ["seeds, entry 1 is 1.0, must be a whole number"],
    "seeds: [true]": ["seeds, entry 1 is true, must be a whole number"],
    "seeds: ['1']": ["seeds, entry 1 is '1', must be a whole number"],
    "seeds: [-1]": ["seeds, entry 1 is -1, must be at least 0"],
    "seeds: [3000000000]": ["seeds, entry 1 is 3000000000, must be at most 2147483647"],
    "selection: {repeated_only: 1}": ["selection: repeated_only is 1, must be true or false"],
    "contrast: {beta: yes}": ["contrast: beta is true, must be a number"],
    "alignment: {learning_rate: 1e-4}": ["alignment: learning_rate is '1e-4'", "so write 1.0e-4"],
    "alignment: {learning_rate: 1.5e4}": ["is '1.5e4'", "so write 1.5e+4"],
    "alignment: {batch_size: 8.0}": ["alignment: batch_size is 8.0, must be a whole number"],
    # --- values
    "alignment: {learning_rate: .nan}": ["alignment: learning_rate is nan, must be a number"],
    "contrast: {learning_rate: .inf}": ["contrast: learning_rate is inf, must be a number"],
    "trajectories: {temperature: .nan}": ["trajectories: temperature is nan, must be a number"],
    "evaluation: {temperature: .inf}": ["evaluation: temperature is inf, must be a number"],
    "trajectories: {top_p: .nan}": ["trajectories: top_p is nan, must be a number"],
    "trajectories: {top_p: 0}": ["trajectories: top_p is 0, must be above 0"],
    "trajectories: {top_p: 1.5}": ["trajectories: top_p is 1.5, must be at most 1"],
    "trajectories: {temperature: 0}": ["trajectories: temperature is 0, must be at least 0.01"],
    "model_registry: {pocket-s: {temperatures: {pocket-gsm: 0}}}": ["temperatures: pocket-gsm is 0, must be at least 0.01"],
    "trajectories: {samples: 1}": ["trajectories: samples is 1, must be at least 2"],
    "trajectories: {problems: 0}": ["trajectories: problems is 0, must be at least 1"],
    "trajectories: {shards: 0}": ["trajectories: shards is 0"],
    "alignment: {learning_rate: 0}": ["alignment: learning_rate is 0, must be above 0"],
    "alignment: {learning_rate: 20}": ["alignment: learning_rate is 20, must be at most 1"],
    "alignment: {epochs: 1000000000}": ["alignment: epochs is 1000000000, must be at most 1000"],
    "method_registry: {dpo: {epochs: 1000000000}}": ["method_registry: dpo: epochs is 1000000000"],
    "alignment: {gamma: -1}": ["alignment: gamma is -1, must be above 0"],
    "alignment: {warmup_share: 2}": ["alignment: warmup_share is 2, must be at most 1"],
    "alignment: {schedule: cosin}": ["alignment: schedule is 'cosin', must be one of linear, cosine", "did you mean 'cosine'"],
    "alignment: {lora: {dropout: 1.0}}": ["alignment: lora: dropout is 1.0, must be below 1"],
    "alignment: {lora: {rank: 1000000000}}": ["alignment: lora: rank is 1000000000, must be at most"],
    "contrast: {batch_size: 0}": ["contrast: batch_size is 0, must be at least 1"],
    "contrast: {beta: -0.5}": ["contrast: beta is -0.5, must be at least 0"],
    "variants: {empty: {}}": ["variants: empty is empty, must have at least 1 key"],
    "rollouts: {method: paired}": ["rollouts: method is 'paired', must be one of coupled, independent, stratified"],
    "selection: {negative_coverage: 0}": ["selection: negative_coverage is 0, must be above 0"],
    "alignment: {tdpo_variant: 1.0}": ["alignment: tdpo_variant is 1.0, must be a whole number"],
    "alignment: {tdpo_variant: 3}": ["alignment: tdpo_variant is 3, must be at most 2"],
    "trajectories: {shards: 301}": ["trajectories: shards is 301, but pocket-gsm has only 300 train problems"],
    "rollouts: {shards: 31}": ["rollouts: shards is 31, but there are only 30 trajectories"],
    "alignment: {lora: {layers: [all-linear, q_proj]}}": ["alignment: lora: layers has all-linear beside other names"],
    "grading: {labels: sympy}": ["grading: labels is 'sympy', must be one of released, math_verify"],
    "gpu_memory_gb: 0": ["gpu_memory_gb is 0, must be above 0"],
    # --- names
    "method_registry: {base: {objective: dpo, start: base}}": ["'base' is a reserved name", "rollouts"],
    "method_registry: {rollouts: {objective: dpo, start: base}}": ["'rollouts' is a reserved name"],
    "method_registry: {positive-no_eos: {objective: dpo, start: base}}": ["'positive-no_eos'", "contrastive models"],
    "method_registry: {my.dpo: {objective: dpo, start: base}}": ["'my.dpo' cannot be a name", "hyphens"],
    'method_registry: {"mine\\n": {objective: dpo, start: base}}': ["cannot be a name", "letters"],
    "method_registry: {../x: {objective: dpo, start: base}}": ["'../x' cannot be a name"],
    "method_registry: {CDPO: {objective: dpo, start: base}}": ["'CDPO' and 'cdpo' differ only in capital letters"],
    "model_registry: {data: {path: data/models/pocket-s}}": ["model_registry: 'data' is a reserved name"],
    "model_registry: {table1.csv: {path: data/models/pocket-s}}": ["'table1.csv' ends like a file"],
    "model_registry: {'a b': {path: data/models/pocket-s}}": ["'a b' cannot be a name"],
    "dataset_registry: {shards: {style: math, max_new_tokens: 9}}": ["dataset_registry: 'shards' is a reserved name"],
    "variants: {default: {seed: 9}}": ["variants: 'default' is a reserved name"],
    "sweeps: {tuning: {method: cdpo, key: gamma, values: [1]}}": ["sweeps: 'tuning' is a reserved name"],
    "studies: {comparisons: {agreement: {models: [pocket-s], datasets: [pocket-gsm], methods: [dpo], seeds: [1], against: dpo}}}": [
        "studies: comparisons: 'agreement' is a reserved name"
    ],
    "method_registry: {cdpo-gamma0: {objective: dpo, start: base}}\nsweeps: {z: {method: cdpo, key: rpo_alpha, values: [0]}}": [
        "rpo_alpha has no effect on the objective cdpo"
    ],
    "method_registry: {cdpo-gamma1: {objective: cdpo, start: base}}": ["sweeps: gamma", "already has a different cdpo-gamma1", "another name"],
    "method_registry: {cdpo-lr2e-05: {objective: cdpo, start: base}}": ["tuning", "already has a different cdpo-lr2e-05", "another name"],
    "variants: {beta2: {seed: 4}}": ["sweeps: beta", "beta2", "variants already has a different beta2"],
    "sweeps: {z: {method: dpo, key: gamma, values: [0.1234567, 0.12345671]}}": [
        "sweeps: z", "dpo-gamma0.123457", "sixth digit",
    ],
    "tuning: {learning_rates: [1.0e-4, 0.00010000001]}": ["tuning", "lr0.0001", "sixth digit"],
    "studies: {temperatures: {values: [0.5, 0.50000001]}}": ["studies: temperatures: values", "sixth digit"],
    "studies: {temperatures: {values: [0.00001]}}": ["studies: temperatures: values", "1e-05", "0 (greedy) or from 0.01"],
    # --- selections
    "models: [pocket-x]": ["models: 'pocket-x' is unknown (did you mean", "registered are pocket-m, pocket-s"],
    "datasets: [gsm]": ["datasets: 'gsm' is unknown", "gsm8k, math, math500, pocket-gsm, pocket-math"],
    "methods: [cdop]": ["methods: 'cdop' is unknown (did you mean 'cdpo'?)"],
    "sweeps: {z: {method: cdop, key: gamma, values: [1]}}": ["sweeps: z: method: 'cdop' is unknown"],
    "sweeps: {z: {method: baseline, key: gamma, values: [1]}}": ["sweeps: z: method has 'baseline', which trains nothing"],
    "sweeps: {z: {method: dpo, key: beta, values: [1]}}": ["'dpo', which reads no contrastive scores, so beta has no effect"],
    "sweeps: {z: {method: cdpo_rollouts, key: beta, values: [1]}}": ["'cdpo_rollouts', which reads no contrastive scores"],
    "sweeps: {z: {method: cdpo, key: gamma, values: [0, 1]}}": ["sweeps: z: values, entry 1 is 0, must be above 0"],
    "sweeps: {z: {method: dpo, key: learning_rate, values: [0]}}": ["sweeps: z: values, entry 1 is 0, must be above 0"],
    "sweeps: {z: {method: dpo, key: epochs, values: [.nan]}}": ["sweeps: z: values, entry 1 is nan, must be a number"],
    "sweeps: {z: {method: dpo, key: rank, values: [1]}}": ["sweeps: z: key is 'rank', must be one of beta"],
    "tuning: {methods: [ppo]}": ["tuning: methods: 'ppo' is unknown"],
    "tuning: {methods: [baseline]}": ["tuning: methods has 'baseline', which trains nothing"],
    "studies: {comparisons: {beta: {sweep: betas}}}": ["studies: comparisons: beta: sweep: 'betas' is unknown (did you mean 'beta'?)"],
    "studies: {comparisons: {beta: {against: ppo}}}": ["studies: comparisons: beta: against is 'ppo', must be one of", "cdpo-beta0.5"],
    "studies: {comparisons: {table1: {methods: [dpo]}}}": ["studies: comparisons: table1: against is 'cdpo', must be one of dpo"],
    "studies: {comparisons: {beta: {models: [x]}}}": ["studies: comparisons: beta: models: 'x' is unknown"],
    "studies: {comparisons: {switches: {methods: [cdpo, cdpo-gamma0.1]}}}": ["studies: comparisons: switches: methods has 'cdpo-gamma0.1'", "gamma"],
    "studies: {temperatures: {methods: [ppo]}}": ["studies: temperatures: methods: 'ppo' is unknown"],
    "studies: {agreement: {variants: [seed9]}}": ["studies: agreement: variants: 'seed9' is unknown"],
    "figures: {figure1_cell: {model: pocket-s}}\nmodels: [pocket-m]": [
        "figures: figure1_cell: model is 'pocket-s'", "not selected", "pocket-m",
    ],
    "figures: {figure1_cell: {dataset: gsm8k}}": ["figures: figure1_cell: dataset is 'gsm8k'", "not selected"],
    "figures: {figure6_methods: [sft]}": ["figures: figure6_methods has 'sft', which does not train on pairs"],
    "figures: {figure6_methods: [baseline]}": ["figures: figure6_methods has 'baseline', which does not train on pairs"],
    "figures: {figure5_method: ppo}": ["figures: figure5_method: 'ppo' is unknown"],
    "pretraining: {shapes: {pocket-x: {layers: 1, width: 8, heads: 2, mlp: 8}}}": [
        "pretraining: documents has no entry for pocket-x",
    ],
    "pretraining: {shapes: {pocket-s: {heads: 7}}}": ["pretraining: shapes: pocket-s: width is 96", "7 heads"],
    # --- methods
    MINE % ("ppo", ""): ["method_registry: mine: objective is 'ppo', must be one of none, nll, dpo"],
    "method_registry: {mine: {objective: dpo, start: sftt}}": ["mine: start: 'sftt' is unknown (did you mean 'sft'?)", "base"],
    "method_registry: {mine: {objective: dpo, start: mine}}": ["mine: start: mine -> mine never reaches base"],
    "method_registry: {a: {objective: dpo, start: b}, b: {objective: dpo, start: a}}": [
        "a: start: a -> b -> a never reaches base",
    ],
    "method_registry: {mine: {objective: none, start: sft}}": ["mine: start is 'sft', must be base"],
    MINE % ("none", "learning_rate: 0.1"): ["mine: learning_rate has no effect, because the objective none trains nothing"],
    MINE % ("cdpo", "rpo_alpha: 1.0"): ["mine: rpo_alpha has no effect on the objective cdpo", "gamma, weights, eos_weight"],
    MINE % ("dpo", "weights: mean"): ["mine: weights has no effect on the objective dpo"],
    MINE % ("dpo", "eos_weight: one"): ["mine: eos_weight has no effect on the objective dpo"],
    MINE % ("dpo", "eos_trained: true"): ["mine: eos_trained has no effect on the objective dpo"],
    MINE % ("rpo", "held_out: 3"): ["mine: held_out has no effect on the objective rpo"],
    MINE % ("rpo", "tdpo_alpha: 0.1"): ["mine: tdpo_alpha has no effect on the objective rpo, which reads", "rpo_alpha"],
    MINE % ("tdpo", "tdpo_variant: 1, tdpo_alpha: 0.1"): ["mine: tdpo_alpha has no effect on variant 1"],
    MINE % ("nll", "gamma: 1.0"): ["mine: gamma has no effect on the objective nll", "held_out"],
    MINE % ("nll", "variant: no_eos"): ["mine: variant has no effect on the objective nll"],
    MINE % ("dpo", "variant: seed2"): ["mine: variant 'seed2' has no effect on the method"],
    MINE % ("cdpo", "weights: rollouts, variant: seed2"): ["mine: variant 'seed2' has no effect on the method"],
    MINE % ("cdpo", "variant: eos"): ["mine: variant: 'eos' is unknown", "no_eos"],
    MINE % ("dpo", "schedule: constant, warmup_share: 0.2"): ["mine: warmup_share has no effect on the schedule constant"],
    "method_registry: {mine: {objective: cdpo, start: sft, weights: base}}": ["mine: weights is 'base'", "starts from base"],
    "method_registry: {baseline: {objective: dpo}}": ["method_registry: baseline: objective is 'dpo', must be none"],
    "contrast: {held_out: 300}": ["contrast: held_out is 300", "at most 300 train problems"],
    "method_registry: {sft: {held_out: 5000}}": ["method_registry: sft: held_out is 5000"],
    "variants: {few: {held_out: 400}}": ["variants: few: held_out is 400"],
    # --- models
    "model_registry: {pocket-s: {temperatures: {gsm: 1.0}}}": ["model_registry: pocket-s: temperatures: 'gsm' is unknown"],
    "model_registry: {pocket-s: {processes: 3}}": [
        "contrast: batch_size is 16, must be a multiple of the 3 processes of pocket-s",
    ],
    "model_registry: {pocket-s: {engine: vlm}}": [
        "model_registry: pocket-s: engine is 'vlm', must be one of transformers, vllm",
    ],
    "model_registry: {mine: {path: someone/model}}": ["model_registry: mine: parameters is missing", "no folder someone/model"],
    "model_registry: {mine: {path: a/b, parameters: 1, revision: 'a b'}}": [
        "mine: revision is 'a b'", "a commit, a branch or a tag",
    ],
    # --- datasets
    SET % "train: {path: train.jsonl}": ["dataset_registry: mine: has no test split"],
    SET % "test: {path: test.jsonl}": ["dataset_registry: mine: has no train split"],
    SET % "shots: {split: train, count: 1}": ["dataset_registry: mine: has no train and no test split"],
    SET % "train: {path: a.jsonl, hub: a/b, hub_split: train}": ["train has 2 sources, path and hub; give only one"],
    SET % "train: {world: pocket-gsm, problems: 5, path: a.jsonl}": ["train has 2 sources, world and path; give only one"],
    SET % "train: {problems: 5}": ["dataset_registry: mine: train names no source; give one of world, path, hub"],
    SET % "train: {world: pocket-gsm}": ["train has no problems"],
    SET % "train: {world: pocket-math, problems: 9}": ["train is of the world pocket-math, whose style is math", "gsm8k"],
    SET % "train: {world: pocket-gsm, problems: 9, question: q}": [
        "train has question, which its source (world) does not read",
    ],
    SET % "train: {path: train.jsonl, seed: 3}": ["train has seed, which its source (path) does not read"],
    SET % "train: {path: train.jsonl, revision: main}": ["train has revision, which its source (path) does not read"],
    SET % "train: {hub: a/b, question: q}": ["train has no hub_split"],
    SET % "train: {hub: 'a b', hub_split: train}": ["train: hub is 'a b'", "owner/name"],
    SET % "train: {hub: a/b, hub_split: x}, test: {hub: a/b, hub_split: x}": ["train and test are the same split"],
    "dataset_registry: {pocket-gsm: {train: {path: mine.jsonl}}}": ["pocket-gsm: train is generated", "a name of their own"],
    "dataset_registry: {pocket-gsm: {style: math}}": ["pocket-gsm: train is of the world pocket-gsm, whose style is gsm8k"],
    "dataset_registry: {pocket-gsm: {shots: {split: validation, count: 301}}}": ["count is 301", "validation has 300 problems"],
    "dataset_registry: {gsm8k: {shots: {split: validation}}}": ["gsm8k: shots names task and split; give only one"],
    SET % ("shots: {count: 2}, " + FILES): ["mine: shots names no source; give task or split"],
    SET % ("shots: {split: validation, count: 2}, " + FILES): [
        "mine: shots are of the split validation, which the dataset does not have",
    ],
    "prompts: {sampling: {few_shot: true}}\n" + SET % FILES: ["prompts: sampling: few_shot is true, but the dataset mine has no shots"],
    # --- paths
    "pathvars: {results: \"r\\ntouch pwned\"}": ["pathvars: results is 'r\\ntouch pwned'", "must not have"],
    "pathvars: {results: 'a{b}'}": ["pathvars: results is 'a{b}'", "must not have '{'"],
    "pathvars: {logs: 'a<b>'}": ["pathvars: logs is 'a<b>'", "must not have '<'"],
    "pathvars: {figures: -rf}": ["pathvars: figures is '-rf'", "hyphen", "./-rf"],
    "pathvars: {figures: ''}": ["pathvars: figures is ''", "empty"],
    "pathvars: {logs: out, benchmarks: out/}": ["pathvars: benchmarks is 'out/', the same folder as logs"],
    "pathvars: {reports: x}": ["pathvars: reports: there is no such key", "results, figures, logs, benchmarks"],
    "pathvars: {results: ~nobody-of-that-name/x}": ["there is no home folder of that name"],
    "model_registry: {mine: {path: 'x{y}'}}": ["model_registry: mine: path is 'x{y}'", "must not have"],
    "dataset_registry: {gsm8k: {annotations: \"a\\x07\"}}": ["gsm8k: annotations is", "must not have"],
    "dataset_registry: {gsm8k: {released_pairs: '{model}/{x}'}}": ["released_pairs is '{model}/{x}'", "must not have '{'"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"), FROM_FILES.items(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_mistake_in_a_file_is_told(here, text, words):
    with pytest.raises(ConfigError) as told:
        read(here, text)
    message = str(told.value)
    assert all(word in message for word in words), message
    assert len(message.splitlines()) <= 10


COMMAND_LINE = [
    ({"seeds": ["1", "x"]}, ["seeds, entry 2 is 'x', must be a whole number"]),
    ({"seeds": ["010"]}, ["seeds, entry 1 is '010', must be a whole number"]),
    ({"contrast": {"beta": "nan"}}, ["contrast: beta is 'nan', must be a number"]),
    ({"gpu_memory_gb": float("nan")}, ["gpu_memory_gb is nan, must be a number"]),
    ({"trajectories": {"top_p": "2"}}, ["trajectories: top_p is 2, must be at most 1"]),
    ({"modls": ["pocket-s"]}, ["modls: there is no such key", "'models'"]),
    ({"models": "pocket-s"}, ["models is 'pocket-s', must be a list"]),
    ({"rollouts": {"extent": "true"}}, ["rollouts: extent is true, must be one of curve, critical"]),
    (
        {"dataset_registry": {"mine": {"train": {"path": "a", "hub": "b/c"}}}},
        ["--config: dataset_registry: mine: train has 2", "path and hub"],
    ),
]


@pytest.mark.parametrize(("values", "words"), COMMAND_LINE)
def test_a_mistake_on_the_command_line_is_told(here, values, words):
    with pytest.raises(ConfigError) as told:
        read(here, SET % FILES, values)
    assert all(word in str(told.value) for word in words), told.value


def test_numbers_of_the_command_line_are_numbers_where_they_should_be(here):
    """Text stays text where the schema wants text, however much it looks like a number."""
    config, _ = read(
        here,
        command_line={
            "seeds": ["1", "2"],
            "contrast": {
                "beta": "1.5",
                "learning_rate": "1e-4",
                "gradient_checkpointing": "true",
                "lora": {"rank": "4"},
            },
            "trajectories": {"problems": "null"},
            "alignment": {"tdpo_variant": "1"},
            "model_registry": {
                "mine": {
                    "path": "1234/5678",
                    "parameters": "9",
                    "revision": "0123456",
                    "temperatures": {"gsm8k": "0.5"},
                }
            },
        },
    )
    contrast, mine = config["contrast"], config["model_registry"]["mine"]
    assert config["seeds"] == [1, 2]
    assert (contrast["beta"], contrast["learning_rate"], contrast["lora"]["rank"]) == (1.5, 1e-4, 4)
    assert contrast["gradient_checkpointing"] is True
    assert contrast["epochs"] == 1  # what the command line does not say stays
    assert config["trajectories"]["problems"] is None
    assert config["alignment"]["tdpo_variant"] == 1
    assert (mine["path"], mine["revision"], mine["temperatures"]) == ("1234/5678", "0123456", {"gsm8k": 0.5})


def test_all_mistakes_are_told_at_once_but_ten_lines_at_most(here):
    with pytest.raises(ConfigError) as told:
        read(
            here, "models: [x]\ndatasets: [y]\nmethods: [z]\nmethod_registry: {mine: {objective: dpo, start: nothing}}"
        )
    assert len(str(told.value).splitlines()) >= 4
    with pytest.raises(ConfigError) as told:
        read(here, "\n".join(f"key{number}: 1" for number in range(30)))
    lines = str(told.value).splitlines()
    assert len(lines) == 10
    assert lines[-1] == "and 21 more mistakes, which are shown when these are corrected"


def test_home_folders_are_written_out(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    text = (
        "pathvars: {results: ~/r}\nmodel_registry: {mine: {path: ~/m}}\npublished: {table1: ~/t.csv}\n"
        "dataset_registry: {gsm8k: {annotations: ~/a.csv, released_pairs: '~/{model}', train: {path: ~/a.jsonl}}}"
    )
    config, _ = read(here, text)
    home, gsm8k = f"{here}/home", config["dataset_registry"]["gsm8k"]
    assert config["pathvars"]["results"] == f"{home}/r"
    assert config["model_registry"]["mine"]["path"] == f"{home}/m"
    assert config["published"]["table1"] == f"{home}/t.csv"
    assert (gsm8k["annotations"], gsm8k["released_pairs"]) == (f"{home}/a.csv", f"{home}/{{model}}")
    assert gsm8k["train"]["path"] == f"{home}/a.jsonl"


def test_figure_1_takes_its_answer_from_the_first_selected_cell(here):
    assert read(here, "models: [pocket-m, pocket-s]\ndatasets: [pocket-math]")[0]["figures"]["figure1_cell"] == {
        "model": "pocket-m",
        "dataset": "pocket-math",
    }


def test_two_sweeps_may_register_the_same_method(here):
    config, swept = read(here, "sweeps: {z: {method: cdpo, key: gamma, values: [0.1, 3]}}")
    assert list(swept["z"]) == ["cdpo-gamma0.1", "cdpo-gamma3"]
    assert swept["z"]["cdpo-gamma3"] == {"method": "cdpo", "key": "gamma", "value": "3"}
    assert "cdpo-gamma0.1" in swept["gamma"]
    assert config["method_registry"]["cdpo-gamma3"] == {**config["method_registry"]["cdpo"], "gamma": 3}


def test_a_path_comes_before_the_hub_that_the_registry_names(here):
    config, _ = read(here, "dataset_registry: {gsm8k: {train: {path: train.jsonl}}}")
    assert {"hub", "path"} <= set(config["dataset_registry"]["gsm8k"]["train"])


@pytest.mark.parametrize("preset", [None, "own.yaml", "paper.yaml", "released.yaml", "smoke.yaml"])
def test_the_configs_of_the_project_have_no_mistakes(here, preset):
    config, swept = read(here, preset=preset)
    assert len(swept["gamma"]) == 4
    assert set(swept["beta"]) <= set(config["method_registry"])


@pytest.mark.parametrize("objective", REGISTRY)
def test_every_constant_of_an_objective_is_a_key_that_methods_may_carry(here, objective):
    """The schema knows what the registry of objectives reads, and a method that carries all of it
    is accepted.
    """
    known = schema.read_schema(ROOT / "rules" / "schemas" / "config.schema.yaml")["properties"]
    constants = REGISTRY[objective].constants
    assert set(constants) <= set(known["alignment"]["properties"])
    own = ", ".join(f"{key}: 2" for key in constants)
    read(here, MINE % (objective, own))


@pytest.mark.parametrize(("old", "new"), schema.RENAMED.items())
def test_a_key_that_was_renamed_is_refused_with_its_new_name(here, old, new):
    text = "5"
    for key in reversed(old.split(": ")):
        text = f"{{{key}: {text}}}"
    with pytest.raises(ConfigError, match=f"{old}: this key is now called {new}"):
        read(here, text)


def test_a_comparison_at_its_old_place_is_refused_with_its_new_one(here):
    entry = "{models: [pocket-s], datasets: [pocket-gsm], methods: [dpo], seeds: [1], against: dpo}"
    with pytest.raises(ConfigError, match="studies: mine: this key is now called studies: comparisons: mine"):
        read(here, f"studies: {{mine: {entry}}}")


def properties(part, where=""):
    """Every key of a schema with its own schema, keys of entries included."""
    for key, value in part.get("properties", {}).items():
        yield f"{where}{key}", value
        yield from properties(value, f"{where}{key}: ")
    if isinstance(part.get("additionalProperties"), dict):
        yield from properties(part["additionalProperties"], f"{where}*: ")


def test_every_key_of_the_schema_has_a_description():
    known = schema.read_schema(ROOT / "rules" / "schemas" / "config.schema.yaml")
    for name in ("prompt", "lora", "source"):
        known["properties"][f"$defs {name}"] = known["$defs"][name] | {"description": "shared"}
    found = dict(properties(known))
    assert len(found) > 150
    assert [key for key, value in found.items() if len(value.get("description", "")) < 5] == []


# --- folders and files


def model_folder(folder, without=(), **files):
    """A copy of a pocket model without some of its files, and with others."""
    target = folder / "model"
    shutil.copytree(ROOT / "data" / "models" / "pocket-s", target)
    for name in without:
        (target / name).unlink()
    for name, content in files.items():
        (target / name.replace("__", ".")).write_text(content if isinstance(content, str) else json.dumps(content))
    return target


def edited(name, **values):
    content = json.loads((ROOT / "data" / "models" / "pocket-s" / name).read_text())
    return {key: value for key, value in {**content, **values}.items() if value is not None}


NO_EOS = {
    "tokenizer_config__json": edited("tokenizer_config.json", eos_token=None),
    "config__json": edited("config.json", eos_token_id=None),
    "generation_config__json": edited("generation_config.json", eos_token_id=None),
}
SHARDED = {"model.safetensors.index__json": {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}}


@pytest.mark.parametrize(
    ("without", "files", "words"),
    [
        (["config.json"], {}, "has no config.json"),
        ([], {"config__json": "{"}, "is not JSON"),
        ([], {"config__json": "[]"}, "is no JSON object"),
        ([], {"config__json": {}}, "without model_type"),
        (["model.safetensors"], {}, "has no weights (model.safetensors)"),
        (["model.safetensors"], {"pytorch_model__bin": "x"}, "pickled weights are not loaded"),
        (["model.safetensors"], SHARDED, "names part-1.safetensors, which is not there (2 of 2 missing)"),
        ([], {"model__safetensors": ""}, "model.safetensors is no safetensors file, or it is cut off"),
        ([], {"model__safetensors": "version https://git-lfs.github.com/spec/v1"}, "is no safetensors file"),
        (["tokenizer.json"], {}, "has no tokenizer"),
        ([], NO_EOS, "names no token that ends an answer"),
        (
            [],
            {"config__json": edited("config.json", max_position_embeddings=100)},
            "max_new_tokens is 96, must be at most 84",
        ),
    ],
)
def test_a_broken_model_folder_is_told(here, without, files, words):
    folder = model_folder(here, without, **files)
    config, _ = read(here, f"models: [mine]\nmodel_registry: {{mine: {{path: {folder}}}}}")
    with pytest.raises(ConfigError) as told:
        completion.check_folders(config)
    assert words in str(told.value), told.value


def test_weights_that_are_cut_off_are_told(here):
    folder = model_folder(here)
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 4)
    assert any("cut off or damaged" in what for what in model_files.lacks(folder))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "model_registry: {pocket-s: {path: /nowhere/model}}",
            ["pocket-s: path is '/nowhere/model', which does not exist"],
        ),
        ("model_registry: {pocket-s: {path: train.jsonl}}", ["which is a file"]),
        ("model_registry: {pocket-s: {path: empty}}", ["which is empty"]),
        (
            "dataset_registry: {pocket-gsm: {max_new_tokens: 2040}}",
            ["pocket-gsm: max_new_tokens is 2040", "context of pocket-s"],
        ),
        ("trajectories: {max_batch_tokens: 64}", ["max_new_tokens is 96", "trajectories: max_batch_tokens is 64"]),
        (
            "model_registry: {pocket-s: {engine: vllm, context: 4096}}",
            ["pocket-s: context is 4096, but the model reads at most 2048"],
        ),
        ("model_registry: {pocket-s: {parameters: 3}}", ["parameters is 3", "have 500256"]),
        (SET % FILES.replace("train.jsonl", "none.jsonl"), ["mine: train: path is 'none.jsonl', which does not exist"]),
        (SET % FILES.replace("train.jsonl", "empty"), ["mine: train: path is 'empty', which is not a file"]),
        (SET % FILES.replace("train.jsonl", "nothing.jsonl"), ["which is empty"]),
        (SET % ("annotations: none.csv, " + FILES), ["mine: annotations is 'none.csv', which does not exist"]),
        (
            SET % ("released_pairs: 'their/{model}', " + FILES),
            ["released_pairs is 'their/pocket-s' for pocket-s, which is not a folder"],
        ),
        (
            "prompts: {sampling: {few_shot: true}}\n" + SET % ("shots: {split: train, count: 3}, " + FILES),
            ["mine: shots: count is 3, but the split train has at most 1 problems"],
        ),
        ("published: {table1: none.csv}", ["published: table1 is 'none.csv', which does not exist"]),
    ],
)
def test_a_missing_file_or_folder_is_told(here, text, words):
    (here / "empty").mkdir()
    (here / "nothing.jsonl").touch()
    config, _ = read(here, text)
    with pytest.raises(ConfigError) as told:
        completion.check_folders(config)
    assert all(word in str(told.value) for word in words), told.value


def test_the_size_of_a_model_is_read_from_its_folder(here, pocket_source):
    from critical_tokens.models import checkpoints
    from critical_tokens.planning import sizing

    folder = model_folder(here)
    loaded = checkpoints.load_model(pocket_source)
    assert sizing.parameters({"path": str(folder)}) == sum(p.numel() for p in loaded.parameters()) == 500256
    assert sizing.parameters({"path": str(folder), "parameters": 7}) == 7
    config, _ = read(here, f"models: [mine]\nmodel_registry: {{mine: {{path: {folder}}}}}\ngpu_memory_gb: 1")
    completion.check_folders(config)


def test_a_context_stands_in_the_config_of_the_text_model(tmp_path):
    for number, (content, expected) in enumerate([
        ({"max_position_embeddings": 77}, 77),
        ({"text_config": {"max_position_embeddings": 99}, "max_position_embeddings": 7}, 99),
        ({"max_seq_len": 5}, 5),
        ({}, None),
    ]):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(content))
        assert model_files.longest(folder) == expected


def test_missing_packages_are_told(here, monkeypatch, tmp_path):
    from critical_tokens.configuration import model_entries as installed
    from critical_tokens.engines import opening

    config, _ = read(here, "model_registry: {pocket-s: {engine: vllm}}")
    lacking = {"vllm"}
    for module in (installed, opening):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in lacking else object())
    installed._missing.cache_clear()
    sentence = r"pocket-s: the engine vllm is not installed for .*`make vllm`.*--sdm conda"
    with pytest.raises(ConfigError, match=sentence):
        model_entries.check_packages(config, "pocket-s", tmp_path)
    model_entries.check_packages(config, "pocket-m", tmp_path)
    (tmp_path / ".venv-vllm").mkdir()
    (tmp_path / ".venv-vllm" / "installed").touch()
    model_entries.check_packages(config, "pocket-s", tmp_path)
    lacking |= {"math_verify", "peft"}
    installed._missing.cache_clear()
    with pytest.raises(ConfigError, match=r"peft, math_verify: not installed for .*make environment"):
        model_entries.check_packages(config, "pocket-m", tmp_path)
    installed._missing.cache_clear()


def test_more_shots_than_a_task_has_are_told(here):
    config, _ = read(here, "dataset_registry: {gsm8k: {shots: {count: 9}}}")
    with pytest.raises(ConfigError, match="gsm8k: shots: count is 9, but gsm8k_cot has 8 examples"):
        model_entries.check_task(config, "gsm8k")
    model_entries.check_task(config, "math")
    model_entries.check_task(config, "pocket-gsm")


def test_a_doubled_run_of_a_study_is_told():
    run = study_summaries.Evaluation("m", "d", "cdpo", 1, {"a": 1.0, "b": 0.0})
    with pytest.raises(Failure, match="cdpo of m on d with seed 1 is there twice"):
        study_summaries.summary_rows([run, run])
    other = study_summaries.Evaluation("m", "d", "cdpo", 2, {"a": 1.0, "b": 1.0})
    assert study_summaries.summary_rows([run, other])[0]["seeds"] == 2


# --- through Snakemake


@pytest.mark.workflow
def test_snakemake_ends_with_the_sentence_alone(clone, tmp_path):
    """No traceback, no line of a rule, exit status 1; where the mistake shows in the files, the
    sections or a job's inputs.
    """
    (tmp_path / "home").mkdir()
    texts = {
        "twice.yaml": "seeds: [1]\nseeds: [2]",
        "typo.yaml": "modls: [pocket-s]",
        "circle.yaml": "method_registry: {a: {objective: dpo, start: a}}",
        "study.yaml": "studies: {comparisons: {beta: {against: ppo}}}",
        "model.yaml": "model_registry: {pocket-s: {path: /nowhere}}",
        "path.yaml": 'pathvars: {results: "r{x}"}',
        "list.yaml": "[1, 2]",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    commands = [["-n", "--configfile", str(tmp_path / name)] for name in texts]
    commands += [
        ["-n", "--config", "seeds=[1,x]"],
        ["-n", "results/data/gsm8k/validation.parquet"],
        ["-n", "--config", "seeds=[1,2]", "models=[pocket-s]", "datasets=[pocket-gsm]"],
    ]
    outcomes = dry_runs.run_all(commands, clone)
    expected = [
        "error: {}/twice.yaml, line 2: seeds is already in line 1; a key may appear only once",
        "error: modls: there is no such key (did you mean 'models'?); config.yaml lists all keys",
        "error: method_registry: a: start: a -> a never reaches base",
        "error: studies: comparisons: beta: against is 'ppo', must be one of dpo, rpo, ",
        "error: model_registry: pocket-s: path is '/nowhere', which does not exist",
        "error: pathvars: results is 'r{{x}}'; a path must not have '{{' in it",
        "Config file must be given as JSON or YAML with keys at top level.",
        "error: seeds, entry 2 is 'x', must be a whole number",
        "error: dataset_registry: gsm8k has no validation split; give it a path, e.g. path: FILE.jsonl",
    ]
    for (status, output), words in zip(outcomes, expected, strict=False):
        assert status == 1, output
        assert output.splitlines()[-1].startswith(words.format(tmp_path)), output
        assert "Traceback" not in output
        assert "in file" not in output
    status, output = outcomes[-1]
    assert status == 0, output
    assert output.count("rule align:") == 12


@pytest.mark.workflow
def test_a_missing_engine_is_told_before_any_job_and_a_plan_goes_on(clone, tmp_path):
    (tmp_path / "engine.yaml").write_text("model_registry: {pocket-s: {engine: vllm}}")
    own = ["--cores", "1", "--configfile", str(tmp_path / "engine.yaml"), "--"]
    sampled = "results/pocket-s/pocket-gsm/trajectories.parquet"
    sentence = f"model_registry: pocket-s: the engine vllm is not installed for {sys.executable}: type `make vllm` in "
    ((status, output),) = dry_runs.run_all([["-n", *own, sampled]], clone)
    assert status == 0, output
    assert output.count(f"warning: {sentence}") == 1

    def run(target):
        command = [sys.executable, "-m", "snakemake", *own, target]
        return subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=60)

    refused = run(sampled)
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False), refused.stderr
    assert refused.stderr.splitlines()[-1].startswith(f"error: {sentence}")
    assert not (clone / "results").exists()
    plan = run("plan")
    assert plan.returncode == 0, plan.stderr
    assert plan.stderr.count(f"warning: {sentence}") == 1


@pytest.mark.workflow
def test_a_broken_config_of_the_project_is_told(clone):
    """Before Snakemake reads it, which would add the lines of the rules."""
    path = clone / "config.yaml"
    whole = path.read_text()
    path.write_text("- 1")
    try:
        ((status, output),) = dry_runs.run_all([["-n"]], clone)
    finally:
        path.write_text(whole)
    assert status == 1, output
    assert (
        output.splitlines()[-1]
        == "error: config.yaml: is a list, must be a mapping of keys to values, e.g. seeds: [1, 2, 3]"
    )


def test_a_file_that_cannot_be_read_is_told(here):
    (here / "latin.yaml").write_bytes("name: Zoë".encode("latin-1"))
    for name, words in (("none.yaml", "cannot be read"), ("latin.yaml", "is not UTF-8")):
        with pytest.raises(ConfigError, match=f"{name}: {words}"):
            files.read_files([here / name])
