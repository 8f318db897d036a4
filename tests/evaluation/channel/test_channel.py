"""Claims about what a router reads of GPUs, and when."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.evaluation.channel import Readings, TelemetryChannel, Truths
from moeprof.evaluation.channel.figures import FIGURES
from moeprof.recipe.scene import TelemetrySection

N, R, LAYERS = 3, 4, 5
PLAIN: dict[str, Any] = {"noise": 0.0, "celsius_step": 0.0, "age_layers": 1}


def channel(num_seeds: int = N, seed: int = 7, **section: Any) -> TelemetryChannel:
    return TelemetryChannel(
        TelemetrySection(**section),
        num_seeds=num_seeds,
        num_gpus=R,
        layers_per_step=LAYERS,
        seed=seed,
    )


def truths(position: int, num_seeds: int = N) -> Truths:
    """Figures that tell the position, the seed, the rank and their own name apart."""
    base = 1.0 + position + np.arange(num_seeds)[:, None] * 1e3 + np.arange(R) * 0.1
    return Truths(**{name: base * 10.0**place for place, name in enumerate(FIGURES)})


def random_truths(random: np.random.Generator, num_seeds: int = N) -> Truths:
    shape = (num_seeds, R)
    return Truths(
        die_celsius=random.uniform(20, 90, shape),
        sm_clock_hertz=random.uniform(1e9, 2e9, shape),
        power_watts=random.uniform(100, 700, shape),
        layer_seconds=random.uniform(1e-4, 2e-4, shape),
        expected_layer_seconds=random.uniform(1e-4, 2e-4, shape),
        expected_watts=random.uniform(100, 700, shape),
        free_bytes=random.uniform(1e9, 2e9, shape),
    )


def walk(
    one: TelemetryChannel, num_steps: int, num_seeds: int = N, seconds: float = 0.01
) -> list[Readings]:
    """Read before every layer and put after it, the truth naming the position."""
    read = []
    for position in range(num_steps * LAYERS):
        step, layer = divmod(position, LAYERS)
        read.append(one.get(step, layer, position * seconds))
        one.put(step, layer, (position + 1) * seconds, truths(position, num_seeds))
    return read


def same(left: Readings, right: Readings) -> bool:
    return all(
        np.array_equal(getattr(left, field.name), getattr(right, field.name), equal_nan=True)
        for field in fields(Readings)
    )


def untold(readings: Readings) -> bool:
    return all(np.isnan(getattr(readings, field.name)).all() for field in fields(Readings))


@pytest.mark.parametrize("age_layers", [0, 1, 2, 7])
def test_a_reading_is_as_many_layers_old_as_the_scene_says(age_layers: int) -> None:
    read = walk(channel(**PLAIN | {"age_layers": age_layers}), num_steps=40)

    late = max(age_layers, 1)  # nothing is put for a layer before it is routed
    for position, readings in enumerate(read):
        if position < late:
            assert untold(readings)
            continue
        expected = truths(position - late)
        for name in FIGURES:
            np.testing.assert_array_equal(getattr(readings, name), getattr(expected, name))
        assert (readings.age_layers == late).all()
        np.testing.assert_allclose(readings.age_seconds, (late - 1) * 0.01, atol=1e-12)


def test_age_0_reads_what_was_put_for_the_layer_that_asks() -> None:
    one = channel(**PLAIN | {"age_layers": 0})
    one.put(0, 3, 0.5, truths(3))

    readings = one.get(0, 3, 0.5)

    np.testing.assert_array_equal(readings.die_celsius, truths(3).die_celsius)
    assert (readings.age_layers == 0).all()


def test_both_ages_hold_and_every_seed_has_its_own_clock() -> None:
    one = channel(num_seeds=2, **PLAIN | {"age_layers": 2, "age_seconds": 0.1})
    clock = np.array([0.01, 0.04])  # seconds of a layer in either seed
    for position in range(1000):
        step, layer = divmod(position, LAYERS)
        readings = one.get(step, layer, position * clock)
        one.put(step, layer, (position + 1) * clock, truths(position, 2))

    # Brute force: the newest p with p <= 997 and (999 - (p + 1)) · clock >= 0.1.
    for seed in range(2):
        newest = max(p for p in range(998) if (998 - p) * clock[seed] >= 0.1 - 1e-12)
        assert readings.die_celsius[seed, 0] == truths(newest, 2).die_celsius[seed, 0]
        assert readings.age_seconds[seed, 0] >= 0.1 - 1e-9
    assert readings.age_layers[:, 0].tolist() == [11, 4]


def test_noise_is_log_normal_on_what_is_measured_and_on_nothing_else() -> None:
    one = channel(**PLAIN | {"noise": 0.1})
    logs = {name: [] for name in FIGURES}
    for position in range(2000):
        truth = truths(0)
        one.put(position, 0, position, truth)
        read = one.get(position, 1, position)
        for name in FIGURES:
            logs[name].append(np.log(getattr(read, name) / getattr(truth, name)))

    for name in ("die_celsius", "sm_clock_hertz", "power_watts", "layer_seconds"):
        noise = np.stack(logs[name])
        assert abs(noise.mean()) < 5 * 0.1 / np.sqrt(noise.size)
        assert noise.std() == pytest.approx(0.1, rel=0.03)
    for name in ("expected_layer_seconds", "expected_watts", "free_bytes"):
        assert not np.any(logs[name])


def test_temperatures_come_in_the_thermometers_steps() -> None:
    one = channel(**PLAIN | {"celsius_step": 0.5})
    truth = replace(truths(0), die_celsius=np.full((N, R), 61.3))
    one.put(0, 0, 0.0, truth)

    assert (one.get(0, 1, 0.0).die_celsius == 61.5).all()


def test_where_a_reading_is_lost_the_one_before_stays_and_ages() -> None:
    read = walk(channel(**PLAIN | {"lost_fraction": 0.3}), num_steps=400)

    ages = np.stack([readings.age_layers for readings in read[50:]])
    assert np.mean(ages > 1) == pytest.approx(0.3, abs=0.02)
    assert np.mean(ages > 2) == pytest.approx(0.09, abs=0.01)
    for position, readings in list(enumerate(read))[50:80]:
        for seed in range(N):
            for rank in range(R):
                taken = position - int(readings.age_layers[seed, rank])
                assert readings.power_watts[seed, rank] == truths(taken).power_watts[seed, rank]
                assert readings.age_seconds[seed, rank] == pytest.approx(
                    (position - taken - 1) * 0.01, abs=1e-9
                )


def test_single_figures_are_nan_as_often_as_the_scene_says() -> None:
    read = walk(channel(**PLAIN | {"nan_fraction": 0.2}), num_steps=200)[1:]

    for name in FIGURES:
        absent = np.stack([np.isnan(getattr(readings, name)) for readings in read])
        assert absent.mean() == pytest.approx(0.2, abs=0.03)
    assert not np.isnan(read[-1].age_seconds).any()


def test_uniform_telemetry_is_equal_in_every_bit_whatever_is_lost() -> None:
    one = channel(kind="uniform", noise=0.1, lost_fraction=0.2, nan_fraction=0.2, celsius_step=1.0)
    random = np.random.default_rng(0)
    seen = 0
    for step in range(50):
        truth = random_truths(random)
        one.put(step, 0, step, truth)
        readings = one.get(step, 1, step)
        for field in fields(Readings):
            figure = getattr(readings, field.name)
            assert np.array_equal(figure, np.repeat(figure[:, :1], R, axis=1), equal_nan=True)
            seen += np.count_nonzero(~np.isnan(figure))
    assert seen > 1000


def test_uniform_telemetry_is_the_mean_gpus() -> None:
    one = channel(kind="uniform", **PLAIN)
    one.put(0, 0, 0.0, truths(0))

    np.testing.assert_allclose(one.get(0, 1, 0.0).power_watts[0], truths(0).power_watts[0].mean())


def test_a_shuffled_rank_always_tells_the_figures_of_one_and_the_same_other() -> None:
    read = walk(channel(num_seeds=20, kind="shuffled", **PLAIN), num_steps=4, num_seeds=20)[1:]

    whose = []
    for position, readings in enumerate(read):
        truth = truths(position, 20)
        match = readings.layer_seconds[:, :, None] == truth.layer_seconds[:, None, :]
        assert (match.sum(axis=-1) == 1).all()
        whose.append(match.argmax(axis=-1))
    assert (np.stack(whose) == whose[0]).all()
    assert (whose[0] != np.arange(R)).all()
    assert (np.sort(whose[0], axis=-1) == np.arange(R)).all()
    assert len(np.unique(whose[0], axis=0)) > 2


def test_a_gpu_that_is_alone_can_only_tell_its_own() -> None:
    section = TelemetrySection(kind="shuffled", **PLAIN)
    one = TelemetryChannel(section, num_seeds=1, num_gpus=1, layers_per_step=1, seed=0)
    truth = Truths(*(np.full((1, 1), value) for value in (50.0, 1e9, 300.0, 1e-4, 1e-4, 300.0, 0)))
    one.put(0, 0, 0.0, truth)

    assert one.get(1, 0, 0.0).die_celsius[0, 0] == 50.0


def test_a_frozen_gpu_tells_its_first_reading_as_if_it_were_new() -> None:
    read = walk(channel(kind="frozen", **PLAIN), num_steps=40)[1:]

    for readings in read:
        np.testing.assert_array_equal(readings.power_watts, truths(0).power_watts)
        assert (readings.age_layers == 1).all()


def test_frozen_telemetry_begins_with_the_first_reading_that_is_not_lost() -> None:
    read = walk(channel(kind="frozen", lost_fraction=0.5, **PLAIN), num_steps=40)

    last = read[-1]
    for seed in range(N):
        for rank in range(R):
            told = [one.power_watts[seed, rank] for one in read]
            first = next(value for value in told if not np.isnan(value))
            assert last.power_watts[seed, rank] == first


def test_liars_swap_slow_and_fast_hot_and_cold() -> None:
    one = channel(num_seeds=400, kind="adversarial", **PLAIN)
    expected = np.tile([1e-4, 2e-4, 1e-4, 3e-4], (400, 1))
    ratio = np.array([1.0, 1.25, 1.1, 1.0])
    truth = Truths(
        die_celsius=np.tile([0.0, 90.0, 60.0, 30.0], (400, 1)),
        sm_clock_hertz=np.tile([2e9, 1e9, 1.5e9, 2e9], (400, 1)),
        power_watts=expected * ratio * 1e6,
        layer_seconds=expected * ratio,
        expected_layer_seconds=expected,
        expected_watts=expected * 1e6,
        free_bytes=np.zeros((400, R)),
    )
    one.put(0, 0, 0.0, truth)
    readings = one.get(0, 1, 0.0)

    # By hand: mirrored in the logarithm about 1 and 1.25, and about 0 °C and 90 °C.
    wanted = {
        "die_celsius": [90.0, 0.0, 30.0, 60.0],
        "sm_clock_hertz": [1e9, 2e9, 1.5e9, 1e9],
        "layer_seconds": (expected[0] * [1.25, 1.0, 1.25 / 1.1, 1.25]).tolist(),
        "power_watts": (expected[0] * 1e6 * [1.25, 1.0, 1.25 / 1.1, 1.25]).tolist(),
        "expected_layer_seconds": expected[0].tolist(),
    }
    for name, told in wanted.items():
        np.testing.assert_allclose(np.nanmedian(getattr(readings, name), axis=0), told)
    absurd = ~np.isclose(readings.layer_seconds, wanted["layer_seconds"])
    assert absurd.mean() == pytest.approx(0.05, abs=0.02)
    found = readings.layer_seconds[absurd]
    assert {-1.0, 0.0, 1e9} <= set(found[~np.isnan(found)].tolist())
    assert np.isnan(found).any()


def test_liars_with_nothing_to_do_pass_on_what_there_is() -> None:
    one = channel(num_seeds=1, kind="adversarial", **PLAIN)
    zeros = np.zeros((1, R))
    one.put(0, 0, 0.0, Truths(*([zeros] * len(FIGURES))))

    told = one.get(0, 1, 0.0).layer_seconds
    assert set(told[~np.isnan(told)].tolist()) <= {0.0, -1.0, 1e9}


def test_without_telemetry_nothing_is_ever_told() -> None:
    read = walk(channel(kind="none", **PLAIN), num_steps=3)

    assert all(untold(readings) for readings in read)
    assert read[-1].telemetry(0).readings == ()


@given(
    seed=st.integers(-(2**70), 2**70),
    kind=st.sampled_from(["true", "uniform", "shuffled", "frozen", "adversarial"]),
    num_seeds=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_a_seed_reads_the_same_alone_and_beside_others(
    seed: int, kind: str, num_seeds: int
) -> None:
    section = {"kind": kind, "lost_fraction": 0.2, "nan_fraction": 0.1, "noise": 0.05}
    alone = walk(channel(1, seed, **section), 15, 1)
    beside = walk(channel(num_seeds, seed, **section), 15, num_seeds)
    again = walk(channel(num_seeds, seed, **section), 15, num_seeds)

    for left, right, twice in zip(alone, beside, again, strict=True):
        assert same(right, twice)
        for field in fields(Readings):
            one, many = getattr(left, field.name)[0], getattr(right, field.name)[0]
            assert np.array_equal(one, many, equal_nan=True)


def test_losses_do_not_disturb_noise() -> None:
    quiet = walk(channel(**PLAIN | {"noise": 0.1}), 20)
    lossy = walk(channel(**PLAIN | {"noise": 0.1, "lost_fraction": 0.4}), 20)

    for left, right in zip(quiet[20:], lossy[20:], strict=True):
        kept = right.age_layers == 1
        np.testing.assert_array_equal(left.power_watts[kept], right.power_watts[kept])


def test_seeds_and_scenes_have_noise_of_their_own() -> None:
    one, other = (walk(channel(**PLAIN | {"noise": 0.1}, seed=s), 2)[-1] for s in (1, 2))
    ratio = one.power_watts / truths(2 * LAYERS - 2).power_watts

    assert len(np.unique(ratio)) == N * R
    assert not np.isin(one.power_watts, other.power_watts).any()


def test_telemetry_as_objects_has_none_for_what_was_not_told() -> None:
    one = channel(**PLAIN)
    truth = truths(0)
    truth.layer_seconds[1, 2] = np.nan
    truth.free_bytes[1, 0] = np.nan
    one.put(0, 0, 1.0, truth)

    told = one.get(0, 1, 1.5).telemetry(1)

    assert [reading.rank for reading in told.readings] == [0, 1, 2, 3]
    reading = told.of_rank(2)
    assert reading is not None
    assert reading.layer_seconds is None
    assert reading.expected_layer_seconds == truth.expected_layer_seconds[1, 2]
    assert reading.age_seconds == 0.5
    assert reading.free_bytes == int(truth.free_bytes[1, 2])
    assert type(reading.die_celsius) is float
    first = told.of_rank(0)
    assert first is not None
    assert first.free_bytes is None


def test_what_was_read_does_not_change_later() -> None:
    one = channel(**PLAIN)
    one.put(0, 0, 0.0, truths(0))
    readings = one.get(0, 1, 0.0)
    before = readings.power_watts.copy()
    for position in range(1, 500):
        one.put(*divmod(position, LAYERS), 0.0, truths(position))

    np.testing.assert_array_equal(readings.power_watts, before)


def test_layers_come_in_order() -> None:
    one = channel(**PLAIN)
    one.put(1, 0, 0.0, truths(0))

    with pytest.raises(AssertionError, match="in order"):
        one.put(0, 4, 0.0, truths(0))
