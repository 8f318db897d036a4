"""What the gates of a live model answer, caught by forward hooks while the model runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from moeprof.errors import TraceError
from moeprof.trace.schema import FLOAT16_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from moeprof.gate.site import GateSite

_EXPONENT = 0x7C00  # of a float16: all ones where the number is infinite or NaN
_FRACTION = 0x03FF
_BROKEN = "The model is broken, or its dtype too narrow: try --dtype fp32."


@dataclass(frozen=True, slots=True, eq=False)
class GateAnswers:
    """What all gates answered in one forward pass.

    `experts`, [num_layers, num_tokens, top_k]; `weights`, so shaped; `logits`, [num_layers,
    num_tokens, num_experts], None unless recorded. `num_logits_at_limit` of them are beyond what
    float16 holds, and are its limit.
    """

    experts: NDArray[np.int16]
    weights: NDArray[np.float32]
    logits: NDArray[np.float16] | None
    num_logits_at_limit: int


class GateRecorder:
    """Records, while it is entered, every answer of the gates.

    The hooks only keep and narrow tensors on the model's device; `take` copies those of a whole
    pass, one copy for each kind, so that recording makes the device wait once a pass.
    """

    def __init__(self, sites: Sequence[GateSite], *, with_logits: bool) -> None:
        self._sites = sites
        self._with_logits = with_logits
        self._answers: list[list[tuple[Tensor, Tensor, Tensor | None]]] = [[] for _ in sites]
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        """Put the hooks on."""
        for index, site in enumerate(self._sites):
            self._handles.append(site.gate.register_forward_hook(self._hook(index)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the hooks off; the model is as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self) -> GateAnswers:
        """Return what the gates answered since the last call, which must be one forward pass.

        Raises TraceError: a gate answered not exactly once, or with a NaN.
        """
        for site, answers in zip(self._sites, self._answers, strict=True):
            if len(answers) != 1:
                raise TraceError(
                    f"layer {site.layer}: its gate must run once in a forward pass, it ran "
                    f"{len(answers)} times"
                )
        experts, weights, logits = zip(*(answers[0] for answers in self._answers), strict=True)
        for answers in self._answers:
            answers.clear()
        shares = torch.stack(weights).cpu().numpy()
        halves: NDArray[np.float16] | None = None
        num_at_limit = 0
        if self._with_logits:
            halves = torch.stack(logits).cpu().numpy()
            num_at_limit = self._hold_to_limit(halves)
        self._refuse_nan_weights(shares)
        return GateAnswers(
            experts=torch.stack(experts).cpu().numpy(),
            weights=shares,
            logits=halves,
            num_logits_at_limit=num_at_limit,
        )

    def _hook(self, index: int) -> Any:
        def keep(_gate: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
            logits, weights, experts = output
            num_experts, top_k = logits.shape[-1], experts.shape[-1]
            half = logits.reshape(-1, num_experts).half() if self._with_logits else None
            self._answers[index].append(
                (experts.reshape(-1, top_k).short(), weights.reshape(-1, top_k).float(), half)
            )

        return keep

    def _refuse_nan_weights(self, weights: NDArray[np.float32]) -> None:
        # Without the logits they tell of a NaN there, and of an infinity that the logits may be.
        wrong = np.isnan(weights)
        if wrong.any():
            layer, token, _ = (int(each) for each in np.argwhere(wrong)[0])
            raise TraceError(
                f"layer {self._sites[layer].layer}: a weight is NaN for token {token} of the "
                f"batch, and {int(wrong.sum())} are in all",
                hint=_BROKEN,
            )

    def _hold_to_limit(self, halves: NDArray[np.float16]) -> int:
        # NumPy computes float16 slowly; their bits are compared as whole numbers.
        bits = halves.view(np.uint16)
        special = (bits & _EXPONENT) == _EXPONENT
        if not special.any():
            return 0
        wrong = special & ((bits & _FRACTION) != 0)
        if wrong.any():
            layer, token, expert = (int(each) for each in np.argwhere(wrong)[0])
            raise TraceError(
                f"layer {self._sites[layer].layer}: the logit of expert {expert} is NaN for token "
                f"{token} of the batch, and {int(wrong.sum())} are in all",
                hint=_BROKEN,
            )
        np.clip(halves, -FLOAT16_MAX, FLOAT16_MAX, out=halves)
        return int(special.sum())
