"""What training may add to a gate: a softmax temperature and a bias of the selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class GateTuning:
    """What is added to a family's own operations; None leaves them exactly as they are.

    `selection_bias`, [num_experts], is added to what the top k is taken of and never enters the
    weights: the loss-free balancing of arXiv:2408.15664. It is read at every step, so a change
    made to it in place acts at once.
    """

    softmax_temperature: float | None = None
    """What logits are divided by before the softmax, or sigmoid; above 1 it flattens."""
    selection_bias: Tensor | None = None

    def tempered(self, logits: Tensor) -> Tensor:
        """Return logits divided by the temperature, in float32; without one, the logits."""
        if self.softmax_temperature is None:
            return logits
        return logits.float() / self.softmax_temperature

    def biased(self, preferences: Tensor) -> Tensor:
        """Return preferences, [num_tokens, num_experts], with the bias; without one, as given."""
        if self.selection_bias is None:
            return preferences
        return preferences + self.selection_bias.to(preferences.device)


PLAIN: Final = GateTuning()
