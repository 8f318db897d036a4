"""Routing patterns read from the text that a user writes."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from moeprof.errors import WorkloadError
from moeprof.workload.routing.pattern import (
    Active,
    Balanced,
    Dirichlet,
    Grouped,
    Hot,
    PackedPowerLaw,
    Pattern,
    PowerLaw,
    Replay,
    Strided,
    Ungrouped,
    Uniform,
    Zipf,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PATTERN_FORMS: Final[tuple[tuple[str, str], ...]] = (
    ("uniform", "each token takes k distinct experts, all equally likely"),
    ("balanced", "every expert gets the same number of rows, give or take one"),
    ("strided", "token i takes experts i, i + s, i + 2 s ... with s = E / k; nothing is drawn"),
    ("active:N", "exactly N experts get rows, spread evenly over them"),
    ("zipf:s", "popularity rank^-s over a seeded order of the experts; s = 0 is uniform"),
    ("power_law:a", "row counts as NVIDIA aiconfigurator's collector makes them; a near 1"),
    ("packed_power_law:a", "power_law as it was until April 2026: small batches on few ranks"),
    ("dirichlet:a", "popularity drawn from Dirichlet(a); the smaller a, the more uneven"),
    ("hot:N@share", "N hot experts receive this share (0..1) of the rows"),
    ("PATTERN/groups:N@M", "PATTERN behind a gate: N groups of experts, M of them for a token"),
    ("replay:FILE", "recorded expert ids, .npy, .csv or .parquet, one column per slot"),
)


def parse(text: str) -> Pattern:
    """Return the pattern that `text` names, in one of `PATTERN_FORMS`.

    `parse(str(pattern)) == pattern` for every pattern. A replay file is not opened here.

    Raises WorkloadError: no such form, an argument missing or out of its range.
    """
    pattern, slash, groups = text.strip().partition(_GROUPS)
    if not slash or pattern.startswith(_REPLAY):
        return _ungrouped(text, text.strip())
    meant = _ungrouped(text, pattern)
    assert not isinstance(meant, Replay), "a replay's text is a path to its end"
    try:
        return _grouped(meant, groups)
    except ValueError as error:
        message = f"routing pattern {text!r}: {error}"
        raise WorkloadError(message, hint=f"Write it as {pattern}{_GROUPS}8@4.") from None


def _ungrouped(text: str, pattern: str) -> Ungrouped | Replay:
    name, colon, argument = pattern.partition(":")
    if name not in _READERS:
        message = f"routing pattern {text!r}: no pattern is called {name!r}"
        raise WorkloadError(message, hint=_suggestion(name))
    if name in _BARE:
        if colon:
            message = f"routing pattern {text!r}: {name} takes no argument, got {argument!r}"
            raise WorkloadError(message, hint=f"Write {name}.")
    elif not argument:
        message = f"routing pattern {text!r}: {name} needs an argument"
        raise WorkloadError(message, hint=f"Write it as {_FORM_OF[name]}.")
    try:
        return _READERS[name](argument)
    except ValueError as error:
        message = f"routing pattern {text!r}: {error}"
        raise WorkloadError(message, hint=f"Write it as {_FORM_OF[name]}.") from None


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name.lower().replace("-", "_"), _READERS, n=1)
    if close:
        return f"Did you mean {_FORM_OF[close[0]]}?"
    return f"The patterns are {', '.join(_FORM_OF.values())}."


def _grouped(meant: Ungrouped, argument: str) -> Grouped:
    groups, at, allowed = argument.partition("@")
    if not at:
        message = f"{argument!r} has no @ between the number of groups and how many are allowed"
        raise ValueError(message)
    num_groups, num_allowed = _count(groups), _count(allowed)
    if num_allowed > num_groups:
        message = f"of {num_groups} groups at most as many are allowed, got {allowed!r}"
        raise ValueError(message)
    return Grouped(meant, num_groups, num_allowed)


def _hot(argument: str) -> Hot:
    count, at, share = argument.partition("@")
    if not at:
        message = f"{argument!r} has no @ between the number of experts and their share"
        raise ValueError(message)
    share_fraction = _number("share", share, least=0.0)
    if share_fraction > 1.0:
        message = f"share must lie in 0..1, got {share!r}"
        raise ValueError(message)
    return Hot(_count(count), share_fraction)


def _count(argument: str) -> int:
    # str.isdecimal alone accepts digits of every script.
    if not (argument.isascii() and argument.isdecimal() and int(argument) >= 1):
        message = f"N must be a whole number of at least 1, got {argument!r}"
        raise ValueError(message)
    return int(argument)


def _number(symbol: str, argument: str, *, least: float) -> float:
    try:
        number = float(argument)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= least):
        message = f"{symbol} must be a number of at least {least:g}, got {argument!r}"
        raise ValueError(message)
    return number + 0.0  # -0.0 becomes 0.0, so that equal patterns have equal texts


def _positive(symbol: str, argument: str) -> float:
    number = _number(symbol, argument, least=0.0)
    if number == 0.0:
        message = f"{symbol} must be greater than 0, got {argument!r}"
        raise ValueError(message)
    return number


_FORM_OF: Final = {form.partition(":")[0]: form for form, _ in PATTERN_FORMS}
_GROUPS: Final = "/groups:"
_REPLAY: Final = "replay:"
_BARE: Final = frozenset({"uniform", "balanced", "strided"})
_READERS: Final[dict[str, Callable[[str], Ungrouped | Replay]]] = {
    "uniform": lambda _: Uniform(),
    "balanced": lambda _: Balanced(),
    "strided": lambda _: Strided(),
    "active": lambda argument: Active(_count(argument)),
    "zipf": lambda argument: Zipf(_number("s", argument, least=0.0)),
    "power_law": lambda argument: PowerLaw(_positive("a", argument)),
    "packed_power_law": lambda argument: PackedPowerLaw(_positive("a", argument)),
    "dirichlet": lambda argument: Dirichlet(_positive("a", argument)),
    "hot": _hot,
    "replay": lambda argument: Replay(Path(argument)),
}
