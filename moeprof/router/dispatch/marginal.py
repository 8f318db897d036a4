"""The dispatcher of marginal-cost routing: each expert's rows go where they are done first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch

from moeprof.router.dispatch.count import rows_of_experts
from moeprof.router.dispatch.replicas import replicas_of
from moeprof.router.marginal.conditions import Conditions
from moeprof.router.marginal.curve import EXPERTS_ONLY, StepCurve
from moeprof.router.marginal.homes import UNIT, Homes, expert_work
from moeprof.router.policies.knobs import check_knob

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.gate.rule import Routing
    from moeprof.router.protocol import RoutingContext
    from moeprof.workload.placement import Placement

_PASSES: Final = 3  # the second and third let early choosers look again


@dataclass(frozen=True, slots=True, eq=False)
class MarginalDispatch:
    """Sends all rows of an expert to the replica that adds least to the slowest rank's seconds.

    METRO's order of choosing (see `Homes`), with each GPU's own slowness, launch and rows counted,
    and by `energy_fraction` what a row costs on it in joules. Between equal GPUs it differs from
    METRO by rows and by its second look only. Experts stay as routed: an exact claim.
    """

    energy_fraction: float = 0.0
    """How much of cost is joules, the rest seconds."""
    curve: StepCurve = EXPERTS_ONLY
    conditions: Conditions | None = None
    """What adaptation moves; None: equal GPUs."""
    _homes: dict[object, Homes] = field(default_factory=dict, init=False, repr=False)
    _equal: dict[object, Conditions] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raise WorkloadError: energy_fraction is out of range."""
        check_knob("marginal-cost", "energy_fraction", self.energy_fraction, least=0.0, most=1.0)

    def dispatch(self, routing: Routing, context: RoutingContext) -> Tensor:
        """Return the rank of every slot, [num_tokens, top_k].

        Raises WorkloadError: as a dispatcher does, or conditions of another number of ranks.
        """
        replicas = replicas_of(context, "marginal-cost", routing)
        placement = context.placement
        assert placement is not None, "replicas_of has refused a context without a placement"
        homes = self._homes_of(placement, replicas.num_experts, routing.experts.device)
        conditions = self._conditions(homes.num_ranks, routing.experts.device)
        rows = rows_of_experts(routing.experts, replicas.num_experts, routing.weights)
        work = expert_work(rows, self.curve, torch.empty_like(rows))
        prices = self._watt_prices(work, conditions) if self.energy_fraction else None
        home = homes.assign(
            work,
            conditions.slowness,
            self.curve.launch_experts,
            num_passes=_PASSES,
            watt_prices=prices,
        )
        return home[routing.experts]

    def _watt_prices(self, work: Tensor, conditions: Conditions) -> Tensor:
        """Return what joules add to a rank's finish, [num_ranks], in `UNIT` parts of an expert.

        Joules of waiting go with the makespan as seconds do; what is left is what an expert takes
        on a rank beyond the cheapest one, weighed by its share of a step's joules.
        """
        joules = conditions.slowness * conditions.hunger
        num_active = work.sum() / UNIT
        usual = num_active / len(joules) + self.curve.launch_experts
        moved = self.energy_fraction * num_active / (num_active + self.curve.static_experts)
        return (joules - joules.min()) * usual * (UNIT * moved / (1.0 - moved).clamp(min=1e-6))

    def _homes_of(self, placement: Placement, num_experts: int, device: torch.device) -> Homes:
        key = (placement, num_experts, device)
        if key not in self._homes:
            self._homes[key] = Homes(placement, num_experts, device)
        return self._homes[key]

    def _conditions(self, num_ranks: int, device: torch.device) -> Conditions:
        if self.conditions is None:
            key = (num_ranks, device)
            if key not in self._equal:
                self._equal[key] = Conditions.of(0.0, num_ranks, device)
            return self._equal[key]
        return self.conditions.for_ranks(num_ranks, "dispatcher marginal-cost")
