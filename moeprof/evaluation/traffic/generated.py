"""Traffic for any number of experts, its gate logits drawn by a law fitted to recorded ones."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from moeprof.evaluation.traffic.law import rescaled
from moeprof.evaluation.traffic.slots import (
    generator,
    num_steps_profiled,
    numbers,
    rows_of_steps,
)
from moeprof.gate.softmax import SoftmaxRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from moeprof.evaluation.traffic.law import LogitLaw
    from moeprof.evaluation.traffic.protocol import Decide
    from moeprof.gate.rule import GateRule
    from moeprof.recipe.scene import Scene
    from moeprof.workload.layer import MoELayer


@dataclass(frozen=True, slots=True, eq=False)
class GeneratedTraffic:
    """Requests that last for all steps, their logits drawn anew, and alike, in every run.

    What is held grows with layers, seeds, batch and experts, not with steps. The logits of a seed
    do not depend on how many others there are. How popular experts are is the model's, so all
    seeds share it.
    """

    law: LogitLaw
    seed: int
    num_seeds: int
    num_steps: int
    batch_size: int
    rules: tuple[GateRule, ...]
    kind: Literal["generated"] = "generated"

    @property
    def num_layers(self) -> int:
        """MoE layers that are simulated."""
        return len(self.rules)

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
        shape = (self.num_seeds, self.num_steps, self.batch_size)
        return numbers(np.broadcast_to(np.arange(self.batch_size), shape))

    def profile(self) -> NDArray[np.int64]:
        """Return rows per expert, [num_steps_profiled, num_layers, num_experts].

        Every token is of a request of its own, so a balancer sees the model and not one batch.
        """
        num_steps = num_steps_profiled(self.batch_size)
        places = np.arange(num_steps * self.batch_size)
        draw = generator(self.seed, 2)
        rest = sqrt(1 - self.law.popularity_fraction)
        chosen = []
        for popularity, rule in zip(self._popularity(), self.rules, strict=True):
            own = draw.standard_normal((len(places), self.num_experts), dtype=np.float32)
            logits = self.law.logits(popularity + rest * torch.from_numpy(own))
            chosen.append(rule.choose(logits).experts.numpy())
        return rows_of_steps(chosen, places.reshape(num_steps, -1), self.num_experts)

    def run(self, decide: Decide) -> None:
        """Have every step and layer decided, in order; quality is not known."""
        seeds = [generator(self.seed, 1, seed) for seed in range(self.num_seeds)]
        shape = (self.batch_size, self.num_experts)
        fraction = self.law.request_fraction
        rest = sqrt(1 - self.law.popularity_fraction)
        standing = [
            popularity + rest * sqrt(fraction) * _normal(seeds, shape)
            for popularity in self._popularity()
        ]
        moving = [_normal(seeds, shape) for _ in standing]
        share, memory = rest * sqrt(1 - fraction), self.law.memory_fraction
        for step in range(self.num_steps):
            for place, (lasting, token) in enumerate(zip(standing, moving, strict=True)):
                if step:
                    # Stationary: the variance of a token's part is 1 at every step.
                    token.mul_(memory).add_(_normal(seeds, shape), alpha=sqrt(1 - memory**2))
                decide(step, place, self.law.logits(torch.add(lasting, token, alpha=share)))

    def _popularity(self) -> list[Tensor]:
        """Return the experts' part of each layer's scores, [num_experts] each."""
        share = sqrt(self.law.popularity_fraction)
        draws = (generator(self.seed, 0, place) for place in range(self.num_layers))
        return [
            torch.from_numpy(share * draw.standard_normal(self.num_experts)).float()
            for draw in draws
        ]


def generated_traffic(
    scene: Scene, layer: MoELayer, law: LogitLaw, *, num_moe_layers: int
) -> GeneratedTraffic:
    """Return the traffic that a scene asks of a law, for the experts of `layer`.

    The gate is Mixtral's and Qwen3's: a softmax over all experts, the weights of the chosen ones
    divided by their sum.
    """
    traffic = scene.traffic
    rule = SoftmaxRule(layer.num_experts, layer.top_k, renormalised=True, float32_weights=True)
    return GeneratedTraffic(
        law=law if layer.num_experts == 1 else rescaled(law, layer.num_experts),
        seed=scene.seed,
        num_seeds=scene.num_seeds,
        num_steps=traffic.num_settling_steps + traffic.num_steps,
        batch_size=traffic.batch_size,
        rules=(rule,) * (traffic.num_layers or num_moe_layers),
    )


def _normal(seeds: Sequence[np.random.Generator], shape: tuple[int, int]) -> Tensor:
    """Return standard normal numbers, [num_seeds, *shape], each seed's of its own."""
    drawn = np.empty((len(seeds), *shape), dtype=np.float32)
    for random, out in zip(seeds, drawn, strict=True):
        random.standard_normal(out=out, dtype=np.float32)
    return torch.from_numpy(drawn)
