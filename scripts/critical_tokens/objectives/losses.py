"""Training objectives as pure functions of per-token log-probabilities, masks and weights.

Shapes: `logps` (batch, tokens) holds log p(y_t | x, y_<t) of the answers' tokens, `mask` is 1 on
answer tokens and 0 on padding, `weights` are per-token factors. Preference losses return one loss
per pair, shape (pairs,), unless they say otherwise. "Released" means the authors' code (commit
228991e); gamma is the paper's name of what DPO calls beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def token_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """log softmax(logits)[labels], computed in float32. logits (batch, tokens, vocabulary), labels
    (batch, tokens).
    """
    logits = logits.float()
    picked = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return picked - logits.logsumexp(-1)


def weighted_nll(logps: Tensor, weights: Tensor, total: Tensor | None = None) -> Tensor:
    """Weighted mean of the negative log-likelihood over the tokens; 0 where no token has weight.
    Scalar.

    `total` is the weight that the sum is divided by: that of all batches of an update, where this
    is one of several; the batch's own weight if None.
    """
    total = weights.sum() if total is None else total
    return -(weights * logps).sum() / total.clamp_min(1e-12)


def log_ratio(logps: Tensor, reference: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """sum_t w_t log(pi_t / ref_t) over answer tokens, shape (batch,). Without weights every token
    weighs 1 (DPO).
    """
    factor = mask if weights is None else mask * weights
    return ((logps - reference) * factor).sum(-1)


def dpo(chosen: Tensor, rejected: Tensor, gamma: float) -> Tensor:
    """-log sigmoid(gamma (chosen - rejected)) for log-ratios of shape (pairs,) (Rafailov et al.
    2023, equation 7).

    With log-ratios of weighted rejected tokens, w_t = 1 - s_t, this is cDPO (Lin et al. 2025): one
    sigmoid per pair.
    """
    return -_log_sigmoid(gamma * (chosen - rejected))


def cdpo_released(
    logps: Tensor, reference: Tensor, mask: Tensor, weights: Tensor, chosen_rows: int, gamma: float
) -> Tensor:
    """cDPO as the released code computes it: one sigmoid per token position
    (train_cdpo.py:159-164).

    The first `chosen_rows` rows are chosen, the others their rejected partners, aligned by absolute
    index. Shape (pairs, tokens): the released loss is the mean of it, prompt and padding included,
    which contribute log 2 each.
    """
    ratio = (logps - reference) * mask
    margin = ratio[:chosen_rows] - (weights * ratio)[chosen_rows:]
    return -_log_sigmoid(gamma * margin)


def rpo(chosen: Tensor, rejected: Tensor, chosen_nll: Tensor, gamma: float, alpha: float) -> Tensor:
    """DPO plus alpha times the negative log-likelihood of the chosen answers (Pang et al. 2024,
    version 3).

    `chosen_nll`: scalar mean over the chosen tokens of the batch, as in TRL, which the paper used.
    """
    return dpo(chosen, rejected, gamma) + alpha * chosen_nll


@dataclass(frozen=True)
class TDPO:
    """Token-level DPO (Zeng et al. 2024): variant 1 has no alpha and differentiates both
    divergences.
    """

    variant: int = 2
    alpha: float = 0.5

    def __call__(
        self, chosen: Tensor, rejected: Tensor, chosen_kl: Tensor, rejected_kl: Tensor, gamma: float
    ) -> Tensor:
        """Losses of shape (pairs,) from log-ratios and sequential divergences sum_t KL(ref || pi),
        all (pairs,).
        """
        excess = rejected_kl - chosen_kl if self.variant == 1 else self.alpha * (rejected_kl - chosen_kl.detach())
        return -_log_sigmoid(gamma * (chosen - rejected - excess))


def sequential_kl(reference_logits: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """sum_t KL(ref || pi) over the whole vocabulary at each answer token; logits (batch, tokens,
    vocabulary) -> (batch,).
    """
    reference = reference_logits.float().log_softmax(-1)
    divergence = (reference.exp() * (reference - logits.float().log_softmax(-1))).sum(-1)
    return (divergence * mask).sum(-1)


def _log_sigmoid(x: Tensor) -> Tensor:
    import torch

    return torch.nn.functional.logsigmoid(x)
