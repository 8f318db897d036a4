"""The role of traffic: the gate logits of every step and layer, of all seeds in lockstep."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor

from moeprof.gate.rule import GateRule, Routing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["recorded", "live", "generated"]

Decide = Callable[[int, int, Tensor], Routing]
"""Of a step, the place of an MoE layer among those simulated, and logits, [num_seeds, batch_size,
num_experts], float32: the routing, experts and weights [num_seeds, batch_size, k].

The logits are the traffic's: not to be written to.
"""


class Traffic(Protocol):
    """Requests being decoded, one set of them for each seed.

    Every run has the same requests in the same places, so that policies are compared in pairs.
    """

    @property
    def kind(self) -> Kind:
        """Where the logits come from."""

    @property
    def num_seeds(self) -> int:
        """Sets of requests."""

    @property
    def num_steps(self) -> int:
        """Steps of a run, settling steps included."""

    @property
    def num_layers(self) -> int:
        """MoE layers that are simulated."""

    @property
    def batch_size(self) -> int:
        """Requests that are decoded at once."""

    @property
    def num_experts(self) -> int:
        """Experts of every layer."""

    @property
    def top_k(self) -> int:
        """Experts that the model uses for each token."""

    @property
    def rules(self) -> tuple[GateRule, ...]:
        """The gate's rule of each layer."""

    def requests(self) -> NDArray[np.int64]:
        """Return which request stands where in the batch, [num_seeds, num_steps, batch_size].

        No two seeds share a number, though they may share a request's text.
        """

    def profile(self) -> NDArray[np.int64]:
        """Return what a balancer may have seen before, [num_steps_profiled, num_layers, E].

        Rows per expert of plain top-k in batches of `batch_size` tokens, none of them simulated.
        """

    def run(self, decide: Decide) -> NDArray[np.float64] | None:
        """Have every step and layer decided, in order, and return what it did to quality.

        That is the cross-entropy in nats of the true next token of each token, [num_seeds,
        num_steps, batch_size]; None where no model ran.
        """
