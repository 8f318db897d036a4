"""Figures, settings and standings of a comparison of routers in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moeprof.report import human

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.evaluation.judge.student import Estimated
    from moeprof.recipe.scene import Knob

_MICROSECONDS: Final = (1_000_000, "µs", 1)
_MILLISECONDS: Final = (1_000, "ms", 2)
_LARGEST_IN_MICROSECONDS: Final = 0.01
_KNOBS: Final = {"lambda_": "λ"}


def setting_words(setting: Mapping[str, Knob]) -> str:
    """Return a setting such as `λ=0.35, energy_fraction=1`; one without knobs is empty."""
    return ", ".join(f"{_KNOBS.get(key, key)}={_knob(value)}" for key, value in setting.items())


def label(policy: str, setting: Mapping[str, Knob]) -> str:
    """Return a policy with its setting, such as `oea (base_k=2)`."""
    words = setting_words(setting)
    return f"{policy} ({words})" if words else policy


def latency_unit(seconds: float) -> tuple[int, str, int]:
    """Return how many of a unit a second has, the unit, and decimals, for latencies like this."""
    return _MICROSECONDS if seconds < _LARGEST_IN_MICROSECONDS else _MILLISECONDS


def spread(found: Estimated, *, scale: float = 1.0, digits: int) -> str:
    """Return `534.3 ± 3.2`, or `0.41 [0.10, 0.95]` where bounds are not equally far away.

    One without bounds stands alone; a bound that is not known is `?`.
    """
    estimate = f"{scale * found.estimate:.{digits}f}"
    low, high = found.low, found.high
    if low is None and high is None:
        return estimate
    if low is not None and high is not None:
        half, other = scale * (high - found.estimate), scale * (found.estimate - low)
        if f"{half:.{digits}f}" == f"{other:.{digits}f}":
            return f"{estimate} ± {half:.{digits}f}"
    bounds = ("?" if each is None else f"{scale * each:.{digits}f}" for each in (low, high))
    return f"{estimate} [{', '.join(bounds)}]"


def change(ratio: Estimated | None) -> str:
    """Return a ratio as a change in percent, such as `-20.0 ± 0.7`."""
    if ratio is None:
        return human.ABSENT
    return percent(_less_one(ratio), sign="+")


def percent(fraction: Estimated | None, *, sign: str = "") -> str:
    """Return a fraction with its bounds, in percent without the unit."""
    if fraction is None:
        return human.ABSENT
    words = spread(fraction, scale=100.0, digits=1)
    # A sign where there is a change: what rounds to nothing has none.
    is_nothing = words.lstrip("-").startswith("0.0") and abs(fraction.estimate) < 5e-4  # noqa: PLR2004
    if is_nothing:
        return words.lstrip("-")
    return f"{sign}{words}" if fraction.estimate > 0 else words


def millinats(found: Estimated) -> str:
    """Return a difference of cross-entropies with its bounds, in thousandths of a nat."""
    if found.estimate == found.low == found.high == 0:
        return "0"
    return spread(found, scale=1e3, digits=1)


def duration(value: float) -> str:
    """Return a short time such as `285 µs`, and 0 as `0`."""
    return "0" if value == 0 else human.seconds(value)


def _knob(value: Knob) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _less_one(ratio: Estimated) -> Estimated:
    low, high = (None if each is None else each - 1 for each in (ratio.low, ratio.high))
    return type(ratio)(ratio.estimate - 1, low, high)
