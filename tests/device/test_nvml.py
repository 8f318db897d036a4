from __future__ import annotations

import sys
from typing import Any

import pytest

from moeprof.device.nvml import Nvml
from moeprof.errors import DeviceLost
from moeprof.record import ClockEvent

UUID = "11111111-2222-3333-4444-555555555555"


def test_every_reading_arrives_in_si_units(fake_nvml: Any) -> None:
    state = Nvml(UUID, library=fake_nvml).state(12.5)

    assert state.at_seconds == 12.5
    assert (state.die_celsius, state.memory_celsius) == (61.0, 71.0)
    assert (state.sm_clock_hertz, state.memory_clock_hertz) == (1.98e9, 3.201e9)
    assert state.watts == pytest.approx(310)
    assert state.clock_events == {ClockEvent.SW_POWER_CAP, ClockEvent.SW_THERMAL_SLOWDOWN}
    assert state.throttle_seconds == pytest.approx(
        {
            ClockEvent.SW_POWER_CAP: 3.0,
            ClockEvent.SW_THERMAL_SLOWDOWN: 1.0,
            ClockEvent.HW_THERMAL_SLOWDOWN: 0.0,
            ClockEvent.HW_POWER_BRAKE_SLOWDOWN: 0.002,
        }
    )
    assert state.absent == {}


def test_energy_and_limit_arrive_in_si_units(fake_nvml: Any) -> None:
    nvml = Nvml(UUID, library=fake_nvml)

    assert nvml.energy_joules() == pytest.approx(5000)
    assert nvml.power_limit_watts == pytest.approx(700)
    assert nvml.driver_version == "580.1"


def test_a_field_that_fails_is_none_with_its_own_reason(fake_nvml: Any) -> None:
    del fake_nvml.field_values[82]

    state = Nvml(UUID, library=fake_nvml).state(0)

    assert state.memory_celsius is None
    assert state.absent == {"memory_celsius": "NVML field 82: Not Supported"}


def test_a_sensor_that_reads_zero_is_absent_not_zero(fake_nvml: Any) -> None:
    fake_nvml.field_values[82] = (1, 0)

    state = Nvml(UUID, library=fake_nvml).state(0)

    assert state.memory_celsius is None
    assert "0" in state.absent["memory_celsius"]


@pytest.mark.parametrize(
    ("missing", "watts"), [((186,), 300), ((186, 185), 333)], ids=["average", "usage"]
)
def test_power_falls_back_to_the_next_source(
    fake_nvml: Any, missing: tuple[int, ...], watts: float
) -> None:
    for field_id in missing:
        del fake_nvml.field_values[field_id]

    assert Nvml(UUID, library=fake_nvml).state(0).watts == pytest.approx(watts)


def test_older_getters_serve_older_drivers(fake_nvml: Any) -> None:
    del fake_nvml.answers["nvmlDeviceGetTemperatureV"]
    fake_nvml.answers["nvmlDeviceGetCurrentClocksEventReasons"] = fake_nvml.NVMLError(13)

    state = Nvml(UUID, library=fake_nvml).state(0)

    assert state.die_celsius == 62.0
    assert state.clock_events == {ClockEvent.IDLE}
    assert state.absent == {}


def test_energy_falls_back_to_the_field_then_to_a_reason(fake_nvml: Any) -> None:
    fake_nvml.answers["nvmlDeviceGetTotalEnergyConsumption"] = fake_nvml.NVMLError(3)
    assert Nvml(UUID, library=fake_nvml).energy_joules() == pytest.approx(6000)

    del fake_nvml.field_values[83]
    without = Nvml(UUID, library=fake_nvml)
    assert without.energy_joules() is None
    assert "Not Supported" in without.energy_absent_reason


def test_the_limit_falls_back_to_the_enforced_one(fake_nvml: Any) -> None:
    del fake_nvml.field_values[190]

    assert Nvml(UUID, library=fake_nvml).power_limit_watts == pytest.approx(650)


def test_slowdown_counters_are_found_under_the_older_numbers(fake_nvml: Any) -> None:
    for old, new in ((251, 269), (252, 270), (253, 271)):
        fake_nvml.field_values[old] = fake_nvml.field_values.pop(new)

    seconds = Nvml(UUID, library=fake_nvml).state(0).throttle_seconds

    assert seconds[ClockEvent.SW_THERMAL_SLOWDOWN] == 1.0


def test_power_smoothing_is_not_mistaken_for_slowdown_counters(fake_nvml: Any) -> None:
    for field_id in (269, 270, 271):
        fake_nvml.field_values[field_id] = (1, 77)

    seconds = Nvml(UUID, library=fake_nvml).state(0).throttle_seconds

    assert seconds == {ClockEvent.SW_POWER_CAP: 3.0, ClockEvent.SW_THERMAL_SLOWDOWN: 0.5}


def test_mig_slices_report_no_power_of_the_whole_card(fake_nvml: Any) -> None:
    fake_nvml.known = {f"MIG-{UUID}": "slice"}

    nvml = Nvml(UUID, library=fake_nvml)
    state = nvml.state(0)

    assert nvml.full_uuid == f"MIG-{UUID}"
    assert state.die_celsius == 61.0
    assert state.watts is None
    assert "MIG" in state.absent["watts"]
    assert nvml.energy_joules() is None


def test_a_lost_gpu_raises_from_a_getter_and_from_a_field(fake_nvml: Any) -> None:
    nvml = Nvml(UUID, library=fake_nvml)

    fake_nvml.field_values[186] = fake_nvml.NVMLError(15)
    with pytest.raises(DeviceLost):
        nvml.state(0)
    fake_nvml.answers["nvmlDeviceGetTotalEnergyConsumption"] = fake_nvml.NVMLError(15)
    with pytest.raises(DeviceLost):
        nvml.energy_joules()


@pytest.mark.parametrize("cause", ["no driver", "unknown GPU", "no module"])
def test_without_nvml_everything_is_absent_with_the_reason(
    fake_nvml: Any, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    if cause == "no driver":
        fake_nvml.answers["nvmlInit"] = fake_nvml.NVMLError(9)
    elif cause == "unknown GPU":
        fake_nvml.known = {}
    else:
        monkeypatch.setitem(sys.modules, "pynvml", None)
        fake_nvml = None

    nvml = Nvml(UUID, library=fake_nvml)
    state = nvml.state(0)
    nvml.close()

    assert (state.die_celsius, state.watts, state.clock_events) == (None, None, None)
    assert len(set(state.absent.values())) == 1
    assert state.absent["watts"]
    assert nvml.energy_absent_reason
    assert nvml.energy_joules() is None


def test_nvml_that_dies_half_way_gives_reasons(fake_nvml: Any) -> None:
    nvml = Nvml(UUID, library=fake_nvml)
    for name in list(fake_nvml.answers):
        fake_nvml.answers[name] = fake_nvml.NVMLError(999)
    fake_nvml.field_values = {}

    state = nvml.state(0)

    assert state.die_celsius is None
    assert "999" in state.absent["die_celsius"]
    assert state.throttle_seconds == {}
    assert nvml.energy_joules() is None


def test_the_real_library_agrees_on_the_numbers() -> None:
    pynvml = pytest.importorskip("pynvml")
    from moeprof.device import nvml, nvml_fields, nvml_throttling  # noqa: PLC0415

    assert nvml_fields.GPU_IS_LOST == pynvml.NVML_ERROR_GPU_IS_LOST
    assert nvml_fields.UNSIGNED_LONG_LONG == pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
    assert nvml._CLOCK_SM == pynvml.NVML_CLOCK_SM
    assert nvml._CLOCK_MEMORY == pynvml.NVML_CLOCK_MEM
    assert nvml._MEMORY_TEMP == pynvml.NVML_FI_DEV_MEMORY_TEMP
    assert nvml._TOTAL_ENERGY == pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
    assert nvml._POWER_AVERAGE == pynvml.NVML_FI_DEV_POWER_AVERAGE
    assert nvml._POWER_INSTANT == pynvml.NVML_FI_DEV_POWER_INSTANT
    assert nvml._POWER_CURRENT_LIMIT == pynvml.NVML_FI_DEV_POWER_CURRENT_LIMIT
    assert pynvml.NVML_FI_DEV_PERF_POLICY_POWER == nvml_throttling._POLICY_POWER
    assert (
        pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN in nvml_throttling.COUNTER_FIELDS
    )
    assert nvml_throttling.events_of(pynvml.nvmlClocksEventReasonAll & 0x1FF) == set(ClockEvent)
