"""Numbers as people read them: three digits and a fitting unit."""

from __future__ import annotations

import math

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_JOULES = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"))
_LARGE = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_MINUTE = 60
_HOUR = 3600
ABSENT = "-"


def _scaled(value: float | None, scales: tuple[tuple[float, str], ...]) -> str:
    if value is None:
        return ABSENT
    size, unit = next((each for each in scales if abs(value) >= each[0]), scales[-1])
    return f"{three_digits(value / size)} {unit}".rstrip()


def three_digits(value: float) -> str:
    """Return a number with three significant digits and no exponent."""
    magnitude = abs(value)
    if magnitude >= 99.95:  # noqa: PLR2004 - where three digits leave no decimals
        return f"{value:.0f}"
    return f"{value:.1f}" if magnitude >= 9.995 else f"{value:.2f}"  # noqa: PLR2004


def seconds(value: float | None) -> str:
    """Return a short time such as `285 µs`."""
    return _scaled(value, _SECONDS)


def joules(value: float | None) -> str:
    """Return an energy such as `12.4 mJ`."""
    return _scaled(value, _JOULES)


def quantity(value: float | None, unit: str) -> str:
    """Return a large quantity such as `4.80 TB/s`."""
    if value is None:
        return ABSENT
    size, prefix = next((each for each in _LARGE if abs(value) >= each[0]), _LARGE[-1])
    return f"{three_digits(value / size)} {prefix}{unit}"


def percent(fraction: float | None, *, digits: int = 0) -> str:
    """Return a share such as `87 %`."""
    return ABSENT if fraction is None else f"{fraction * 100:.{digits}f} %"


def plus_minus(fraction: float | None) -> str:
    """Return a relative half width such as `±0.8 %`."""
    if fraction is None or not math.isfinite(fraction):
        return ABSENT
    return f"±{fraction * 100:.1f} %"


def celsius(value: float | None) -> str:
    """Return a temperature such as `61.0 °C`."""
    return ABSENT if value is None else f"{value:.1f} °C"


def watts(value: float | None) -> str:
    """Return a power such as `312 W`."""
    return ABSENT if value is None else f"{three_digits(value)} W"


def duration(value: float | None) -> str:
    """Return a long time such as `1 h 05 min`, `5 min 20 s` or `42 s`."""
    if value is None:
        return ABSENT
    whole = round(value)
    if whole >= _HOUR:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    if whole >= _MINUTE:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    return f"{whole} s" if value >= 10 else f"{value:.1f} s"  # noqa: PLR2004
