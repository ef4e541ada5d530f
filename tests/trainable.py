"""Tiny random models with features that matter in training: dropout, layers, positions, experts."""

from architectures import PLAIN, SHARED, config_of, random_model

from critical_tokens.objectives.registry import Method

_OPT, _FALCON, _PHI = ({**SHARED, **PLAIN}[name][1] for name in ("opt", "falcon", "phi"))
_LLAMA = SHARED["llama"][1]
CONFIGS = {
    "llama": SHARED["llama"],
    "gpt2": SHARED["gpt-2"],  # dropout 0.1 by default
    "gpt_neox": SHARED["gpt-neox"],
    "opt": ("OPTConfig", _OPT | {"layerdrop": 0.5, "attention_dropout": 0.2}),
    "bloom": ("BloomConfig", PLAIN["bloom"][1] | {"hidden_dropout": 0.1, "attention_dropout": 0.1}),
    "falcon": ("FalconConfig", _FALCON | {"hidden_dropout": 0.1, "attention_dropout": 0.1}),
    "phi": ("PhiConfig", _PHI | {"resid_pdrop": 0.1, "embd_pdrop": 0.1}),
    "mixtral": (
        "MixtralConfig",
        _LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "router_jitter_noise": 0.1},
    ),
    "gpt_oss": PLAIN["gpt-oss"],
    "mamba": PLAIN["mamba"],
}
NAMES = tuple(CONFIGS)


def tiny(name):
    """A random model in evaluation mode, the same every time."""
    return random_model(*CONFIGS[name])


def tiny_config(name):
    return config_of(*CONFIGS[name])


def method_with(objective, gamma):
    """The method with this gamma, which the likelihood does not read."""
    return Method(objective, {} if objective == "nll" else {"gamma": gamma})
