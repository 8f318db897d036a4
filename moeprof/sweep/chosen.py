"""The points of a plan chosen in rounds, until a cost model is as sure of all as was asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.cost.adaptive import half_width_fractions, most_worth, with_measured
from moeprof.cost.points import observed_from_table, points_from_table, usable
from moeprof.dataset.row import RowIdentity, measurement_row
from moeprof.dataset.schema import MEASUREMENTS, to_columns, to_table
from moeprof.errors import WorkloadError
from moeprof.record import Outcome, Role, Source, Status
from moeprof.sweep.case import rank_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from moeprof.cost.model import CostModel
    from moeprof.cost.points import Observed, Points
    from moeprof.dataset.schema import Row
    from moeprof.device.protocol import DeviceIdentity
    from moeprof.sweep.plan import Entry, Plan

_ROUND_FRACTION: Final = 0.05  # of all points, between two looks at the model
_FEWEST_A_ROUND: Final = 4


@dataclass(frozen=True, slots=True)
class Chosen:
    """How sure a model is of a plan's points, and how many of them were measured for it.

    `half_width_fraction` is the median over all points of half a 90 % interval; a measured point's
    interval is that of its measurement.
    """

    num_points: int
    num_measured: int
    half_width_fraction: float
    wanted_fraction: float

    @property
    def reached(self) -> bool:
        """Whether the model is as sure as was asked."""
        return self.half_width_fraction <= self.wanted_fraction


class Chooser:
    """Chooses what to measure of a plan; asked after every round, with all rows of the run.

    What it chooses depends on the rows alone, so that a sweep that was killed goes on alike.
    """

    def __init__(self, model: CostModel, wanted_fraction: float) -> None:
        self._model = model
        self._wanted_fraction = wanted_fraction
        self.chosen: Chosen | None = None

    def begin(self, plan: Plan, device: DeviceIdentity, seed: int) -> None:
        """Take up a plan: its points as the cost model sees them on this device."""
        self._plan = plan
        rows = list(_rows(plan, device, seed))
        self._points: Points = points_from_table(
            to_table(to_columns(rows, MEASUREMENTS), MEASUREMENTS)
        )
        self._orders = np.array([row["order_index"] for row in rows], dtype=np.int64)
        self._num_ranks = np.array([row["ep_size"] for row in rows], dtype=np.int64)

    def next_round(self, table: pa.Table) -> frozenset[int]:
        """Return the order indices to measure next; none: the model is sure enough, or all are.

        `table` is what was measured of the run. Sentinels come along with the points before them.
        """
        model, own = self._model, {}
        done = np.zeros(len(self._orders), dtype=bool)
        if table.num_rows:
            orders = table["order_index"].to_numpy()
            num_rows = np.bincount(orders, minlength=int(self._orders.max()) + 1)
            done = num_rows[self._orders] >= self._num_ranks
            kept = usable(table).table
            observed = observed_from_table(kept)
            model = with_measured(model, points_from_table(kept), observed)
            widths = _own_half_widths(observed)
            own = dict(zip(kept["order_index"].to_pylist(), widths, strict=True))
        guessed = zip(self._orders.tolist(), half_width_fractions(model, self._points), strict=True)
        half_widths = np.array([own.get(order, width) for order, width in guessed])
        self.chosen = Chosen(
            num_points=len(self._points),
            num_measured=int(done.sum()),
            half_width_fraction=float(np.median(half_widths)),
            wanted_fraction=self._wanted_fraction,
        )
        if self.chosen.reached or done.all():
            return frozenset()
        num_wanted = max(_FEWEST_A_ROUND, round(_ROUND_FRACTION * len(self._points)))
        places = most_worth(model, self._points, np.where(done, 0.0, half_widths), num_wanted)
        return self._with_sentinels({int(order) for order in self._orders[places]})

    def _with_sentinels(self, orders: set[int]) -> frozenset[int]:
        wanted: set[int] = set()
        for block in self._plan.blocks:
            before: Entry | None = None
            asked = False
            for entry in block.entries:
                if entry.role is Role.SENTINEL:
                    if asked:
                        wanted.add(entry.order_index)
                        if before is not None:
                            wanted.add(before.order_index)
                    before, asked = entry, False
                elif entry.order_index in orders:
                    wanted.add(entry.order_index)
                    asked = True
        return frozenset(wanted)


def _own_half_widths(observed: Observed) -> list[float]:
    ratio = observed.latency_seconds_ci_high / observed.latency_seconds_ci_low
    widths: list[float] = np.nan_to_num(np.log(ratio) / 2).tolist()
    return widths


def _rows(plan: Plan, device: DeviceIdentity, seed: int) -> Iterator[Row]:
    """Yield a row without a result for every point of the plan that can be drawn."""
    for block in plan.blocks:
        for entry in block.entries:
            if entry.role is Role.SENTINEL:
                continue
            try:
                groups = rank_groups(entry.case, seed=seed)
            except WorkloadError:
                continue  # it will be recorded as unsupported if ever it is asked for
            for group in groups:
                identity = RowIdentity(
                    point_id="",
                    run_id="",
                    order_index=entry.order_index,
                    role=entry.role,
                    source=Source.SIMULATED if device.simulated else Source.MEASURED,
                    device=device,
                    kernel=entry.case.kernel,
                    recorded_at=datetime.fromtimestamp(0, UTC),
                )
                row = measurement_row(identity, group.workload, Outcome(Status.OK))
                yield row | {"die_celsius": entry.case.hold_celsius}
