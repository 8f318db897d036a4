"""What one rank computes in one MoE layer of one decode step, and the bytes and FLOPs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.workload.dtypes import BYTES_PER_ELEMENT

if TYPE_CHECKING:
    from moeprof.workload.layer import MoELayer

FLOPS_PER_WEIGHT = 2  # one multiply and one add


@dataclass(frozen=True, slots=True)
class Workload:
    """The routed experts of one layer on one rank: `rows_per_expert[num_local_experts]`.

    A row is one (token, expert) pair. Shared experts are not part of it. `layer` is the whole
    layer; `tp_size` ranks hold an equal slice of every expert's `expert_size` each.
    """

    model: str
    layer: MoELayer
    weight_dtype: str
    activation_dtype: str
    batch_size: int
    routing_pattern: str
    routing_seed: int
    placement: str
    ep_size: int
    ep_rank: int
    tp_size: int
    rows_per_expert: tuple[int, ...]

    @property
    def local_expert_size(self) -> int:
        """The columns of every expert's gate and up projection on this rank."""
        return self.layer.expert_size // self.tp_size

    @property
    def num_local_experts(self) -> int:
        """Expert slots on this rank, replicas included."""
        return len(self.rows_per_expert)

    @property
    def num_active_experts(self) -> int:
        """Local experts with at least one row: those whose weights are read."""
        return sum(1 for rows in self.rows_per_expert if rows)

    @property
    def num_rows(self) -> int:
        """(token, expert) pairs on this rank."""
        return sum(self.rows_per_expert)

    @property
    def max_rows_per_expert(self) -> int:
        """Rows of the fullest local expert."""
        return max(self.rows_per_expert, default=0)

    @property
    def bytes_per_expert(self) -> int:
        """Bytes of one local expert's gate, up and down projections."""
        elements = 3 * self.layer.hidden_size * self.local_expert_size
        return int(elements * BYTES_PER_ELEMENT[self.weight_dtype])

    @property
    def weight_bytes(self) -> int:
        """Bytes of the active experts' weights, each read once."""
        return self.num_active_experts * self.bytes_per_expert

    @property
    def activation_bytes(self) -> int:
        """Bytes of rows read and written: input, output, and the intermediate out and back in."""
        elements = self.num_rows * 2 * (self.layer.hidden_size + self.local_expert_size)
        return int(elements * BYTES_PER_ELEMENT[self.activation_dtype])

    @property
    def flops(self) -> int:
        """Multiply-adds of the three projections, counted as two operations each."""
        weights = 3 * self.layer.hidden_size * self.local_expert_size
        return FLOPS_PER_WEIGHT * weights * self.num_rows
