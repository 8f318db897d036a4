"""Gives a gate another choice than its own, by a subclass of the gate's own class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from moeprof.errors import CheckpointError
from moeprof.gate.families import TUNING, family_of, rule_of_gate
from moeprof.gate.rule import GateRule, Routing
from moeprof.gate.site import find_gates
from moeprof.gate.tuning import GateTuning

if TYPE_CHECKING:
    from torch import nn

Chooser = Callable[[Tensor, GateRule], Routing]

_CHOOSER: Final = "moeprof_chooser"
_OWN_CLASS: Final = "moeprof_own_class"
_SUBCLASSES: Final[dict[type[nn.Module], type[nn.Module]]] = {}


def steer(gate: nn.Module, chooser: Chooser | None) -> None:
    """Let `chooser` decide what a gate of a known family answers; None gives the gate back.

    It is called with the gate's own logits, [num_tokens, num_experts], and its rule. Parameters,
    buffers, hooks and `isinstance` stay as they are.

    Raises CheckpointError: a chooser is given, and the gate's forward was replaced on the module
    itself.
    """
    if chooser is not None:
        check_steerable(gate)
    _set(gate, _CHOOSER, chooser)
    _settle(gate)


def chooser_of(gate: nn.Module) -> Chooser | None:
    """Return who decides what a gate answers, None for the gate itself."""
    return getattr(gate, _CHOOSER, None)


def tune(
    model: nn.Module,
    *,
    softmax_temperature: float | None = None,
    selection_bias: Tensor | None = None,
) -> None:
    """Make a temperature and a bias part of every gate of a model, whoever decides.

    `selection_bias` is [num_gates, num_experts], one row per gate in layer order; each gate keeps
    a view, so a change in place acts at once. Neither is a parameter or a buffer: checkpoints do
    not hold them. Called with neither, it takes them away.

    Raises CheckpointError: no known gates, a bias of another shape, a temperature not above 0, or
    a gate to be tuned whose forward was replaced on the module itself.
    """
    sites = find_gates(model)
    if softmax_temperature is not None and not 0.0 < softmax_temperature < float("inf"):
        raise CheckpointError(
            f"softmax_temperature must be above 0 and finite, got {softmax_temperature}"
        )
    shape = (len(sites), sites[0].rule.num_experts)
    if selection_bias is not None and tuple(selection_bias.shape) != shape:
        raise CheckpointError(
            f"selection_bias must be {list(shape)} (gates, experts), "
            f"got {list(selection_bias.shape)}"
        )
    plain = softmax_temperature is None and selection_bias is None
    if not plain:
        for site in sites:
            check_steerable(site.gate)
    for row, site in enumerate(sites):
        bias = None if selection_bias is None else selection_bias[row]
        _set(site.gate, TUNING, None if plain else GateTuning(softmax_temperature, bias))
        _settle(site.gate)


def check_steerable(gate: nn.Module) -> None:
    """Return if a change of the gate's class would change what it does.

    Raises CheckpointError: its forward was replaced on the module itself, as Accelerate does.
    """
    if "forward" in vars(gate):
        raise CheckpointError(
            f"gate {type(gate).__name__}: its forward was replaced on the module, so that no "
            "router can be put in its place",
            hint="Load the model without device_map, which makes Accelerate replace it.",
        )


def _set(gate: nn.Module, name: str, value: object) -> None:
    vars(gate).pop(name, None)
    if value is not None:
        vars(gate)[name] = value


def _settle(gate: nn.Module) -> None:
    held = vars(gate)
    steered = _CHOOSER in held or TUNING in held
    if steered and _OWN_CLASS not in held:
        held[_OWN_CLASS] = type(gate)
        gate.__class__ = _steered(type(gate))
    elif not steered and _OWN_CLASS in held:
        gate.__class__ = held.pop(_OWN_CLASS)


def _steered(own: type[nn.Module]) -> type[nn.Module]:
    if own not in _SUBCLASSES:
        content = {"forward": _forward, "__doc__": own.__doc__}
        _SUBCLASSES[own] = type(f"Steered{own.__name__}", (own,), content)
    return _SUBCLASSES[own]


def _forward(gate: Any, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    family = family_of(gate)
    assert family is not None
    logits = family.logits(gate, hidden_states)
    rule = rule_of_gate(gate, family)
    chooser = chooser_of(gate)
    routing = chooser(logits, rule) if chooser else rule.choose(logits)
    return logits, routing.weights, routing.experts
