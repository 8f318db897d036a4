"""The policies that every scene compares, unless it names its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moeprof.recipe.scene import PolicySection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moeprof.recipe.scene import Knob

BUNDLED: Final = "marginal-cost"
ORACLE: Final = "oracle"
TRADES: Final = (0.25, 0.1, 0.4, 0.7)
"""Lambdas of the bundled router's front; the first stands in the table."""


def _policy(
    name: str,
    router: str = "top-k",
    dispatcher: str = "first",
    *,
    placement: str = "scene",
    num_replicas: int | None = None,
    settings: Sequence[Mapping[str, Knob]] = ({},),
) -> PolicySection:
    return PolicySection.model_validate(
        {
            "name": name,
            "router": router,
            "dispatcher": dispatcher,
            "placement": placement,
            "num_replicas": num_replicas,
            "settings": tuple(settings),
        }
    )


def default_policies(num_experts: int, top_k: int) -> tuple[PolicySection, ...]:
    """Return the published rivals, the bundled router in both modes, and an oracle.

    Exact ones first: the scene's placement with `first`, METRO and others as dispatcher; EPLB
    without replicas; GEM. Then the routers that change experts, each with the settings that make
    its front; where a published setting is a number of experts it is scaled to the model's.
    """

    def share(fraction: float) -> int:
        return max(top_k, round(fraction * num_experts))

    return (
        _policy("top-k"),
        _policy("eplb", placement="eplb", num_replicas=0),
        _policy("eplb-random", dispatcher="random"),
        _policy("eplb-dynamic", dispatcher="round-robin"),
        _policy("least-loaded", dispatcher="least-loaded"),
        _policy("metro", dispatcher="metro"),
        _policy("gem", placement="gem"),
        _policy("marginal-exact", dispatcher=BUNDLED),
        _policy("random", "random"),
        _policy(
            "oea", "oea", settings=[{"base_k": k} for k in range(max(1, top_k // 2), 0, -1)][:2]
        ),
        _policy(
            "xshare",
            "xshare",
            settings=[{"num_experts_kept": share(part)} for part in (0.65, 0.5)],
        ),
        _policy("lynx", "lynx", settings=[{"num_experts_kept": share(0.65)}]),
        _policy("laser", "laser", settings=[{"peaked_fraction": 0.6}]),
        _policy("capacity-drop", "capacity-drop", settings=[{"capacity_factor": 1.5}]),
        _policy("capacity-expanded", "capacity-expanded", settings=[{"capacity_factor": 1.5}]),
        _policy("sere", "sere", settings=[{"num_primary": max(1, top_k // 2)}]),
        _policy("logit-penalty", "logit-penalty", settings=[{"penalty_nats": 1.0}]),
        _policy("marginal-cost", BUNDLED, BUNDLED, settings=[{"lambda_": each} for each in TRADES]),
        _policy("marginal-budget", BUNDLED, BUNDLED, settings=[{"gate_mass_fraction": 0.97}]),
        _policy(
            "marginal-energy",
            BUNDLED,
            BUNDLED,
            settings=[{"lambda_": each, "energy_fraction": 1.0} for each in (0.25, 0.5)],
        ),
        _policy("oracle", ORACLE, ORACLE, settings=[{"lambda_": TRADES[0]}]),
    )
