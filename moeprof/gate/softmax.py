"""The rule of Mixtral, Qwen-MoE, OLMoE and upcycled models: a softmax, then its top k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moeprof.gate.rule import Judged, Routing
from moeprof.gate.tuning import PLAIN, GateTuning

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxRule:
    """Softmax over all experts in float32, the k most probable, their probabilities as weights.

    Operations in the order of transformers 5.23: `MixtralTopKRouter` (arXiv:2401.04088) divides
    the weights by their sum and leaves them in float32; `Qwen3MoeTopKRouter`, `Qwen2MoeTopKRouter`
    and `OlmoeTopKRouter` divide only where `norm_topk_prob` says so and return to the logits' type.
    """

    num_experts: int
    top_k: int
    renormalised: bool
    """Whether a token's weights are divided by their sum."""
    float32_weights: bool
    """Whether weights stay in float32; else they take the logits' type."""
    tuning: GateTuning = PLAIN

    def scores(self, logits: Tensor) -> Tensor:
        """Return the probabilities, float32, [num_tokens, num_experts]."""
        return torch.softmax(self.tuning.tempered(logits), dim=-1, dtype=torch.float32)

    def preferences(self, logits: Tensor) -> Tensor:
        """Return the probabilities with the bias, float32, [num_tokens, num_experts]."""
        return self.tuning.biased(self.scores(logits))

    def weights(self, logits: Tensor, experts: Tensor) -> Tensor:
        """Return the weights of `experts`, both [num_tokens, k]."""
        return self._weights(self.scores(logits), experts, logits.dtype)

    def choose(self, logits: Tensor) -> Routing:
        """Return the model's own choice, its experts by falling preference."""
        scores = self.scores(logits)
        experts = self.tuning.biased(scores).topk(self.top_k, dim=-1).indices
        return Routing(experts, self._weights(scores, experts, logits.dtype))

    def judge(self, logits: Tensor, num_candidates: int) -> Judged:
        """Return a batch with its best `num_candidates` experts, top_k or more, in one pass."""
        scores = self.scores(logits)
        preferences = self.tuning.biased(scores)
        candidates = preferences.topk(num_candidates, dim=-1).indices
        experts = candidates[:, : self.top_k]
        plain = Routing(experts, self._weights(scores, experts, logits.dtype))
        return Judged(scores, preferences, candidates, plain)

    def _weights(self, scores: Tensor, experts: Tensor, dtype: torch.dtype) -> Tensor:
        chosen = scores.gather(-1, experts)
        if self.renormalised:
            chosen = chosen / chosen.sum(dim=-1, keepdim=True)
        return chosen if self.float32_weights else chosen.to(dtype)
