"""The rule of DeepSeek-V3: sigmoids, of which the top k is taken within the best groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from moeprof.gate.rule import Judged, Routing
from moeprof.gate.tuning import PLAIN, GateTuning

if TYPE_CHECKING:
    from torch import Tensor

_BEST_OF_GROUP: Final = 2  # a group counts for its two best experts, arXiv:2412.19437, 2.1.2
_TINY: Final = 1e-20  # what DeepseekV3TopkRouter adds to the sum that it divides by


@dataclass(frozen=True, slots=True, eq=False)
class GroupedSigmoidRule:
    """A sigmoid per expert; a bias decides with it who is chosen, the sigmoid alone what it counts.

    Source: arXiv:2412.19437, section 2.1.2, with the operations, and their order, of
    `DeepseekV3TopkRouter` in transformers 5.23. Experts come in the order that an unsorted top-k
    gives.
    """

    num_experts: int
    top_k: int
    num_groups: int
    num_groups_used: int
    """Groups of neighbouring experts that a token may use, and how many of them it does."""
    renormalised: bool
    """Whether a token's weights are divided by their sum, before they are scaled."""
    scaling_factor: float
    """What weights are multiplied by."""
    correction_bias: Tensor
    """The model's own balancing bias, [num_experts]."""
    tuning: GateTuning = PLAIN

    def scores(self, logits: Tensor) -> Tensor:
        """Return the sigmoids, [num_tokens, num_experts], float32 as the logits are."""
        return self.tuning.tempered(logits).sigmoid()

    def preferences(self, logits: Tensor) -> Tensor:
        """Return biased sigmoids, [num_tokens, num_experts], -inf outside a token's groups."""
        return self._preferences(self.scores(logits))

    def weights(self, logits: Tensor, experts: Tensor) -> Tensor:
        """Return the weights of `experts`, both [num_tokens, k]."""
        return self._weights(self.scores(logits), experts)

    def choose(self, logits: Tensor) -> Routing:
        """Return the model's own choice."""
        scores = self.scores(logits)
        experts = self._preferences(scores).topk(self.top_k, dim=-1, sorted=False).indices
        return Routing(experts, self._weights(scores, experts))

    def judge(self, logits: Tensor, num_candidates: int) -> Judged:
        """Return a batch with its best `num_candidates` experts, top_k or more, in one pass."""
        scores = self.scores(logits)
        preferences = self._preferences(scores)
        candidates = preferences.topk(num_candidates, dim=-1).indices
        experts = candidates[:, : self.top_k]
        plain = Routing(experts, self._weights(scores, experts))
        return Judged(scores, preferences, candidates, plain)

    def _preferences(self, scores: Tensor) -> Tensor:
        biased = self.tuning.biased(scores + self.correction_bias.to(scores.device))
        by_group = biased.view(-1, self.num_groups, self.num_experts // self.num_groups)
        worth = by_group.topk(_BEST_OF_GROUP, dim=-1).values.sum(dim=-1)
        used = worth.topk(self.num_groups_used, dim=-1, sorted=False).indices
        forbidden = torch.ones_like(worth, dtype=torch.bool).scatter(1, used, value=False)
        return by_group.masked_fill(forbidden.unsqueeze(-1), float("-inf")).view_as(biased)

    def _weights(self, scores: Tensor, experts: Tensor) -> Tensor:
        chosen = scores.gather(1, experts)
        if self.renormalised:
            chosen = chosen / (chosen.sum(dim=-1, keepdim=True) + _TINY)
        return chosen * self.scaling_factor
