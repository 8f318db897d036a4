"""What a marginal-cost router goes by and adaptation moves: lambda and how slow each GPU is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """Tensors on the device of the logits, changed in place so that a captured graph sees them.

    `trade`, [] of float64, is lambda: the share of gate mass that is worth a whole plain step.
    `slowness` and `hunger`, [num_ranks] of float64, are seconds and watts of each GPU over what the
    cost model expects, 1 where nothing is known.
    """

    trade: Tensor
    slowness: Tensor
    hunger: Tensor

    @classmethod
    def of(cls, trade: float, num_ranks: int, device: torch.device | str = "cpu") -> Conditions:
        """Return lambda with GPUs of which nothing is known."""

        def filled(shape: tuple[int, ...], value: float) -> Tensor:
            # Not an inference tensor, so that it can be changed outside of inference mode too.
            with torch.inference_mode(mode=False):
                return torch.full(shape, value, dtype=torch.float64, device=device)

        return cls(filled((), trade), filled((num_ranks,), 1.0), filled((num_ranks,), 1.0))

    def for_ranks(self, num_ranks: int, who: str) -> Conditions:
        """Return these conditions; raises WorkloadError if they are of another number of ranks."""
        known = len(self.slowness)
        if known != num_ranks:
            raise WorkloadError(
                f"{who}: conditions must be of {num_ranks} ranks as the placement is, got {known}"
            )
        return self

    def learn(
        self,
        *,
        trade: float | None = None,
        slowness: ArrayLike | None = None,
        hunger: ArrayLike | None = None,
    ) -> None:
        """Take over what was learnt; None is left as it is."""
        for held, value in (
            (self.trade, trade),
            (self.slowness, slowness),
            (self.hunger, hunger),
        ):
            if value is not None:
                held.copy_(torch.as_tensor(value, dtype=torch.float64))
