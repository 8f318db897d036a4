"""The auxiliary losses of a gate, each with its source, its least value and its greatest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from moeprof.recipe.training import LossSection
    from moeprof.training.gate_watch import GateAnswer


def switch(answer: GateAnswer) -> Tensor:
    """Return E · Σ f·P over experts: f is the load, P the mean probability.

    Switch Transformers, arXiv:2101.03961, equations 4 to 6; f counts the (token, slot) pairs, so
    that Σ f = 1 for every top k. 1 where both are uniform; E where one expert has all. The
    gradient flows through P only. An f and a P that avoid each other may give less than 1.
    """
    mean = answer.probabilities.mean(dim=0)
    return answer.num_experts * (answer.load_fractions() * mean).sum()


def deviation(answer: GateAnswer) -> Tensor:
    """Return the standard deviation of the tokens per expert, over their mean.

    Of the tokens that are expected, Σ P over tokens, because counts have no gradient: the square
    root of the importance loss of arXiv:1701.06538, equation 7. 0 where the mean probabilities
    are uniform; √(E - 1) where one expert has all.
    """
    relative = answer.probabilities.mean(dim=0) * answer.num_experts
    # The norm's gradient is 0 at 0, where a square root's is infinite.
    distance: Tensor = torch.linalg.vector_norm(relative - 1)
    return distance / math.sqrt(answer.num_experts)


def entropy(answer: GateAnswer) -> Tensor:
    """Return ln E minus the mean entropy of a token's probabilities, in nats.

    A confidence penalty (arXiv:1701.06548) on each token for itself. 0 where each token's
    probabilities are uniform; ln E where each token is sure, whichever expert it is sure of.
    """
    return math.log(answer.num_experts) - token_entropy(answer.probabilities)


def kl_uniform(answer: GateAnswer) -> Tensor:
    """Return the divergence KL(P ‖ uniform) of the mean probabilities of the batch, in nats.

    Kullback and Leibler 1951, doi:10.1214/aoms/1177729694. 0 where the batch uses all experts
    alike, however sure each token is; ln E where one expert has all.
    """
    mean = answer.probabilities.mean(dim=0)
    return math.log(answer.num_experts) - _entropy(mean)


def z_loss(answer: GateAnswer) -> Tensor:
    """Return the mean of the squared log-sum-exp of the logits.

    ST-MoE, arXiv:2202.08906, equation 5. It keeps logits small and balances nothing: 0 where the
    log-sum-exp is 0, (ln E)² where all logits are 0, without bound above.
    """
    return torch.logsumexp(answer.logits.float(), dim=-1).square().mean()


def token_entropy(probabilities: Tensor) -> Tensor:
    """Return the mean entropy of the rows of [num_tokens, num_experts], in nats."""
    return _entropy(probabilities).mean()


def _entropy(probabilities: Tensor) -> Tensor:
    # At 0 the logarithm's gradient is infinite, and times 0 not a number.
    tiny = torch.finfo(probabilities.dtype).tiny
    return -(probabilities * probabilities.clamp_min(tiny).log()).sum(dim=-1)


LOSSES: Final[dict[str, Callable[[GateAnswer], Tensor]]] = {
    "switch": switch,
    "deviation": deviation,
    "entropy": entropy,
    "kl-uniform": kl_uniform,
    "z-loss": z_loss,
}


def auxiliary(answers: Sequence[GateAnswer], sections: Sequence[LossSection]) -> dict[str, Tensor]:
    """Return each loss of a recipe, its mean over the layers, times its weight."""
    return {
        section.name: section.weight
        * torch.stack([LOSSES[section.name](answer) for answer in answers]).mean()
        for section in sections
    }
