"""Points whose device was lost: not finished, but named in the run's notes until they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from moeprof.dataset.schema import KEY_COLUMNS, Columns, Key
from moeprof.record import Status

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

NOTE: Final = "device_lost"


class LostPoints:
    """The lost points of a run, over all its sittings; they never become rows."""

    def __init__(self, notes: Mapping[str, Any]) -> None:
        self._noted = list(notes.get(NOTE, []))
        self._points: dict[Key, dict[str, Any]] = {
            (point["order_index"], point["point_id"], point["ep_rank"]): point
            for point in self._noted
        }

    def note(self, rows: Columns) -> bool:
        """Note the lost rows of a step, and return whether there are any."""
        lost = [
            index for index, status in enumerate(rows["status"]) if status == Status.DEVICE_LOST
        ]
        for index in lost:
            order_index, point_id, ep_rank = (rows[name][index] for name in KEY_COLUMNS)
            self._points[order_index, point_id, ep_rank] = {
                "order_index": order_index,
                "point_id": point_id,
                "ep_rank": ep_rank,
                "kernel": rows["kernel"][index],
                "status_detail": rows["status_detail"][index],
                "recorded_at": rows["recorded_at"][index].isoformat(),
            }
        return bool(lost)

    def notes(self, finished: Container[Key]) -> dict[str, Any] | None:
        """Return the note on points still lost, empty once none is; None: it is as noted."""
        points = [point for key, point in self._points.items() if key not in finished]
        return None if points == self._noted else {NOTE: points}
