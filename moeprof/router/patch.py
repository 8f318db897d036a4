"""Puts a router in the place of every gate's own choice in a live model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moeprof.errors import WorkloadError
from moeprof.gate.site import find_gates
from moeprof.gate.steering import check_steerable, chooser_of, steer
from moeprof.router.answer import fault_of
from moeprof.router.protocol import Router, RoutingContext
from moeprof.router.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from moeprof.cost.model import CostModel
    from moeprof.gate.rule import GateRule, Routing
    from moeprof.gate.site import GateSite
    from moeprof.workload.placement import Placement

TelemetrySource = Telemetry | Callable[[], Telemetry | None]
"""Readings that do not change, or a function that gives the last ones."""


@contextmanager
def patch(
    model: nn.Module,
    router: Router,
    *,
    placement: Placement | None = None,
    cost: CostModel | None = None,
    telemetry: TelemetrySource | None = None,
) -> Iterator[None]:
    """Let `router` decide in every MoE layer of `model`, until the block is left.

    Then whoever decided before does so again, so that patches may be nested. Only what a gate
    answers changes: parameters, checkpoints, hooks and recorded router logits stay as they are.

    Raises:
        CheckpointError: the model has no gates of a known family, or they cannot be replaced.
        WorkloadError: the placement is of another number of experts; or, when the model runs, the
            router's answer cannot be used. Values in it are checked on the CPU only.

    """
    sites = find_gates(model)
    before = [chooser_of(site.gate) for site in sites]
    _seat(sites, router, placement, cost, telemetry)
    try:
        yield
    finally:
        for site, chooser in zip(sites, before, strict=True):
            steer(site.gate, chooser)


def patch_forever(
    model: nn.Module,
    router: Router,
    *,
    placement: Placement | None = None,
    cost: CostModel | None = None,
    telemetry: TelemetrySource | None = None,
) -> None:
    """Let `router` decide in every MoE layer of `model`, until `unpatch` or another patch.

    Raises what `patch` raises.
    """
    _seat(find_gates(model), router, placement, cost, telemetry)


def unpatch(model: nn.Module) -> None:
    """Give every gate of a model back to itself; one that was not patched is left alone.

    Raises CheckpointError: the model has no gates of a known family.
    """
    for site in find_gates(model):
        steer(site.gate, None)


@dataclass(frozen=True, slots=True, eq=False)
class _Seat:
    """A router in the place of one layer's choice."""

    router: Router
    layer: int
    placement: Placement | None
    cost: CostModel | None
    telemetry: TelemetrySource | None

    def __call__(self, logits: Tensor, rule: GateRule) -> Routing:
        telemetry = self.telemetry() if callable(self.telemetry) else self.telemetry
        context = RoutingContext(self.layer, rule, self.placement, self.cost, telemetry)
        answer = self.router.route(logits, context)
        if fault := fault_of(answer, logits):
            raise WorkloadError(f"router {_name(self.router)}, layer {self.layer}: {fault}")
        return answer

    def __deepcopy__(self, _: dict[int, Any]) -> _Seat:
        # A copied model is routed by the same router, which is no part of the model.
        return self


def _seat(
    sites: tuple[GateSite, ...],
    router: Router,
    placement: Placement | None,
    cost: CostModel | None,
    telemetry: TelemetrySource | None,
) -> None:
    if isinstance(router, type) or not callable(getattr(router, "route", None)):
        raise WorkloadError(
            f"router must have a method route(logits, context), got {_name(router)}",
            hint="Give a router, not its class or name; load_router(name) makes one.",
        )
    # All is checked before anything is changed: a refusal leaves the model as it was.
    for site in sites:
        check_steerable(site.gate)
        if placement is not None:
            _check_placement(placement, site)
    for site in sites:
        steer(site.gate, _Seat(router, site.layer, placement, cost, telemetry))


def _check_placement(placement: Placement, site: GateSite) -> None:
    placed = {expert for rank in placement.ranks for expert in rank}
    num_experts = site.rule.num_experts
    if placed != set(range(num_experts)):
        raise WorkloadError(
            f"placement {placement.strategy}: must hold the {num_experts} experts of layer "
            f"{site.layer}, got {len(placed)} experts numbered up to {max(placed, default=None)}",
            hint="Make the placement for the model's number of experts.",
        )


def _name(router: object) -> str:
    return f"the class {router.__name__}" if isinstance(router, type) else type(router).__name__
