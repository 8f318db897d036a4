"""Refusals of knobs that no router could be built or run with."""

from __future__ import annotations

from moeprof.errors import WorkloadError


def check_knob(
    router: str,
    knob: str,
    value: float | str | None,
    *,
    least: float,
    most: float | None = None,
) -> None:
    """Raise WorkloadError unless `value` lies in `least`..`most`; None passes, a NaN does not."""
    if isinstance(value, str):  # a recipe's; no type keeps one out there
        raise WorkloadError(f"router {router}: {knob} must be a number, got {value!r}")
    if value is None or (value >= least and (most is None or value <= most)):
        return
    allowed = f"be at least {least}" if most is None else f"lie in {least}..{most}"
    raise WorkloadError(f"router {router}: {knob} must {allowed}, got {value}")


def check_whole(
    router: str, knob: str, value: object, *, least: int, most: int | None = None
) -> None:
    """Raise WorkloadError unless `value` is None or a whole number in `least`..`most`."""
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise WorkloadError(f"router {router}: {knob} must be a whole number, got {value!r}")
    check_knob(router, knob, value, least=least, most=most)
