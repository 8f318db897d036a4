"""The names of points and runs: hashes of what they are, so that a killed sweep finds itself."""

from __future__ import annotations

import hashlib
import json
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.device.protocol import DeviceIdentity
    from moeprof.workload.workload import Workload

_POINT_DIGITS = 16
_RUN_DIGITS = 12
_entering = attrgetter(
    "model",
    "routing_pattern",
    "routing_seed",
    "layer.hidden_size",
    "layer.expert_size",
    "layer.num_experts",
    "layer.top_k",
    "weight_dtype",
    "activation_dtype",
    "batch_size",
    "placement",
    "ep_size",
    "ep_rank",
    "tp_size",
)
# One encoder for all: json.dumps would build one for each call that departs from its defaults.
_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False).encode


def point_id(
    workload: Workload,
    *,
    hold_celsius: float | None,
    l2_state: str,
    kernel: str,
    device_kind: str,
    replay_digest: str | None = None,
) -> str:
    """Return the 16 hexadecimal digits that name a point, the same on every machine.

    What enters: the model's name and the layer's dimensions (d, f, E, k; neither the layer's name
    nor its shared experts, which are not measured), the number formats, batch size, routing
    pattern and seed, placement, the sizes of the parallel groups, the rank, the temperature held,
    the L2 state, the kernel and the kind of device. `rows_per_expert` follows from these and
    stays out, so that planning draws no routing. `replay_digest`, a hash of a recording's content,
    stands in for its path: a recording that moves keeps its points, one that changes does not.
    """
    model, pattern, *rest = _entering(workload)
    if replay_digest is not None:
        pattern = f"{pattern.partition(':')[0]}:{replay_digest}"
    hold = None if hold_celsius is None else float(hold_celsius)  # 55 and 55.0 are one
    parts = (model, pattern, *rest, hold, l2_state, kernel, device_kind)
    return _digest(parts, _POINT_DIGITS)


def run_id(
    recipe: Mapping[str, Any],
    *,
    seed: int,
    device: DeviceIdentity,
    kernel_versions: Mapping[str, Mapping[str, str]],
    moeprof_version: str,
) -> str:
    """Return the 12 hexadecimal digits that name a run: the same command finds the same run.

    `recipe` is the canonical recipe as plain JSON values, `kernel_versions` maps a kernel to its
    `versions()`. Another recipe, seed, device, driver, library or moeprof makes another run.
    """
    parts = {
        "recipe": recipe,
        "seed": seed,
        "device": [device.kind, device.name, device.uuid, device.simulated, device.versions],
        "kernels": kernel_versions,
        "moeprof": moeprof_version,
    }
    return _digest(parts, _RUN_DIGITS)


def _digest(parts: object, digits: int) -> str:
    return hashlib.sha256(_encode(parts).encode()).hexdigest()[:digits]
