"""When to load and when to idle, so that a die stays where its reading changes."""

from __future__ import annotations

import math

# Of the load: how far above or below the balance it is put, to turn the temperature round.
_SWING_MIN_FRACTION = 0.1
_SWING_SHRINKS_FRACTION = 0.6  # at a crossing at most
_SWING_SECONDS = 3.0  # and not by more than a factor e in so long
# As long on one side of the edge, the swing doubles, and again.
_PATIENCE_SECONDS = 3.0
_DOUBLING_SECONDS = 1.5
_BALANCE_MEMORY_SECONDS = 6.0
_OWED_SECONDS_MAX = 0.5
# The speed at which load heats a die that idling would keep: assumed where it was not seen.
_FASTEST_CELSIUS_PER_SECOND = 4.0
_PROBE_SECONDS = 3.0  # at most
_SPEED_MARGIN = 1.25  # rather too fast than too slow
_MOMENT_SECONDS = 1e-6  # readings may share one
_STEP_CELSIUS = 1.0


class Regulator:
    """Follows a die across one edge of its reading, and says whether load or idleness is due.

    A reading rounded to 1 C is exact when it changes, so the edge next to the set point, at most
    0.5 C off, is what is held; the set point itself where the reading is finer. Between two
    crossings of one edge load and idleness have been in balance, whatever the physics: so the share
    of load that keeps the temperature is known without a model. Load is then a little above that
    share below the edge and a little below it above the edge, which bounds the swing that a late
    sensor causes. Once it lets the die run on to the next edge, to see its speed: with that and the
    balance, `celsius` is reckoned between crossings.
    """

    def __init__(self, goal_celsius: float, *, probe_after_seconds: float = math.inf) -> None:
        self._goal_celsius = goal_celsius
        self._probe_after_seconds = probe_after_seconds  # of balance; for ever: it must not swing
        self._is_rounded = True
        self._seconds: float | None = None
        self._reading_celsius: float | None = None
        self._above: bool | None = None
        self._swing_fraction = 1.0
        self._owed_seconds = 0.0  # of load; idleness if negative
        self._crossed_seconds: float | None = None
        self._loaded_seconds = 0.0  # since that crossing
        self._balanced_seconds = 0.0  # between all crossings
        self._balance_fraction = 0.5
        self._mark: tuple[float, float] | None = None  # a moment and its exact temperature
        self._mark_is_loaded: bool | None = None
        self._probe: tuple[float, bool] | None = None  # when it began, and whether under load
        self._celsius_per_second: float | None = None
        self._fastest_celsius_per_second: float | None = None
        self.celsius = goal_celsius

    @property
    def edge_celsius(self) -> float:
        """Where the temperature is held."""
        if not self._is_rounded:
            return self._goal_celsius
        return math.floor(self._goal_celsius / _STEP_CELSIUS) * _STEP_CELSIUS + _STEP_CELSIUS / 2

    @property
    def fastest_celsius_per_second(self) -> float | None:
        """The fastest whole degree seen, None before there was one."""
        return self._fastest_celsius_per_second

    @property
    def balanced_seconds(self) -> float:
        """For how long the temperature has been going to and fro across the edge."""
        return self._balanced_seconds

    @property
    def has_probed(self) -> bool:
        """Whether it knows how fast the die is."""
        return self._celsius_per_second is not None

    @property
    def heating_celsius_per_second(self) -> float:
        """How fast load is reckoned to heat the die at the edge."""
        return self._speed() * (1 - self._balance_fraction)

    def note(self, seconds: float, celsius: float | None, *, loaded: bool) -> None:
        """Take in a reading, and whether there was load since the one before."""
        if self._seconds is not None:
            self._pass(seconds - self._seconds, loaded=loaded)
        self._seconds = seconds
        if celsius is None:
            return
        if not (celsius / _STEP_CELSIUS).is_integer():
            self._is_rounded = False
        half = _STEP_CELSIUS / 2 if self._is_rounded else 0.0
        self.celsius = min(max(self.celsius, celsius - half), celsius + half)
        self._mark_degrees(seconds, celsius, loaded=loaded)
        self._reading_celsius = celsius
        above = celsius > self._goal_celsius
        if self._above is not None and above != self._above:
            self._cross(seconds, above=above, loaded=loaded)
        self._above = above
        self._end_probe(seconds)

    def wants_load(self, slice_seconds: float) -> bool:
        """Return whether load is due for the next slice of time."""
        if self._probe is not None:
            return self._probe[1]
        return self._owed_seconds + self._wanted_fraction() * slice_seconds >= slice_seconds / 2

    def forgive(self) -> None:
        """Owe neither load nor idleness."""
        self._owed_seconds = 0.0

    def _wanted_fraction(self) -> float:
        if self._above is None:
            return 0.0
        swing = self._swing_fraction
        if self._crossed_seconds is not None and self._seconds is not None:
            late_seconds = self._seconds - self._crossed_seconds - _PATIENCE_SECONDS
            swing *= 2 ** min(max(0.0, late_seconds / _DOUBLING_SECONDS), 10.0)
        swing = -swing if self._above else swing
        return min(1.0, max(0.0, self._balance_fraction + swing))

    def _pass(self, seconds: float, *, loaded: bool) -> None:
        self._owed_seconds += (self._wanted_fraction() - loaded) * seconds
        self._owed_seconds = min(max(self._owed_seconds, -_OWED_SECONDS_MAX), _OWED_SECONDS_MAX)
        self._loaded_seconds += loaded * seconds
        self.celsius += self._speed() * (loaded - self._balance_fraction) * seconds

    def _speed(self) -> float:
        return self._celsius_per_second or _FASTEST_CELSIUS_PER_SECOND

    def _cross(self, seconds: float, *, above: bool, loaded: bool) -> None:
        if self._crossed_seconds is not None:
            waited_seconds = max(seconds - self._crossed_seconds, _MOMENT_SECONDS)
            self._balanced_seconds += waited_seconds
            memory_seconds = min(_BALANCE_MEMORY_SECONDS, self._balanced_seconds)
            weight = min(1.0, waited_seconds / memory_seconds)
            found_fraction = self._loaded_seconds / waited_seconds
            self._balance_fraction += weight * (found_fraction - self._balance_fraction)
            shrinks = max(_SWING_SHRINKS_FRACTION, math.exp(-waited_seconds / _SWING_SECONDS))
            late_seconds = waited_seconds - _PATIENCE_SECONDS
            grown = 2 ** min(max(0.0, late_seconds / _DOUBLING_SECONDS), 10.0)
            swing = min(1.0, self._swing_fraction * grown) * shrinks
            self._swing_fraction = max(_SWING_MIN_FRACTION, swing)
            self._begin_probe(seconds, above=above, loaded=loaded)
        self._crossed_seconds = seconds
        self._loaded_seconds = 0.0

    def _begin_probe(self, seconds: float, *, above: bool, loaded: bool) -> None:
        """Let the die run on from the edge, to see its speed: no edge alone has a scale."""
        if (
            self._celsius_per_second is not None
            or self._balanced_seconds < self._probe_after_seconds
        ):
            return
        by_load = self._balance_fraction < 1 / 2  # the faster way
        if above == loaded == by_load:
            self._probe = (seconds, loaded)
            start_celsius = self.edge_celsius if self._is_rounded else self.celsius
            self._mark, self._mark_is_loaded = (seconds, start_celsius), loaded

    def _end_probe(self, seconds: float) -> None:
        if self._probe is None:
            return
        since_seconds, loaded = self._probe
        if self._mark is not None and self._mark[0] > since_seconds:
            speed = _STEP_CELSIUS / (self._mark[0] - since_seconds)
        elif seconds - since_seconds >= _PROBE_SECONDS:
            speed = _STEP_CELSIUS / _PROBE_SECONDS  # or slower
        else:
            return
        share = 1 - self._balance_fraction if loaded else self._balance_fraction
        self._celsius_per_second = _SPEED_MARGIN * speed / share
        self._probe = None
        self.forgive()

    def _mark_degrees(self, seconds: float, celsius: float, *, loaded: bool) -> None:
        """Time whole degrees that were passed under load, or without, alone."""
        before = self._reading_celsius
        if before is None or celsius == before:
            if loaded != self._mark_is_loaded:
                self._mark, self._mark_is_loaded = None, loaded
            return
        exact = (celsius + before) / 2 if self._is_rounded else celsius
        if loaded != self._mark_is_loaded or self._mark is None:
            self._mark, self._mark_is_loaded = (seconds, exact), loaded
            return
        moved = abs(exact - self._mark[1])
        if moved < _STEP_CELSIUS:
            return
        speed = moved / max(seconds - self._mark[0], _MOMENT_SECONDS)
        self._mark = (seconds, exact)
        self._fastest_celsius_per_second = max(speed, self._fastest_celsius_per_second or 0.0)
