"""What the gates of a model answer during a forward pass, with its gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from moeprof.gate.site import find_gates

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from moeprof.gate.site import GateSite


@dataclass(frozen=True, slots=True, eq=False)
class GateAnswer:
    """One gate's answer to a batch.

    `logits` and `probabilities`, [num_tokens, num_experts], the latter the gate's own scores in
    float32 divided by their sum, so that sigmoids compare with a softmax; `experts`,
    [num_tokens, top_k].
    """

    logits: Tensor
    probabilities: Tensor
    experts: Tensor

    @property
    def num_experts(self) -> int:
        """How many experts the gate chose from."""
        return self.logits.shape[-1]

    def load_fractions(self) -> Tensor:
        """Return each expert's share of the (token, slot) pairs, [num_experts]; no gradient."""
        counts = self.experts.flatten().bincount(minlength=self.num_experts)
        return counts / self.experts.numel()


class GateWatch:
    """Hears every gate of a model while it is entered; tells of the last forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self._sites = find_gates(model)
        self._handles: list[RemovableHandle] = []
        self._answers: dict[int, GateAnswer] = {}

    def __enter__(self) -> Self:
        """Begin to listen."""
        for number, site in enumerate(self._sites):
            self._handles.append(site.gate.register_forward_hook(self._hook(number, site)))
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._answers.clear()

    def answers(self) -> tuple[GateAnswer, ...]:
        """Return what each gate answered in the last forward pass, in layer order."""
        return tuple(self._answers[number] for number in range(len(self._sites)))

    def _hook(self, number: int, site: GateSite) -> Any:
        def hear(module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
            del module, inputs
            logits, _, experts = output
            scores = site.rule.scores(logits).float()
            probabilities = scores / scores.sum(dim=-1, keepdim=True)
            self._answers[number] = GateAnswer(logits, probabilities, experts)

        return hear
