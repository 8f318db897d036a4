"""A run killed between any two system calls loses no finished point and repeats none."""

from __future__ import annotations

import errno
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset.examples import RUN, step
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.dataset import files, lock
from moeprof.dataset.read import read_measurements, read_samples
from moeprof.dataset.store import RunWriter, open_run
from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.dataset.schema import Key

NUM_STEPS = 4
CALLS = ("open", "write", "fsync", "close", "replace", "ftruncate", "mkdir", "unlink")


class Killed(BaseException):
    """The process is gone; no handler may do anything about it."""


class MortalOS:
    """The `os` module up to its n-th call: which is made, or half made; then nothing."""

    def __init__(self, last_call: int | None, when: str) -> None:
        self.num_calls = 0
        self.log: list[tuple[str, Any]] = []
        self._last_call = last_call
        self._when = when
        self._dead = False
        self._open: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._mortal(name, real) if name in CALLS else real

    def bury(self) -> None:
        """Do what the kernel does for a process that is gone."""
        for descriptor in self._open:
            os.close(descriptor)

    def _mortal(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if self._dead:
                raise Killed
            self.num_calls += 1
            self.log.append((name, arguments[0]))
            self._dead = self.num_calls == self._last_call
            if self._dead and self._when == "half" and name == "write":
                arguments = (arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            result = real(*arguments)
            if name == "open":
                self._open.add(result)
            elif name == "close":
                self._open.discard(arguments[0])
            if self._dead:
                raise Killed
            return result

        return call


def sweep(
    folder: Path, acknowledged: set[Key], seen: Callable[[RunWriter], None] = lambda _: None
) -> None:
    """Do what a sweep does: open, skip what is finished, add the rest, annotate, close."""
    with open_run(folder, RUN, flush_points=3) as writer:
        seen(writer)
        for index in range(NUM_STEPS):
            rows, samples = step(index, num_ranks=1 + index % 2)
            keys = {(row["order_index"], row["point_id"], row["ep_rank"]) for row in rows}
            if keys <= writer.finished:
                continue
            assert keys.isdisjoint(writer.finished)
            writer.add(rows, samples, {"step": index})
            acknowledged |= keys
        writer.annotate(warm_up={"seconds": 300.0})


def live(folder: Path, last_call: int | None, when: str, acknowledged: set[Key]) -> MortalOS:
    """Sweep until the given system call; return the dead process's view of `os`."""
    mortal = MortalOS(last_call, when)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", mortal)
        patch.setattr(lock, "os", mortal)
        try:
            sweep(folder, acknowledged)
        except Killed:
            pass
        finally:
            mortal.bury()
    return mortal


@cache
def undisturbed() -> tuple[pa.Table, pa.Table]:
    """Return the measurements and samples of a sweep that was never killed."""
    with TemporaryDirectory() as folder:
        sweep(Path(folder), set())
        return read_measurements(Path(folder)), read_samples(Path(folder))


def assert_readers_see_no_duplicate(folder: Path) -> None:
    for name, extra in (("measurements", []), ("samples", ["sample_index"])):
        columns = ["order_index", "point_id", "ep_rank", *extra]
        found = [
            tuple(row.values())
            for path in (folder / name).glob("*.parquet")
            for row in pq.ParquetFile(path).read(columns=columns).to_pylist()
        ]
        assert len(found) == len(set(found))


def assert_recovered(folder: Path, acknowledged: set[Key]) -> None:
    """Finish the run undisturbed and compare it with one that was never killed."""

    def nothing_lost(writer: RunWriter) -> None:
        assert acknowledged <= writer.finished
        # A kill may fall between a step's safety and its acknowledgement, never the other way.
        last = max((key[0] for key in writer.finished), default=None)
        assert writer.last_snapshot == (None if last is None else {"step": last})

    sweep(folder, acknowledged, nothing_lost)
    assert_readers_see_no_duplicate(folder)
    rows, samples = undisturbed()
    assert read_measurements(folder).equals(rows)
    assert read_samples(folder).equals(samples)
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("when", ["half", "after"])
def test_a_kill_at_any_system_call_loses_and_repeats_nothing(tmp_path: Path, when: str) -> None:
    log = live(tmp_path / "whole", None, when, set()).log

    for last_call, (name, _) in enumerate(log, start=1):
        # The disk looks the same after these as before them.
        if name in ("fsync", "close") or (when == "half" and name != "write"):
            continue
        folder, acknowledged = tmp_path / str(last_call), set[Any]()
        live(folder, last_call, when, acknowledged)
        assert_readers_see_no_duplicate(folder)
        assert_recovered(folder, acknowledged)


@settings(max_examples=10, deadline=None)
@given(
    deaths=st.lists(st.tuples(st.integers(1, 60), st.sampled_from(["half", "after"])), max_size=4)
)
def test_a_run_killed_again_and_again_ends_as_if_undisturbed(
    tmp_path_factory: pytest.TempPathFactory, deaths: list[tuple[int, str]]
) -> None:
    folder, acknowledged = tmp_path_factory.mktemp("deaths") / "dataset", set[Any]()

    for last_call, when in deaths:
        live(folder, last_call, when, acknowledged)
        assert_readers_see_no_duplicate(folder)
    assert_recovered(folder, acknowledged)


def test_a_reader_sees_every_acknowledged_point_of_a_killed_run(tmp_path: Path) -> None:
    total = live(tmp_path / "whole", None, "after", set()).num_calls
    for last_call in range(20, total, 7):
        folder, acknowledged = tmp_path / str(last_call), set[Any]()
        live(folder, last_call, "after", acknowledged)

        rows = read_measurements(folder).select(["order_index", "point_id", "ep_rank"])
        found = [tuple(row.values()) for row in rows.to_pylist()]

        assert acknowledged <= set(found)
        assert len(found) == len(set(found))
        assert read_samples(folder).num_rows == 3 * len(found)


def test_nothing_is_renamed_before_it_is_on_the_disk(tmp_path: Path) -> None:
    log = live(tmp_path / "whole", None, "after", set()).log

    for index, (name, _) in enumerate(log):
        if name == "replace":
            assert [call for call, _ in log[index - 2 : index]] == ["fsync", "close"]
            assert [call for call, _ in log[index + 1 : index + 3]] == ["open", "fsync"]


class FullDisk(MortalOS):
    """A disk with room for so many writes; the one after them is torn."""

    def _mortal(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name != "write":
                return real(*arguments)
            self.num_calls += 1
            if self._last_call is not None and self.num_calls > self._last_call:
                if self.num_calls == self._last_call + 1:
                    return real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments)

        return call


def test_a_full_disk_is_named_with_what_is_safe_and_loses_nothing(tmp_path: Path) -> None:
    log = live(tmp_path / "whole", None, "after", set()).log
    num_writes = sum(name == "write" for name, _ in log)
    for room in range(num_writes):
        folder, acknowledged = tmp_path / str(room), set[Any]()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "os", FullDisk(room, "half"))
            with pytest.raises(DatasetError, match=r"the disk is full; .* safe") as refused:
                sweep(folder, acknowledged)
        assert "run the same command again" in str(refused.value.hint)
        assert_readers_see_no_duplicate(folder)
        assert_recovered(folder, acknowledged)


@pytest.mark.parametrize("last_call", range(20, 90, 5))
def test_a_process_that_survives_an_interrupted_call_goes_on(
    tmp_path: Path, last_call: int
) -> None:
    """As after Ctrl-C in the middle of a flush, where the process closes the run itself."""
    folder, acknowledged = tmp_path / "dataset", set[Any]()
    mortal = MortalOS(last_call, "after")
    with open_run(folder, RUN, flush_points=3) as writer:
        for index in range(NUM_STEPS):
            rows, samples = step(index, num_ranks=1 + index % 2)
            keys = {(row["order_index"], row["point_id"], row["ep_rank"]) for row in rows}
            for _ in range(2):
                if keys <= writer.finished:
                    continue
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(files, "os", mortal)
                    try:
                        writer.add(rows, samples, {"step": index})
                    except Killed:
                        mortal._dead = False
            acknowledged |= keys
            assert keys <= writer.finished

    assert_readers_see_no_duplicate(folder)
    assert_recovered(folder, acknowledged)
