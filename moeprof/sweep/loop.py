"""The loop over a plan: each entry conditioned, measured, and made safe before the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moeprof.dataset.identity import point_id
from moeprof.dataset.row import RowIdentity, measurement_row, sample_rows
from moeprof.errors import DeviceLost, DeviceOutOfMemory, KernelUnsupported, WorkloadError
from moeprof.kernel.check.verdict import CheckFailed
from moeprof.record import Outcome, Role, Source, Status
from moeprof.sweep.case import RankGroup, rank_groups, workload_on_rank
from moeprof.sweep.events import PointFinished, Progress
from moeprof.sweep.meter import Interrupted
from moeprof.sweep.pace import Pace
from moeprof.workload.routing import content_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moeprof.dataset.store import RunWriter
    from moeprof.record import DeviceState, Interval
    from moeprof.sweep.bench import Bench
    from moeprof.sweep.events import Observer
    from moeprof.sweep.plan import Block, Entry, Plan
    from moeprof.workload.workload import Workload


class Loop:
    """A plan being worked off; finished points are skipped, every other becomes a row."""

    def __init__(self, plan: Plan, bench: Bench, writer: RunWriter, observer: Observer) -> None:
        self._plan = plan
        self._bench = bench
        self._writer = writer
        self._observer = observer
        self._finished_ranks: dict[int, set[int]] = {}
        for order_index, _, ep_rank in writer.finished:
            self._finished_ranks.setdefault(order_index, set()).add(ep_rank)
        self.num_measured = 0
        self.num_skipped = sum(
            len(self._ranks_done(entry))
            for block in plan.blocks
            for entry in block.entries
            if entry.role is Role.POINT
        )
        self._pace = Pace(sum(1 for block in plan.blocks for _ in self._to_do(block)))

    def measure_all(self, wanted: frozenset[int] | None = None) -> None:
        """Measure every entry that is left, in the plan's order.

        `wanted` are the order indices to measure (None: all of them).

        Raises Interrupted or DeviceLost, with all that was finished written.
        """
        for block in self._plan.blocks:
            for entry in self._to_do(block):
                if wanted is not None and entry.order_index not in wanted:
                    continue
                start = self._bench.device.now()
                for group in self._groups(entry):
                    if not set(group.ranks) <= self._ranks_done(entry):
                        self._measure(block, entry, group)
                self._pace.finished(self._bench.device.now() - start)

    def _ranks_done(self, entry: Entry) -> set[int]:
        return self._finished_ranks.get(entry.order_index, set())

    def _to_do(self, block: Block) -> Iterator[Entry]:
        return (
            entry for entry in block.entries if len(self._ranks_done(entry)) < entry.case.ep_size
        )

    def _groups(self, entry: Entry) -> tuple[RankGroup, ...]:
        seed = self._bench.recipe.seed
        try:
            return rank_groups(entry.case, seed=seed)
        except WorkloadError as error:
            # This batch size cannot have the pattern; others of the recipe can.
            ranks = tuple(range(entry.case.ep_size))
            workload = workload_on_rank(entry.case, 0, (), seed=seed)
            group = RankGroup(ranks, workload)
            outcome = self._unmeasured(entry, Status.UNSUPPORTED, error.message)
            self._record(entry, group, outcome, seconds=0.0)
            return ()

    def _measure(self, block: Block, entry: Entry, group: RankGroup) -> None:
        self._bench.meter.check()
        start = self._bench.device.now()
        outcome = self._outcome(block, entry, group.workload)
        self._record(entry, group, outcome, seconds=self._bench.device.now() - start)

    def _outcome(self, block: Block, entry: Entry, workload: Workload) -> Outcome:
        def told(
            phase: str,
            done_fraction: float | None,
            state: DeviceState | None,
            interval: Interval | None,
        ) -> None:
            self._observer.progressed(
                Progress(
                    phase=phase,
                    done_fraction=done_fraction,
                    entry=entry,
                    workload=workload,
                    state=state,
                    interval=interval,
                    remaining_seconds=self._pace.remaining_seconds(),
                )
            )

        told("preparing", None, None, None)
        try:
            return self._bench.measure(block, entry, workload, told)
        except (Interrupted, DeviceLost):
            raise
        except DeviceOutOfMemory as error:
            return self._unmeasured(entry, Status.OUT_OF_MEMORY, error.message)
        except KernelUnsupported as error:
            return self._unmeasured(entry, Status.UNSUPPORTED, error.message)
        except CheckFailed as error:
            return self._unmeasured(entry, Status.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - a point may fail; a sweep may not
            return self._unmeasured(entry, Status.FAILED, f"{type(error).__name__}: {error}")

    def _unmeasured(self, entry: Entry, status: Status, detail: str) -> Outcome:
        return Outcome(status, detail, condition=self._bench.bare_condition(entry.case))

    def _record(self, entry: Entry, group: RankGroup, outcome: Outcome, *, seconds: float) -> None:
        device = self._bench.device
        identity = RowIdentity(
            point_id="",
            run_id=self._writer.run.run_id,
            order_index=entry.order_index,
            role=entry.role,
            source=Source.SIMULATED if device.identity.simulated else Source.MEASURED,
            device=device.identity,
            kernel=entry.case.kernel,
            recorded_at=datetime.fromtimestamp(device.wall_clock(), UTC),
        )
        rows, samples = [], []
        for rank in group.ranks:
            workload = replace(group.workload, ep_rank=rank)
            named = replace(
                identity,
                point_id=point_id(
                    workload,
                    hold_celsius=entry.case.hold_celsius,
                    l2_state=entry.case.l2_state,
                    kernel=entry.case.kernel,
                    device_kind=device.identity.kind,
                    replay_digest=content_digest(entry.case.pattern),
                ),
            )
            rows.append(measurement_row(named, workload, outcome))
            samples.extend(sample_rows(named, workload, outcome))
        self._writer.add(rows, samples, self._bench.snapshot())
        self._finished_ranks.setdefault(entry.order_index, set()).update(group.ranks)
        if entry.role is Role.POINT:
            self.num_measured += len(group.ranks)
        self._observer.finished(
            PointFinished(entry, group.workload, len(group.ranks), outcome, seconds)
        )
