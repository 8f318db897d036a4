"""The role of a gate's rule: logits into the experts and weights that the model itself uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Routing:
    """The experts of every token and what each counts for.

    `experts`, [num_tokens, top_k], int64; `weights`, [num_tokens, top_k], in the dtype that the
    model's own gate gives. A slot that is not to be used has weight 0 and repeats an expert that
    the token uses anyway, so that it activates nothing.
    """

    experts: Tensor
    weights: Tensor


class GateRule(Protocol):
    """How one family of models turns logits into experts and weights."""

    @property
    def num_experts(self) -> int:
        """Experts that the gate chooses from."""

    @property
    def top_k(self) -> int:
        """Experts that the model uses for each token."""

    def scores(self, logits: Tensor) -> Tensor:
        """Return what weights are made of, [num_tokens, num_experts], of logits so shaped.

        Softmax probabilities or sigmoids: not negative, in float32 where the family computes so.
        """

    def preferences(self, logits: Tensor) -> Tensor:
        """Return what the top k is taken of, [num_tokens, num_experts].

        Scores with a balancing bias, minus infinity where the family forbids an expert (group
        limits).
        """

    def weights(self, logits: Tensor, experts: Tensor) -> Tensor:
        """Return the weights, [num_tokens, k], that the model would give these experts, so shaped.

        Normalised and scaled as the family does; k may differ from `top_k`. An expert that stands
        twice, as in a slot that is not to be used, counts twice in the norm.
        """

    def choose(self, logits: Tensor) -> Routing:
        """Return the model's own choice: bit-identical to the unpatched gate's."""
