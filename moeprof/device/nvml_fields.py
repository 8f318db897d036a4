"""Single NVML readings, each a value or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moeprof.errors import DeviceLost

if TYPE_CHECKING:
    from collections.abc import Sequence

GPU_IS_LOST = 15  # NVML_ERROR_GPU_IS_LOST
UNSIGNED_LONG_LONG = 3  # NVML_VALUE_TYPE_UNSIGNED_LONG_LONG

# nvmlValue_t's members, by nvmlValueType_t.
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


@dataclass(frozen=True, slots=True)
class Reading:
    """A value in NVML's own unit, or None with the reason; `value_type` is set for fields."""

    value: Any | None
    reason: str | None = None
    value_type: int | None = None


def call(library: Any, function: str, *arguments: Any) -> Reading:
    """Call one NVML function by name.

    Raises:
        DeviceLost: NVML says that the GPU is lost.

    """
    getter = getattr(library, function, None)
    if getter is None:
        return Reading(None, f"this nvidia-ml-py has no {function}")
    try:
        return Reading(getter(*arguments))
    except library.NVMLError as error:
        if error.value == GPU_IS_LOST:
            raise _lost(function) from error
        return Reading(None, f"{function}: {error}")


def fields(library: Any, handle: Any, ids: Sequence[int]) -> dict[int, Reading]:
    """Read several fields in one call, each with its own return code.

    Raises:
        DeviceLost: NVML says that the GPU is lost.

    """
    answer = call(library, "nvmlDeviceGetFieldValues", handle, list(ids))
    if answer.value is None:
        return {field_id: Reading(None, answer.reason) for field_id in ids}
    pairs = zip(ids, answer.value, strict=True)
    return {field_id: _field(library, field_id, found) for field_id, found in pairs}


def _field(library: Any, field_id: int, found: Any) -> Reading:
    if found.nvmlReturn == GPU_IS_LOST:
        raise _lost(f"field {field_id}")
    if found.nvmlReturn:
        return Reading(None, f"NVML field {field_id}: {library.NVMLError(found.nvmlReturn)}")
    if not 0 <= found.valueType < len(_MEMBERS):
        return Reading(None, f"NVML field {field_id}: unknown value type {found.valueType}")
    value = getattr(found.value, _MEMBERS[found.valueType])
    return Reading(value, value_type=found.valueType)


def _lost(where: str) -> DeviceLost:
    message = f"NVML says that the GPU is lost ({where})"
    return DeviceLost(message, hint="Reset the GPU or the machine; `dmesg` may name an Xid.")
