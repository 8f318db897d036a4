"""What one policy did in one scene, step by step, before anything is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from moeprof.recipe.scene import Knob

Claim = Literal["exact", "re-routed"]
Hardware = Literal["measured", "emulated"]


@dataclass(frozen=True, slots=True, eq=False)
class PolicyRun:
    """One setting of one policy over all seeds; arrays are [num_seeds, num_steps] unless said.

    Settling steps are not in them. Seed s of every run of a scene has the same requests, tokens,
    GPUs and noise, so that runs are paired.
    """

    policy: str
    setting: Mapping[str, Knob]
    claim: Claim
    step_seconds: NDArray[np.float64]
    """Latency of the simulated MoE layers of a step, router and telemetry charged."""
    step_joules: NDArray[np.float64]
    """Energy of all GPUs over the step, idle and waiting ones too."""
    active_experts: NDArray[np.float64]
    """Experts with a row, summed over ranks, mean over layers."""
    gate_mass_fraction: NDArray[np.float64]
    """Retained gate mass against plain top-k, mean over layers and tokens."""
    changed_fraction: NDArray[np.float64]
    """Share of selections that differ from plain top-k's, mean over layers and tokens."""
    num_dropped_rows: NDArray[np.float64]
    """Rows fewer than top-k has, summed over layers."""
    loss_difference_nats: NDArray[np.float64] | None
    """[num_seeds, num_steps, batch_size]: cross-entropy less plain top-k's; live traffic only."""
    peak_celsius: NDArray[np.float64]
    """[num_seeds]: the hottest die at any step."""
    throttled_seconds: NDArray[np.float64]
    """[num_seeds]: seconds of decode in which a busy rank's clock was held down, ranks added."""
    rows_fraction: NDArray[np.float64]
    """[num_seeds, num_gpus]: share of all rows that each rank computed."""
    die_celsius: NDArray[np.float64]
    """[num_seeds, num_gpus]: mean over the steps."""
    router_seconds: float
    """Charged to every step for routing, dispatching and telemetry."""
    curves: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """What adaptation learnt, [num_seeds, num_steps] or [num_seeds, num_steps, num_gpus]."""


@dataclass(frozen=True, slots=True, eq=False)
class SceneRuns:
    """All runs of a scene.

    `requests` is [num_seeds, num_steps, batch_size]: the request in each place of the batch, no
    two seeds sharing a number.
    """

    scene: str
    question: str
    baseline: str
    has_constant_compute: bool
    traffic: Literal["recorded", "live", "generated"]
    hardware: Hardware
    emulated: tuple[str, ...]
    """What of the figures is not measured, one sentence each."""
    num_layers: int
    batch_size: int
    budget_cross_entropy_nats: float
    budget_gate_mass_fraction: float
    requests: NDArray[np.int64]
    runs: tuple[PolicyRun, ...]
    notes: tuple[str, ...] = ()
