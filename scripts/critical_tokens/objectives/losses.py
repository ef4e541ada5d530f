"""Training objectives as pure functions of per-token log-probabilities, masks and weights.

Shapes, unless a function says otherwise:
- `logps` (batch, tokens) holds log p(y_t | x, y_<t) of the answers' tokens.
- `mask` (batch, tokens) is 1 on answer tokens and 0 on padding.
- `weights` (batch, tokens) holds one factor per token.
- Preference losses return one loss per pair, shape (pairs,).

"Released" means the authors' code (commit 228991e). The paper's gamma is what DPO calls beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def token_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """log softmax(logits)[labels], float32, shape (batch, tokens).

    Shapes: logits (batch, tokens, vocabulary), labels (batch, tokens).
    """
    logits = logits.float()
    picked = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return picked - logits.logsumexp(-1)


def weighted_nll(logps: Tensor, weights: Tensor, total: Tensor | None = None) -> Tensor:
    """Weighted mean of the tokens' negative log-likelihood, a scalar; 0 if all weights are 0.

    total: what the weighted sum is divided by. It is the weight of the whole update where this
    batch is one of several, and the batch's own weight if None.
    """
    total = weights.sum() if total is None else total
    return -(weights * logps).sum() / total.clamp_min(1e-12)


def log_ratio(logps: Tensor, reference: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """sum_t w_t log(pi_t / ref_t) over answer tokens, shape (batch,).

    Without weights every w_t is 1, as in DPO.
    """
    factor = mask if weights is None else mask * weights
    return ((logps - reference) * factor).sum(-1)


def dpo(chosen: Tensor, rejected: Tensor, gamma: float) -> Tensor:
    """-log sigmoid(gamma (chosen - rejected)) for log-ratios of shape (pairs,).

    This is equation 7 of Rafailov et al. 2023. If the tokens of the rejected answers are weighted
    by w_t = 1 - s_t in their log-ratios, it is cDPO (Lin et al. 2025) with one sigmoid per pair.
    """
    return -_log_sigmoid(gamma * (chosen - rejected))


def cdpo_released(
    logps: Tensor, reference: Tensor, mask: Tensor, weights: Tensor, chosen_rows: int, gamma: float
) -> Tensor:
    """cDPO with one sigmoid per token position, as released (train_cdpo.py:159-164).

    The first `chosen_rows` rows are the chosen answers, the others their rejected partners. Tokens
    of a pair are aligned by their absolute index. Returns shape (pairs, tokens). The released loss
    is the mean over all of it, where each position of prompt or padding contributes log 2.
    """
    ratio = (logps - reference) * mask
    margin = ratio[:chosen_rows] - (weights * ratio)[chosen_rows:]
    return -_log_sigmoid(gamma * margin)


def rpo(chosen: Tensor, rejected: Tensor, chosen_nll: Tensor, gamma: float, alpha: float) -> Tensor:
    """DPO plus alpha times `chosen_nll` (Pang et al. 2024, version 3).

    chosen_nll: mean negative log-likelihood of the chosen tokens of the batch, a scalar, as in TRL,
    which the paper used.
    """
    return dpo(chosen, rejected, gamma) + alpha * chosen_nll


@dataclass(frozen=True)
class TDPO:
    """Token-level DPO (Zeng et al. 2024).

    Variant 1 has no alpha, and gradients flow through both divergences. Variant 2 scales their
    difference by alpha, and no gradient flows through that of the chosen answer.
    """

    variant: int = 2
    alpha: float = 0.5

    def __call__(
        self, chosen: Tensor, rejected: Tensor, chosen_kl: Tensor, rejected_kl: Tensor, gamma: float
    ) -> Tensor:
        """Losses of shape (pairs,).

        chosen, rejected: log-ratios of the answers, shape (pairs,).
        chosen_kl, rejected_kl: sequential divergences sum_t KL(ref || pi), shape (pairs,).
        """
        excess = rejected_kl - chosen_kl if self.variant == 1 else self.alpha * (rejected_kl - chosen_kl.detach())
        return -_log_sigmoid(gamma * (chosen - rejected - excess))


def sequential_kl(reference_logits: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """sum_t KL(ref || pi) over answer tokens, shape (batch,).

    Both logits have the shape (batch, tokens, vocabulary).
    """
    reference = reference_logits.float().log_softmax(-1)
    divergence = (reference.exp() * (reference - logits.float().log_softmax(-1))).sum(-1)
    return (divergence * mask).sum(-1)


def _log_sigmoid(x: Tensor) -> Tensor:
    import torch

    return torch.nn.functional.logsigmoid(x)
