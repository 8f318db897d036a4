"""Tokens with the experts that they chose, as they are written into a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class RoutedTokens:
    """Some tokens at all MoE layers of a model; None is what the source does not tell.

    `experts`, [num_layers, num_tokens, top_k]; `weights`, so shaped; `logits`, [num_layers,
    num_tokens, num_experts]; all others [num_tokens].
    """

    experts: NDArray[np.int16]
    request: NDArray[np.int32] | None = None
    position: NDArray[np.int32] | None = None
    token_id: NDArray[np.int32] | None = None
    step: NDArray[np.int32] | None = None
    is_dummy: NDArray[np.bool_] | None = None
    """None: none of them is."""
    weights: NDArray[np.float32] | None = None
    logits: NDArray[np.float16] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens, each counted once for all layers."""
        return int(self.experts.shape[1])
