"""Traffic of a model that runs: what a policy decides reaches later layers and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.nn import functional

from moeprof.evaluation.traffic.kv_cache import copied_with_room
from moeprof.evaluation.traffic.slots import numbers
from moeprof.gate.rule import Routing
from moeprof.router.patch import patch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from moeprof.evaluation.traffic.protocol import Decide
    from moeprof.gate.rule import GateRule
    from moeprof.router.protocol import RoutingContext


@dataclass(frozen=True, slots=True, eq=False)
class LiveTraffic:
    """Requests of held-out text, decoded by a model that is told every next token.

    All seeds' sequences run in one forward pass per step. Plain top-k routes the context once;
    each run begins with a copy of its keys and values, so that policies differ in decode alone.
    MoE layers beyond those simulated route as the model does.
    """

    model: nn.Module
    tokens: Tensor
    """[num_seeds · batch_size, context, steps and one more], int64."""
    chosen: NDArray[np.int64]
    """[num_seeds, batch_size]: the window of the text in each slot."""
    context: Any
    """The Transformers cache of the first tokens of each sequence."""
    num_context: int
    num_seeds: int
    rules: tuple[GateRule, ...]
    places: Mapping[int, int]
    """The place among the layers simulated of a decoder layer's index."""
    profiled: NDArray[np.int64]
    """What `profile` returns."""
    kind: Literal["live"] = "live"

    @property
    def num_steps(self) -> int:
        """Steps of a run, settling steps included."""
        return self.tokens.shape[1] - self.num_context - 1

    @property
    def num_layers(self) -> int:
        """MoE layers that are simulated."""
        return len(self.rules)

    @property
    def batch_size(self) -> int:
        """Requests that are decoded at once."""
        return int(self.chosen.shape[1])

    @property
    def num_experts(self) -> int:
        """Experts of every layer."""
        return self.rules[0].num_experts

    @property
    def top_k(self) -> int:
        """Experts of each token."""
        return self.rules[0].top_k

    def requests(self) -> NDArray[np.int64]:
        """Return which request stands where, [num_seeds, num_steps, batch_size]."""
        return numbers(np.repeat(self.chosen[:, None], self.num_steps, axis=1))

    def profile(self) -> NDArray[np.int64]:
        """Return rows per expert, [num_steps_profiled, num_layers, num_experts]."""
        return self.profiled

    def run(self, decide: Decide) -> NDArray[np.float64]:
        """Have every step and layer decided while the model runs, and return the losses.

        Cross-entropy in nats of each true next token, [num_seeds, num_steps, batch_size]. Raises
        WorkloadError: an answer cannot be used.
        """
        seat = _Seat(decide, self.places, self.num_seeds)
        losses = torch.empty(self.num_steps, len(self.tokens), dtype=torch.float64)
        with torch.inference_mode(), patch(self.model, seat):
            cache = copied_with_room(self.context, self.num_steps)
            for step in range(self.num_steps):
                seat.step = step
                at = self.num_context + step
                answer = self.model(
                    input_ids=self.tokens[:, at : at + 1], past_key_values=cache, use_cache=True
                )
                losses[step] = functional.cross_entropy(
                    answer.logits[:, -1].double(), self.tokens[:, at + 1], reduction="none"
                )
        by_slot = losses.numpy().reshape(self.num_steps, self.num_seeds, -1)
        return np.ascontiguousarray(by_slot.transpose(1, 0, 2))


class _Seat:
    """A router that hands all seeds' logits to whoever decides."""

    def __init__(self, decide: Decide, places: Mapping[int, int], num_seeds: int) -> None:
        self.step = 0
        self._decide = decide
        self._places = places
        self._num_seeds = num_seeds

    def route(self, logits: Tensor, context: RoutingContext) -> Routing:
        """Return the decision on logits, [num_seeds · batch_size, num_experts]."""
        place = self._places.get(context.layer)
        if place is None:
            return context.rule.choose(logits)
        shown = logits.float().view(self._num_seeds, -1, logits.shape[-1])
        answer = self._decide(self.step, place, shown)
        return Routing(answer.experts.flatten(0, 1), answer.weights.flatten(0, 1))
