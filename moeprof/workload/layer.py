"""The shape of one Mixture-of-Experts layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROJECTIONS = 3  # gate, up and down


@dataclass(frozen=True, slots=True)
class MoELayer:
    """One MoE layer with gated experts: every expert has a gate, an up and a down projection.

    `hidden_size` is d, `expert_size` f, `num_experts` E (routed experts) and `top_k` k. Shared
    experts are computed for every token; `shared_expert_size` is the f of each of them, and None
    where there are none.

    Raises:
        WorkloadError: a size is below 1, `top_k` lies outside 1..num_experts, or shared experts
            and their size do not come together.

    """

    name: str
    hidden_size: int
    expert_size: int
    num_experts: int
    top_k: int
    num_shared_experts: int = 0
    shared_expert_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible shapes."""
        for fault in self._faults():
            message = f"layer {self.name!r}: {fault}"
            raise WorkloadError(message, hint="Correct the layer's sizes.")

    @property
    def weights_per_expert(self) -> int:
        """Weights of one routed expert: 3·d·f, for its gate, up and down projections."""
        return _PROJECTIONS * self.hidden_size * self.expert_size

    @property
    def shared_weights(self) -> int:
        """Weights of all shared experts together, read for every batch; 0 where there are none."""
        size = self.shared_expert_size or 0
        return _PROJECTIONS * self.hidden_size * self.num_shared_experts * size

    @property
    def gate_weights(self) -> int:
        """Weights of the gate: `[hidden_size, num_experts]`."""
        return self.hidden_size * self.num_experts

    def _faults(self) -> Iterator[str]:
        for field in ("hidden_size", "expert_size", "num_experts"):
            if getattr(self, field) < 1:
                yield f"{field} must be at least 1, got {getattr(self, field)}"
        if not 1 <= self.top_k <= self.num_experts:
            yield f"top_k must lie in 1..{self.num_experts}, got {self.top_k}"
        number, size = self.num_shared_experts, self.shared_expert_size
        if number < 0:
            yield f"num_shared_experts must be at least 0, got {number}"
        if (number > 0) != (size is not None):
            yield (
                "num_shared_experts and shared_expert_size must come together, "
                f"got {number} and {size}"
            )
        if size is not None and size < 1:
            yield f"shared_expert_size must be at least 1, got {size}"
