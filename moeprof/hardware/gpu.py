"""What a GPU is built to do: its peaks, sizes, limits and links."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from moeprof.errors import HardwareError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Link:
    """A link between GPUs: the peak rate of one GPU in one direction.

    Raises:
        HardwareError: the rate is not above 0.

    """

    name: str
    bytes_per_second: float

    def __post_init__(self) -> None:
        """Refuse an impossible rate."""
        _check_positive(f"link {self.name!r}", "bytes_per_second", self.bytes_per_second)


@dataclass(frozen=True, slots=True)
class GPU:
    """One GPU's specification; what is not known is None.

    `peak_flops_per_second` maps a number format (bf16, fp16, fp8, fp4, fp32) to the dense peak,
    without structured sparsity. `device_names` are the names by which NVML and torch report the
    card. `memory_bytes` is what the driver reports as total. `scale_up` joins GPUs of one node,
    `scale_out` joins nodes. The achievable fractions are shares, in 0..1, of the peak FLOP/s and
    of the memory bandwidth. `slowdown_celsius` is where the card starts to slow down,
    `max_operating_celsius` what its driver calls the highest temperature to work at. What an
    emulation needs beyond that is said at `physics.Physics`; `idle_watts` are without leakage, and
    `leakage_watts` are those at `assumed.REFERENCE_CELSIUS`.

    Raises:
        HardwareError: a quantity is not above 0, or a fraction lies outside 0..1.

    """

    name: str
    device_names: tuple[str, ...]
    peak_flops_per_second: Mapping[str, float]
    memory_bytes_per_second: float
    memory_bytes: int
    l2_bytes: int | None = None
    power_limit_watts: float | None = None
    num_sms: int | None = None
    shared_bytes_per_sm: int | None = None
    sm_clock_hertz_max: float | None = None
    memory_clock_hertz: float | None = None
    scale_up: Link | None = None
    scale_out: Link | None = None
    achievable_flops_fraction: float | None = None
    achievable_bandwidth_fraction: float | None = None
    slowdown_celsius: float | None = None
    max_operating_celsius: float | None = None
    clock_fraction_per_celsius: float | None = None
    lowest_clock_fraction: float | None = None
    clocked_memory_fraction: float | None = None
    idle_watts: float | None = None
    busy_watts: float | None = None
    leakage_watts: float | None = None
    leakage_efold_celsius: float | None = None
    joules_per_byte: float | None = None
    die_celsius_per_watt: float | None = None
    heatsink_celsius_per_watt: float | None = None

    def __post_init__(self) -> None:
        """Refuse impossible quantities."""
        where = f"GPU {self.name!r}"
        if not self.peak_flops_per_second:
            message = f"{where}: peak_flops_per_second must have at least one number format"
            raise HardwareError(message, hint="Give the dense peak of bf16, for one.")
        for dtype, peak in self.peak_flops_per_second.items():
            _check_positive(where, f"peak_flops_per_second.{dtype}", peak)
        for field in fields(self):
            found = getattr(self, field.name)
            if isinstance(found, int | float):
                _check_positive(where, field.name, found)
                if field.name.endswith("_fraction") and found > 1:
                    message = f"{where}: {field.name} must lie in 0..1, got {found}"
                    raise HardwareError(message, hint="Write 80 % as 0.8.")


def _check_positive(where: str, field: str, found: float) -> None:
    if found <= 0:
        message = f"{where}: {field} must be above 0, got {found}"
        raise HardwareError(message, hint="Leave out what is not known.")
