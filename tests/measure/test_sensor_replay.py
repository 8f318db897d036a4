"""Claims about recorded traces and what is said of a file that is not one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from measure.sensor_traces import PHASES, energy_stream, power_stream

from moeprof.errors import InputError
from moeprof.measure.sensor.replay import read_phases, read_streams, replay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from moeprof.measure.sensor.stream import SensorStream

EPOCH_SECONDS = 1689325966.0
NVIDIA_SMI_HEADER = "timestamp, utilization.gpu [%], pstate, power.draw [W], power.draw.instant [W]"


def as_seconds(at_seconds: float) -> str:
    return f"{at_seconds:.6f}"


def as_nvidia_smi(at_seconds: float) -> str:
    at = datetime.fromtimestamp(EPOCH_SECONDS + at_seconds, UTC)
    return at.strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]


def as_iso(at_seconds: float) -> str:
    return datetime.fromtimestamp(EPOCH_SECONDS + at_seconds, UTC).isoformat()


def written(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def trace(path: Path, name: str, stream: SensorStream) -> Path:
    pairs = zip(stream.at_seconds, stream.values, strict=True)
    return written(path, [f"seconds,{name}", *(f"{at:.6f},{value:.3f}" for at, value in pairs)])


def load(path: Path, moment: Callable[[float], str] = as_seconds) -> Path:
    rows = [f"{moment(p.start_seconds)},{moment(p.end_seconds)},{p.num_launches}" for p in PHASES]
    return written(path, ["start_seconds,end_seconds,num_launches", *rows])


@pytest.mark.parametrize(("name", "stream"), [("watts", power_stream), ("joules", energy_stream)])
def test_a_trace_of_seconds_is_described_like_a_live_sensor(
    tmp_path: Path, name: str, stream: Callable[..., SensorStream]
) -> None:
    recorded = trace(tmp_path / "trace.csv", name, stream(lag_seconds=0.03))
    (found,) = replay(recorded, load(tmp_path / "load.csv")).sensors

    assert found.name == name
    assert found.period_seconds == pytest.approx(0.1, rel=0.001)
    assert found.lag_seconds == pytest.approx(0.03, abs=0.001)
    assert found.launch_joules is not None


@pytest.mark.parametrize("load_moment", [as_nvidia_smi, as_iso])
def test_nvidia_smi_output_works_as_recorded(
    tmp_path: Path, load_moment: Callable[[float], str]
) -> None:
    instant, average = power_stream(), power_stream(window_seconds=0.1)
    rows = [NVIDIA_SMI_HEADER]
    for at, now, mean in zip(instant.at_seconds, instant.values, average.values, strict=True):
        shown = f"{mean:.2f} W" if at < 5 else "[N/A]"
        rows.append(f"{as_nvidia_smi(at)}, 50, P0, {shown}, {now:.2f}")
    recorded = written(tmp_path / "smi.csv", rows)
    report = replay(recorded, load(tmp_path / "load.csv", load_moment))

    assert [each.name for each in report.sensors] == ["power.draw [W]", "power.draw.instant [W]"]
    windows = [each.window_seconds for each in report.sensors]
    assert windows == pytest.approx([0.1, 0.025], abs=0.003)
    assert report.sensors[0].num_reads < report.sensors[1].num_reads


def test_without_a_load_the_period_is_told_and_the_rest_asks_for_it(tmp_path: Path) -> None:
    recorded = trace(tmp_path / "trace.csv", "watts", power_stream())
    (found,) = replay(recorded, None).sensors

    assert found.period_seconds == pytest.approx(0.1, rel=0.001)
    assert "load" in found.absent["window_seconds"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "is empty"),
        (["seconds,watts"], "no rows"),
        (["seconds,volts", "1,2"], ":1: found the columns seconds, volts; expected"),
        (["watts,pstate", "1,P0"], "expected a column seconds or timestamp"),
        (["seconds,watts", "0,50", "soon,50"], ":3: 'soon' is no moment"),
        (["seconds,watts", "0,50", "1,hot"], ":3: watts must be a number, got 'hot'"),
        (["seconds,watts", "0,50", "1"], ":3: 1 cells, the header has 2"),
        (["seconds,watts", "1,50", "0.5,50"], ":3: time goes back"),
        (["seconds,watts", "1,[N/A]", "2,[N/A]"], "fewer than two readings"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(tmp_path: Path, lines: list[str], words: str) -> None:
    path = written(tmp_path / "bad.csv", lines)

    with pytest.raises(InputError) as caught:
        replay(path, None)

    assert str(path) in caught.value.message
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["begin,end", "1,2"], "expected start_seconds"),
        (["start_seconds,end_seconds", "2,1"], ":2: a phase ends at 1.0 s"),
        (["start_seconds,end_seconds", "1,3", "2,4"], ":3: a phase starts at 2.0 s, before"),
        (["start_seconds,end_seconds", "100,101"], "phase 1 of the load lasts"),
    ],
)
def test_a_bad_load_is_refused_with_its_line(tmp_path: Path, lines: list[str], words: str) -> None:
    recorded = trace(tmp_path / "trace.csv", "watts", power_stream())
    path = written(tmp_path / "load.csv", lines)

    with pytest.raises(InputError) as caught:
        replay(recorded, path)

    assert str(path) in caught.value.message
    assert words in caught.value.message


def test_a_file_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        replay(tmp_path / "none.csv", None)


@pytest.mark.parametrize(
    ("header", "cell", "watts"),
    [
        ("power.draw [mW]", "60000", 60.0),
        ("power.draw [W]", "60 W", 60.0),
        ("power.draw", "60000 mW", 60.0),
        ("watts", "60", 60.0),
    ],
)
def test_a_reading_is_taken_in_the_unit_that_is_written(
    tmp_path: Path, header: str, cell: str, watts: float
) -> None:
    path = written(tmp_path / "trace.csv", [f"seconds,{header}", f"1,{cell}", f"2,{cell}"])

    (stream,) = read_streams(path)

    assert stream.values.tolist() == [watts, watts]


def test_an_unknown_unit_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "trace.csv", ["seconds,watts", "1,60", "2,60 hp"])

    with pytest.raises(InputError, match=r"trace.csv:3: watts must be in W, mW.*got 'hp'"):
        read_streams(path)


def test_a_dead_column_does_not_cost_the_others(tmp_path: Path) -> None:
    lines = ["seconds,power.draw [W],power.draw.instant [W]", "1,60,[N/A]", "2,61,[N/A]"]
    path = written(tmp_path / "trace.csv", lines)

    good, dead = replay(path, None).sensors

    assert good.num_reads == 2
    assert dead.num_reads == 0
    assert dead.absent["period_seconds"]


@pytest.mark.parametrize("count", ["1e308", "-5", "0.4", "0"])
def test_a_number_of_launches_that_cannot_be_is_refused(tmp_path: Path, count: str) -> None:
    path = written(
        tmp_path / "load.csv", ["start_seconds,end_seconds,num_launches", f"0,1,{count}"]
    )

    with pytest.raises(InputError, match=r"load.csv:2: num_launches must be a whole number"):
        read_phases(path)
