"""The rule of gpt-oss: the top k of the logits, then a softmax over those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moeprof.gate.rule import Judged, Routing
from moeprof.gate.tuning import PLAIN, GateTuning

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TopLogitsRule:
    """The k greatest logits; their softmax, in the logits' own type, are the weights.

    Source: the operations, and their order, of `GptOssTopKRouter` in transformers 5.23
    (arXiv:2508.10925).
    """

    num_experts: int
    top_k: int
    tuning: GateTuning = PLAIN

    @property
    def renormalised(self) -> bool:
        """Always: weights are a softmax over the experts that are used."""
        return True

    def scores(self, logits: Tensor) -> Tensor:
        """Return the probabilities over all experts, float32, [num_tokens, num_experts].

        Weights are these divided by their sum, but for rounding.
        """
        return torch.softmax(self.tuning.tempered(logits), dim=-1, dtype=torch.float32)

    def preferences(self, logits: Tensor) -> Tensor:
        """Return the logits, [num_tokens, num_experts]; a bias is added to logits here."""
        return self.tuning.biased(self.tuning.tempered(logits))

    def weights(self, logits: Tensor, experts: Tensor) -> Tensor:
        """Return the weights of `experts`, both [num_tokens, k], in the logits' type."""
        chosen = self.tuning.tempered(logits).gather(-1, experts)
        return torch.softmax(chosen, dim=1, dtype=chosen.dtype).to(logits.dtype)

    def choose(self, logits: Tensor) -> Routing:
        """Return the model's own choice, its experts by falling preference."""
        experts = self.preferences(logits).topk(self.top_k, dim=-1).indices
        return Routing(experts, self.weights(logits, experts))

    def judge(self, logits: Tensor, num_candidates: int) -> Judged:
        """Return a batch with its best `num_candidates` experts, top_k or more, in one pass."""
        preferences = self.preferences(logits)
        candidates = preferences.topk(num_candidates, dim=-1).indices
        experts = candidates[:, : self.top_k]
        plain = Routing(experts, self.weights(logits, experts))
        return Judged(self.scores(logits), preferences, candidates, plain)
