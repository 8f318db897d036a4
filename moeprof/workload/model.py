"""The shape of a whole Mixture-of-Experts model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moeprof.workload.attention import Attention
    from moeprof.workload.layer import MoELayer

_WEIGHT_DTYPES = ("bf16", "fp8", "mxfp4")
_PROJECTIONS = 3  # gate, up and down


@dataclass(frozen=True, slots=True)
class MoEModel:
    """A decoder of `num_dense_layers` dense layers followed by MoE layers of one shape.

    `num_layers` counts both. `dense_mlp_size` is None where there is no dense layer.
    `weight_dtype` is the format of the experts' weights as published. `num_parameters` and
    `num_active_parameters` are the publisher's own figures, None where it gives none; the
    `computed_` properties follow from the shape. Embedding and output weights are not shared.

    Raises:
        WorkloadError: a size is impossible or `weight_dtype` is unknown.

    """

    name: str
    num_layers: int
    num_dense_layers: int
    layer: MoELayer
    dense_mlp_size: int | None
    attention: Attention
    vocab_size: int
    weight_dtype: str
    num_parameters: int | None
    num_active_parameters: int | None

    def __post_init__(self) -> None:
        """Refuse impossible shapes."""
        for fault in self._faults():
            message = f"model {self.name!r}: {fault}"
            raise WorkloadError(message, hint="Correct the model's sizes.")

    @property
    def num_moe_layers(self) -> int:
        """Layers with routed experts."""
        return self.num_layers - self.num_dense_layers

    @property
    def computed_parameters(self) -> int:
        """Weights that follow from the shape, without norms, biases and prediction heads."""
        experts = self.num_moe_layers * self.layer.num_experts * self.layer.weights_per_expert
        return self._resident_weights + experts + self.vocab_size * self.layer.hidden_size

    @property
    def computed_active_parameters(self) -> int:
        """Weights that one token is multiplied with; the input embedding is only looked up."""
        experts = self.num_moe_layers * self.layer.top_k * self.layer.weights_per_expert
        return self._resident_weights + experts

    def kv_elements(self, num_context_tokens: int) -> int:
        """Return the elements that one sequence keeps in the KV caches of all layers."""
        sliding = self.attention.num_sliding_layers
        window = self.attention.sliding_window or num_context_tokens
        full_tokens = (self.num_layers - sliding) * num_context_tokens
        sliding_tokens = sliding * min(window, num_context_tokens)
        return (full_tokens + sliding_tokens) * self.attention.kv_elements_per_token()

    @property
    def _resident_weights(self) -> int:
        """Weights that every token is multiplied with: all but routed experts and embedding."""
        hidden_size = self.layer.hidden_size
        attention = self.num_layers * self.attention.weights(hidden_size)
        dense = self.num_dense_layers * _PROJECTIONS * hidden_size * (self.dense_mlp_size or 0)
        moe = self.num_moe_layers * (self.layer.gate_weights + self.layer.shared_weights)
        return attention + dense + moe + self.vocab_size * hidden_size

    def _faults(self) -> Iterator[str]:
        layers, dense, size = self.num_layers, self.num_dense_layers, self.dense_mlp_size
        if layers < 1:
            yield f"num_layers must be at least 1, got {layers}"
        elif not 0 <= dense < layers:
            yield f"num_dense_layers must lie in 0..{layers - 1}, got {dense}"
        if (dense > 0) != (size is not None):
            yield f"num_dense_layers and dense_mlp_size must come together, got {dense} and {size}"
        for field in ("dense_mlp_size", "vocab_size", "num_parameters", "num_active_parameters"):
            found = getattr(self, field)
            if found is not None and found < 1:
                yield f"{field} must be at least 1, got {found}"
        sliding = self.attention.num_sliding_layers
        if sliding > layers:
            yield f"attention.num_sliding_layers must lie in 0..{layers}, got {sliding}"
        if self.weight_dtype not in _WEIGHT_DTYPES:
            known = ", ".join(_WEIGHT_DTYPES)
            yield f"weight_dtype must be one of {known}, got {self.weight_dtype!r}"
