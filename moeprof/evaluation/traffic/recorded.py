"""Traffic of a routing trace: its requests decoded again, their gate logits as recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from moeprof.errors import TraceError
from moeprof.evaluation.traffic.slots import (
    draw_slots,
    generator,
    num_steps_profiled,
    numbers,
    rows_of_steps,
    split,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from moeprof.evaluation.traffic.protocol import Decide
    from moeprof.evaluation.traffic.traced import TracedTokens
    from moeprof.gate.rule import GateRule
    from moeprof.recipe.scene import Scene


@dataclass(frozen=True, slots=True, eq=False)
class RecordedTraffic:
    """Requests of a trace.

    What a policy decides does not reach later layers and tokens: their logits are recorded. The
    trace is held once; a step gathers its rows, so that memory does not grow with steps or seeds.
    """

    tokens: Tensor
    """[num_steps, num_seeds, batch_size]: rows of `logits`."""
    logits: tuple[Tensor, ...]
    """Of each layer, [num_tokens, num_experts], float32."""
    rules: tuple[GateRule, ...]
    numbers: NDArray[np.int64]
    """What `requests` returns."""
    profiled: NDArray[np.int64]
    """What `profile` returns."""
    kind: Literal["recorded"] = "recorded"

    @property
    def num_seeds(self) -> int:
        """Sets of requests."""
        return self.tokens.shape[1]

    @property
    def num_steps(self) -> int:
        """Steps of a run, settling steps included."""
        return self.tokens.shape[0]

    @property
    def num_layers(self) -> int:
        """MoE layers that are simulated."""
        return len(self.logits)

    @property
    def batch_size(self) -> int:
        """Requests that are decoded at once."""
        return self.tokens.shape[2]

    @property
    def num_experts(self) -> int:
        """Experts of every layer."""
        return self.rules[0].num_experts

    @property
    def top_k(self) -> int:
        """Experts that the model uses for each token."""
        return self.rules[0].top_k

    def requests(self) -> NDArray[np.int64]:
        """Return which request stands where, [num_seeds, num_steps, batch_size]."""
        return self.numbers

    def profile(self) -> NDArray[np.int64]:
        """Return rows per expert, [num_steps_profiled, num_layers, num_experts]."""
        return self.profiled

    def run(self, decide: Decide) -> None:
        """Have every step and layer decided, in order; quality is not known."""
        for step in range(self.num_steps):
            rows = self.tokens[step].flatten()
            for place, logits in enumerate(self.logits):
                shown = logits.index_select(0, rows)
                decide(step, place, shown.view(self.num_seeds, self.batch_size, -1))


def recorded_traffic(scene: Scene, traced: TracedTokens) -> RecordedTraffic:
    """Return the traffic that a scene asks of a trace, every seed with its own choice of requests.

    A random fourth of the requests is not simulated: balancers are shown it.

    Raises TraceError: fewer than two requests are longer than the context.
    """
    traffic = scene.traffic
    long = np.flatnonzero(traced.lengths > traffic.context_tokens)
    if len(long) < 2:  # noqa: PLR2004 - one to simulate, one to profile
        raise TraceError(
            f"{traced.path}: must have two requests longer than traffic.context_tokens "
            f"{traffic.context_tokens}, its longest has {traced.lengths.max()} tokens",
            hint="Give fewer context_tokens, a trace of longer requests, or generated traffic.",
        )
    simulated, reserved = (long[places] for places in split(len(long), scene.seed))
    num_steps = traffic.num_settling_steps + traffic.num_steps
    drawn = [
        _tokens(scene, traced, simulated, num_steps, generator(scene.seed, 1, seed))
        for seed in range(scene.num_seeds)
    ]
    num_profiled = num_steps_profiled(traffic.batch_size)
    shown, _ = _tokens(scene, traced, reserved, num_profiled, generator(scene.seed, 2))
    experts = [
        rule.choose(logits).experts.numpy()
        for rule, logits in zip(traced.rules, traced.logits, strict=True)
    ]
    return RecordedTraffic(
        tokens=torch.from_numpy(np.stack([tokens for tokens, _ in drawn], axis=1)),
        logits=traced.logits,
        rules=traced.rules,
        numbers=numbers(np.stack([requests for _, requests in drawn])),
        profiled=rows_of_steps(experts, shown, traced.num_experts),
    )


def _tokens(
    scene: Scene,
    traced: TracedTokens,
    pool: NDArray[np.int64],
    num_steps: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of the trace and their requests' numbers, both [num_steps, batch_size]."""
    slots = draw_slots(
        traced.lengths[pool],
        context_tokens=scene.traffic.context_tokens,
        num_steps=num_steps,
        batch_size=scene.traffic.batch_size,
        random=random,
    )
    requests = pool[slots.requests]
    return traced.starts[requests] + slots.positions, traced.requests[requests]
