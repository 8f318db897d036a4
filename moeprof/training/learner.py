"""A model that learns a step at a time, with everything that a resumed run must find again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import torch
from torch.nn import functional

from moeprof.errors import CheckpointError
from moeprof.gate.site import find_gates
from moeprof.training.balance import tune_gates, update_bias
from moeprof.training.gate_watch import GateWatch
from moeprof.training.losses import auxiliary
from moeprof.training.metrics import RoutingMetrics, routing_metrics
from moeprof.training.schedule import rate_fraction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from moeprof.recipe.training import TrainingRecipe

_BETAS: Final = (0.9, 0.95)
_BIAS: Final = "selection_bias"


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step came to; `losses` are the auxiliary ones, each times its weight."""

    cross_entropy_nats: float
    losses: dict[str, float]
    gradient_norm: float
    routing: RoutingMetrics


class Learner:
    """A model in training, its optimiser, and the biases of its gates."""

    def __init__(self, model: nn.Module, recipe: TrainingRecipe, device: torch.device) -> None:
        self.model = model.to(device).train()
        self._recipe = recipe
        self._device = device
        self.bias = tune_gates(self.model, recipe.gate)
        self._watch = GateWatch(self.model)
        self._optimiser = torch.optim.AdamW(
            _groups(self.model, recipe), lr=recipe.optimiser.learning_rate, betas=_BETAS, fused=True
        )

    def __enter__(self) -> Self:
        """Begin to listen to the gates."""
        self._watch.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the gates alone, tuned as they are."""
        self._watch.__exit__(*error)

    def step(self, number: int, batch: Tensor) -> StepResult:
        """Learn from one batch, [num_windows, length + 1]; `number` counts from 0.

        Dropout and all else that is drawn follows from the recipe's seed and the number.
        """
        settings = self._recipe.optimiser
        torch.manual_seed(_seed_of_step(self._recipe.seed, number))
        fraction = rate_fraction(
            number, num_steps=settings.num_steps, num_warm_up_steps=settings.num_warm_up_steps
        )
        for group in self._optimiser.param_groups:
            group["lr"] = settings.learning_rate * fraction * group["rate_factor"]
        cross_entropy = self._cross_entropy(batch, reduction="mean")
        answers = self._watch.answers()
        losses = auxiliary(answers, self._recipe.losses)
        loss: Tensor = sum(losses.values(), start=cross_entropy)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_norm_max)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        if self.bias is not None and self._recipe.gate.bias_update_speed is not None:
            update_bias(self.bias, answers, speed=self._recipe.gate.bias_update_speed)
        return StepResult(
            cross_entropy_nats=cross_entropy.item(),
            losses={name: value.item() for name, value in losses.items()},
            gradient_norm=norm.item(),
            routing=routing_metrics(answers),
        )

    @torch.no_grad()
    def nats_per_token(self, batches: Iterable[Tensor]) -> float:
        """Return the mean cross-entropy of batches, [num_windows, length + 1], in eval mode."""
        self.model.eval()
        nats, num_tokens = 0.0, 0
        for batch in batches:
            nats += self._cross_entropy(batch, reduction="sum").item()
            num_tokens += batch[:, 1:].numel()
        self.model.train()
        return nats / num_tokens

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a resumed run needs, by name: parameters, buffers, moments, biases."""
        found = {f"model.{name}": value for name, value in self._own_state().items()}
        for name, parameter in self.model.named_parameters():
            state = self._optimiser.state[parameter]
            found |= {f"optimiser.{name}.{key}": value for key, value in state.items()}
        if self.bias is not None:
            found[_BIAS] = self.bias
        return found

    def restore(self, tensors: Mapping[str, Tensor], where: Path) -> None:
        """Go on from what `tensors` gave, which were read from `where`.

        Raises CheckpointError: they are another model's.
        """
        own = self._own_state()
        names = {name.removeprefix("model.") for name in tensors if name.startswith("model.")}
        if names != own.keys() or (_BIAS in tensors) != (self.bias is not None):
            raise CheckpointError(
                f"{where}: its tensors are not those of the recipe's model",
                hint="Go on with the Transformers that began it, or train in another folder.",
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(tensors[f"model.{name}"])
            if self.bias is not None:
                self.bias.copy_(tensors[_BIAS])
        for name, parameter in self.model.named_parameters():
            prefix = f"optimiser.{name}."
            state = {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
            # A step's count stays where the optimiser made it: on the parameter's own device.
            self._optimiser.state[parameter] = {
                key: value.to(self._device) for key, value in state.items()
            }

    def _own_state(self) -> dict[str, Tensor]:
        # Tied parameters appear once here, and twice in a state_dict.
        kept = self.model.state_dict(keep_vars=True)
        buffers = {name: value for name, value in self.model.named_buffers() if name in kept}
        return dict(self.model.named_parameters()) | buffers

    def _cross_entropy(self, batch: Tensor, *, reduction: str) -> Tensor:
        tokens = batch.to(self._device)
        logits = self.model(input_ids=tokens[:, :-1], use_cache=False).logits
        return functional.cross_entropy(
            logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction=reduction
        )


def _seed_of_step(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)


def _groups(model: nn.Module, recipe: TrainingRecipe) -> list[dict[str, Any]]:
    """Return the parameters as gates, matrices and vectors; only matrices decay."""
    gates: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    of_gates = {id(each) for site in find_gates(model) for each in site.gate.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) in of_gates:
            gates.append(parameter)
        else:
            # The biases of stacked experts have two dimensions and are none the less vectors.
            is_matrix = parameter.ndim > 1 and not name.endswith("bias")
            (matrices if is_matrix else vectors).append(parameter)
    factor = recipe.optimiser.gate_learning_rate_factor
    decay = recipe.optimiser.weight_decay
    return [
        {"params": gates, "weight_decay": 0.0, "rate_factor": factor},
        {"params": matrices, "weight_decay": decay, "rate_factor": 1.0},
        {"params": vectors, "weight_decay": 0.0, "rate_factor": 1.0},
    ]
