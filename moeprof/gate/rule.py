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


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A batch as its gate sees it.

    `scores` and `preferences`, [num_tokens, num_experts], are as those of `GateRule`; `candidates`,
    [num_tokens, num_candidates], are a token's most preferred experts, the best first; `plain`, of
    the first top_k of them, is the model's own choice. (Of experts that are preferred alike it may
    be another one than `choose` takes, and of families that leave the order open it is ordered.)
    """

    scores: Tensor
    preferences: Tensor
    candidates: Tensor
    plain: Routing


class GateRule(Protocol):
    """How one family of models turns logits into experts and weights."""

    @property
    def num_experts(self) -> int:
        """Experts that the gate chooses from."""

    @property
    def top_k(self) -> int:
        """Experts that the model uses for each token."""

    @property
    def renormalised(self) -> bool:
        """Whether the weights of a token always have the same sum, whichever experts it uses."""

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

    def judge(self, logits: Tensor, num_candidates: int) -> Judged:
        """Return a batch with its best `num_candidates` experts, top_k or more, in one pass."""
