"""Claims about the simulated GPU as a device: its door, its faults, and resuming."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from device.sim import bench
from hypothesis import given, settings
from hypothesis import strategies as st

import moeprof
from moeprof.device.sim.device import SimulatedDevice, open_simulated
from moeprof.device.sim.faults import Faults
from moeprof.device.sim.sensors import FAILED
from moeprof.errors import (
    DeviceError,
    DeviceLost,
    DeviceOutOfMemory,
    DeviceUnavailable,
    KernelUnsupported,
)

if TYPE_CHECKING:
    from moeprof.device.protocol import Device

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["decode", "dense", "run decode", "run dense", "sleep", "state", "joules"]),
        st.floats(0.0, 2.0),
    ),
    max_size=30,
)
SCATTERED = bench.truth(dropped_reads_fraction=0.2, outliers_fraction=0.1, drift_fraction=0.1)


def perform(device: SimulatedDevice, actions: list[tuple[str, float]]) -> list[Any]:
    decode = device.prepare(bench.work())
    dense = device.prepare(bench.work(bench.DENSE_ROWS))
    assert device.energy_counter is not None
    results: list[Any] = []
    for name, seconds in actions:
        match name:
            case "decode":
                results.append([decode.sample() for _ in range(20)])
            case "dense":
                results.append([dense.sample() for _ in range(20)])
            case "run decode":
                results.append(decode.run(seconds))
            case "run dense":
                results.append(dense.run(seconds))
            case "sleep":
                device.sleep(seconds)
            case "state":
                results.append(device.state())
            case "joules":
                results.append(device.energy_counter.read())
        results.append((device.now(), device.wall_clock()))
    return results


@settings(max_examples=60, deadline=None)
@given(before=ACTIONS, after=ACTIONS)
def test_a_restored_device_continues_bit_identically(
    before: list[tuple[str, float]], after: list[tuple[str, float]]
) -> None:
    undisturbed = bench.device(SCATTERED)
    perform(undisturbed, before)
    text = json.dumps(undisturbed.snapshot(), allow_nan=False)
    restored = bench.device(SCATTERED)
    perform(restored, after[:3])

    restored.restore(json.loads(text))

    assert perform(restored, after) == perform(undisturbed, after)
    assert restored.snapshot() == undisturbed.snapshot()


def test_a_snapshot_after_a_long_load_restores_bit_identically() -> None:
    actions = [("dense", 0.0)] * 300 + [("run dense", 2.0)] * 10 + [("state", 0.0)] * 20
    undisturbed, restored = bench.device(SCATTERED), bench.device(SCATTERED)
    perform(undisturbed, actions)

    restored.restore(json.loads(json.dumps(undisturbed.snapshot())))

    assert perform(restored, actions) == perform(undisturbed, actions)


def test_a_snapshot_does_not_change_afterwards() -> None:
    device = bench.device()
    snapshot = device.snapshot()
    text = json.dumps(snapshot)

    perform(device, [("decode", 0.0), ("run dense", 2.0), ("state", 0.0), ("joules", 0.0)])

    assert json.dumps(snapshot) == text


def test_a_snapshot_of_another_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="the snapshot is of sim-test-card-8"):
        bench.device(seed=7).restore(bench.device(seed=8).snapshot())


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    actions = [("decode", 0.0), ("run dense", 1.0), ("state", 0.0), ("joules", 0.0)]

    first, again, other = (
        perform(bench.device(SCATTERED, seed=seed), actions) for seed in (1, 1, 2)
    )

    assert first == again
    assert first[0] != other[0]
    assert first[-2] != other[-2]


def test_reading_sensors_does_not_change_the_noise_of_samples() -> None:
    actions = [("decode", 0.0), ("decode", 0.0)]
    read_between = [actions[0], ("state", 0.0), ("joules", 0.0), actions[1]]
    truth = bench.truth(state_read_seconds=0.0, counter_read_seconds=0.0)

    plain, read = (perform(bench.device(truth), each) for each in (actions, read_between))

    assert plain[2] == read[6]


def test_the_device_says_that_it_is_simulated() -> None:
    device: Device = open_simulated("sim:h200-sxm", seed=3)

    assert device.identity.kind == "sim:h200-sxm"
    assert device.identity.name == "simulated NVIDIA H200"
    assert device.identity.uuid == "sim-h200-sxm-3"
    assert device.identity.simulated
    assert device.identity.versions == {"simulator": moeprof.__version__}
    assert device.energy_counter is not None
    assert device.energy_counter.source == "simulated"


def test_time_is_virtual_and_the_epoch_is_fixed() -> None:
    device = bench.device()

    device.sleep(3600.0)

    assert device.now() == 3600.0
    assert device.wall_clock() == 1_767_225_600.0 + 3600.0


def test_an_unknown_gpu_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(DeviceUnavailable, match="h200-sxn") as caught:
        open_simulated("sim:h200-sxn", seed=0)

    assert caught.value.hint is not None
    assert "sim:h200-sxm" in caught.value.hint


def test_every_gpu_of_the_catalogue_can_be_simulated() -> None:
    for name in ("a100-sxm-80gb", "b200", "deployment-card", "h100-sxm", "h200-sxm", "l40s"):
        device = open_simulated(f"sim:{name}", seed=0)

        assert device.prepare(bench.work((1, 2))).run(1.0) > 0


def test_weights_that_do_not_fit_are_out_of_memory() -> None:
    device = bench.device()
    workload = bench.work().workload
    num_fitting = device.free_bytes() // (workload.num_local_experts * workload.bytes_per_expert)

    device.prepare(bench.work(num_buffer_sets=num_fitting))

    with pytest.raises(DeviceOutOfMemory, match="bytes"):
        device.prepare(bench.work(num_buffer_sets=num_fitting + 1))


def test_work_with_real_data_is_refused() -> None:
    class RealWork:
        num_buffer_sets = 1
        l2_state = "cold"

        def launch(self, buffer_set: int) -> None:
            raise AssertionError

    with pytest.raises(KernelUnsupported, match="simulated work only, got RealWork"):
        bench.device().prepare(RealWork())


def test_ceilings_are_the_specification_and_unknown_dtypes_have_none() -> None:
    ceilings = bench.device().ceilings("bf16")

    assert ceilings is not None
    assert (ceilings.bytes_per_second, ceilings.flops_per_second) == (4e12, 1e15)
    assert ceilings.source == "datasheet"
    assert bench.device().ceilings("fp4") is None


def test_a_lost_device_says_so_from_then_on() -> None:
    device = bench.device(faults=Faults(lost_at_seconds=5.0))
    program = device.prepare(bench.work())
    program.run(2.0)
    device.state()

    with pytest.raises(DeviceLost, match="lost at 5"):
        program.run(10.0)

    assert device.energy_counter is not None
    for refused in (program.sample, device.state, device.energy_counter.read):
        with pytest.raises(DeviceLost):
            refused()
    with pytest.raises(DeviceLost):
        device.prepare(bench.work())


def test_failed_sensors_are_all_none_with_their_reason() -> None:
    device = bench.device(faults=Faults(sensors_fail_at_seconds=1.0))
    assert device.state().absent == {}

    device.sleep(2.0)

    state = device.state()
    assert (state.die_celsius, state.watts, state.clock_events) == (None, None, None)
    assert set(state.absent.values()) == {FAILED}
    assert device.energy_counter is not None
    assert device.energy_counter.read() is None


def test_a_card_without_an_energy_counter_says_why() -> None:
    device = bench.device(faults=Faults(energy_counter_absent=True))

    assert device.energy_counter is None
    assert device.energy_absent_reason is not None


def test_torch_is_not_imported() -> None:
    script = "import sys, moeprof.device.sim.device; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
