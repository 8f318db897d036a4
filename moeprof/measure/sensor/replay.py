"""Recorded traces of power or energy, described as a device's own sensors are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moeprof.errors import InputError
from moeprof.measure.sensor.csv_table import moment, number, read_table
from moeprof.measure.sensor.figures import describe_sensors
from moeprof.measure.sensor.stream import Phase, Quantity, Recording, SensorStream

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.measure.sensor.csv_table import CsvTable
    from moeprof.measure.sensor.figures import SensorReport

_TIMES = ("seconds", "timestamp", "at_seconds", "time")
_STARTS = ("start_seconds", "start_timestamp", "start")
_ENDS = ("end_seconds", "end_timestamp", "end")
_POWER_PREFIX = "power.draw"
_NUM_ROWS_MIN = 2
_NUM_LAUNCHES_MAX = 1e15


def replay(trace_csv: Path, load_csv: Path | None) -> SensorReport:
    """Return what a trace tells of each of its sensors.

    The trace has a column of moments (`seconds` or `timestamp`) and columns of readings: `watts`,
    `joules`, or `power.draw [W]` and its kin, as `nvidia-smi --query-gpu` writes them. The load has
    `start_seconds`, `end_seconds` and, where known, `num_launches`; without it the update period
    is all that a trace can tell.

    Raises:
        InputError: a file is not like that, or the load lies outside the trace.

    """
    streams = read_streams(trace_csv)
    phases = None if load_csv is None else read_phases(load_csv)
    if phases is not None:
        assert load_csv is not None
        starts = [stream.at_seconds[0] for stream in streams if len(stream.values)]
        ends = [stream.at_seconds[-1] for stream in streams if len(stream.values)]
        for number_of_phase, phase in enumerate(phases, start=1):
            if phase.start_seconds < min(starts) or phase.end_seconds > max(ends):
                raise InputError(
                    f"{load_csv}: phase {number_of_phase} of the load lasts from "
                    f"{phase.start_seconds:.3f} to {phase.end_seconds:.3f} s, {trace_csv} from "
                    f"{min(starts):.3f} to {max(ends):.3f} s",
                    hint="Give both files the same clock and time zone, and leave out phases that "
                    "the trace does not cover.",
                )
    return describe_sensors(Recording(streams, phases))


def read_streams(path: Path) -> tuple[SensorStream, ...]:
    """Read every column of power or energy of a trace.

    Raises:
        InputError: the file is no trace; the message names the line.

    """
    table = read_table(path)
    time_column = table.column(*_TIMES)
    columns = {
        index: quantity
        for index, name in enumerate(table.names)
        if (quantity := _quantity(name)) is not None
    }
    if time_column is None or not columns:
        raise InputError(
            f"{path}:1: found the columns {', '.join(table.header)}; expected a column seconds or "
            "timestamp, and one of watts, joules or power.draw [W]"
        )
    times = [moment(table, line, cells[time_column]) for line, cells in table.rows]
    _check_order(table, times)
    streams = [_stream(table, times, index, quantity) for index, quantity in columns.items()]
    if all(len(stream.values) < _NUM_ROWS_MIN for stream in streams):
        names = ", ".join(stream.name for stream in streams)
        raise InputError(f"{path}: {names}: fewer than two readings, two or more expected")
    return tuple(streams)


def read_phases(path: Path) -> tuple[Phase, ...]:
    """Read when the device was loaded.

    Raises:
        InputError: the file is no list of phases, or they overlap; the message names the line.

    """
    table = read_table(path)
    start_column, end_column = table.column(*_STARTS), table.column(*_ENDS)
    count_column = table.column("num_launches")
    if start_column is None or end_column is None:
        raise InputError(
            f"{path}:1: found the columns {', '.join(table.header)}; expected start_seconds, "
            "end_seconds and, where known, num_launches"
        )
    phases: list[Phase] = []
    for line, cells in table.rows:
        start, end = (moment(table, line, cells[column]) for column in (start_column, end_column))
        count = None
        if count_column is not None:
            count = _count(table, line, count_column, cells[count_column])
        if end <= start:
            raise InputError(
                f"{path}:{line}: a phase ends at {end} s, after its start at {start} s was expected"
            )
        if phases and start < phases[-1].end_seconds:
            raise InputError(
                f"{path}:{line}: a phase starts at {start} s, before the last one has ended at "
                f"{phases[-1].end_seconds} s"
            )
        phases.append(Phase(start, end, count))
    return tuple(phases)


def _count(table: CsvTable, line: int, column: int, text: str) -> int | None:
    found = number(table, line, column, text)
    if found is None:
        return None
    if not (1 <= found <= _NUM_LAUNCHES_MAX and found.is_integer()):
        raise InputError(
            f"{table.path}:{line}: num_launches must be a whole number from 1 on, got {text!r}"
        )
    return int(found)


def _quantity(name: str) -> Quantity | None:
    if name == "watts" or name.startswith(_POWER_PREFIX):
        return Quantity.POWER
    return Quantity.ENERGY if name == "joules" else None


def _check_order(table: CsvTable, times: list[float]) -> None:
    for (line, _), before, after in zip(table.rows[1:], times[:-1], times[1:], strict=True):
        if after < before:
            raise InputError(
                f"{table.path}:{line}: time goes back from {before:.3f} to {after:.3f} s",
                hint="Give one device at a time: nvidia-smi --id=0.",
            )


def _stream(table: CsvTable, times: list[float], column: int, quantity: Quantity) -> SensorStream:
    values = [number(table, line, column, cells[column]) for line, cells in table.rows]
    reads = [pair for pair in zip(times, values, strict=True) if pair[1] is not None]
    at_seconds, kept = np.array(reads, dtype=np.float64).reshape(-1, 2).T
    return SensorStream(table.header[column], quantity, at_seconds, kept)
