"""What telemetry costs: bytes on the links, and the seconds that they add to every MoE layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moeprof.errors import HardwareError

if TYPE_CHECKING:
    from moeprof.hardware.gpu import GPU, Link
    from moeprof.recipe.scene import LinkSection, TelemetrySection

READING_BYTES: Final = 32
"""One reading on the wire: seven figures in float32, and the number of the layer it is of.

The reader has timed that layer itself, so no clocks need to agree.
"""


def telemetry_bytes(section: TelemetrySection, num_gpus: int) -> int:
    """Return what one GPU sends per MoE layer: its reading, to each of the others."""
    return 0 if section.kind == "none" else (num_gpus - 1) * READING_BYTES


def telemetry_seconds(
    section: TelemetrySection, links: LinkSection, gpu: GPU, *, num_gpus: int, num_nodes: int
) -> float:
    """Return what telemetry adds to one MoE layer, alpha + bytes / beta (Hockney, 1994).

    `piggyback`: a reading is appended to each of the messages that an all-to-all sends anyway; it
    costs its bytes and no start-up. `message`: an all-gather before routing; every GPU writes to
    all others at once, so it starts up once, as slowly as the widest link that it crosses. GPUs of
    one node are reached by scale-up links, others by scale-out links, both at the same time.

    Raises HardwareError: neither the scene nor the GPU's specification has the rate of a link.
    """
    if section.kind == "none" or num_gpus == 1:
        return 0.0
    num_near = num_gpus // num_nodes - 1
    num_far = num_gpus - 1 - num_near
    near_seconds = far_seconds = 0.0
    if num_near:
        rate = _rate("scale_up", links.scale_up_bytes_per_second, gpu, gpu.scale_up)
        near_seconds = num_near * READING_BYTES / rate
    if num_far:
        rate = _rate("scale_out", links.scale_out_bytes_per_second, gpu, gpu.scale_out)
        far_seconds = num_far * READING_BYTES / rate
    seconds = max(near_seconds, far_seconds)
    if section.transport == "piggyback":
        return seconds
    return seconds + (links.scale_out_seconds if num_far else links.scale_up_seconds)


def _rate(name: str, given: float | None, gpu: GPU, link: Link | None) -> float:
    if given is not None:
        return given
    if link is None:
        raise HardwareError(
            f"GPU {gpu.name!r}: {name} must be known to price telemetry, got none",
            hint=f"Set links.{name}_bytes_per_second in the scene.",
        )
    return link.bytes_per_second
