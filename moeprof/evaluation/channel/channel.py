"""The channel between what GPUs are and what a router knows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.evaluation.channel import lies
from moeprof.evaluation.channel.chance import normals, uniforms
from moeprof.evaluation.channel.figures import FIGURES, NUM_MEASURED, Readings, Truths

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from moeprof.recipe.scene import TelemetrySection

_NUM_FIGURES: Final = len(FIGURES)
_CLOCK, _LAYER = _NUM_FIGURES, _NUM_FIGURES + 1  # when a reading was taken, after its figures
_DIE: Final = FIGURES.index("die_celsius")
_NOISE, _LOSS, _NAN, _LIE, _SHUFFLE = range(5)  # purposes that draw apart
_FIRST_CAPACITY: Final = 64


class TelemetryChannel:
    """Readings of every GPU, put once a layer, had later, all seeds at once.

    A reading is disturbed when it is taken: first the lie, then log-normal noise on what is
    measured, then the thermometer's step, then NaN in single figures, then loss of the whole
    reading, in place of which the one before stays, older. Of uniform telemetry all GPUs have the
    same noise and the same losses, so that theirs are equal in every bit. A frozen GPU stamps its
    first reading with the time of now.
    """

    def __init__(
        self,
        section: TelemetrySection,
        *,
        num_seeds: int,
        num_gpus: int,
        layers_per_step: int,
        seed: int,
    ) -> None:
        self._section = section
        self._layers_per_step = layers_per_step
        self._shape = (num_seeds, num_gpus)
        # One draw for all ranks keeps uniform figures equal.
        num_drawn = 1 if section.kind == "uniform" else num_gpus
        self._noise = normals(seed, num_seeds, _NOISE, (NUM_MEASURED, num_drawn))
        self._loss = uniforms(seed, num_seeds, _LOSS, (num_drawn,))
        self._nan = uniforms(seed, num_seeds, _NAN, (_NUM_FIGURES, num_drawn))
        self._lie = uniforms(seed, num_seeds, _LIE, (_NUM_FIGURES, num_gpus))
        self._whose = lies.permutations(seed, num_seeds, num_gpus, _SHUFFLE)[:, np.newaxis]
        self._first = self._nothing()
        self._last = self._nothing()
        # What was put and may still be had, oldest first; each seed has its own clock.
        self._entries = np.empty((_FIRST_CAPACITY, *self._last.shape))
        self._put_seconds = np.empty((_FIRST_CAPACITY, num_seeds))
        self._positions = np.empty(_FIRST_CAPACITY, dtype=np.int64)
        self._num_entries = 0
        self._had = np.full(num_seeds, -1)
        self._places = np.arange(num_seeds)

    def put(self, step: int, layer: int, now_seconds: ArrayLike, truths: Truths) -> None:
        """Let every GPU take and send a reading after `layer` of `step`.

        `layer` counts MoE layers from 0; `now_seconds` is the clock, one or [num_seeds]. Layers
        come in order.
        """
        if self._section.kind == "none":
            return
        position = step * self._layers_per_step + layer
        if self._num_entries == len(self._entries):
            self._make_room()
        place = self._num_entries
        assert not place or position > self._positions[place - 1], "layers come in order"
        entry = self._entries[place]
        entry[:, :_NUM_FIGURES] = self._told(truths)
        self._put_seconds[place] = now_seconds
        entry[:, _CLOCK] = self._put_seconds[place][:, np.newaxis]
        entry[:, _LAYER] = position
        if self._section.lost_fraction:
            lost = next(self._loss) < self._section.lost_fraction
            np.copyto(entry, self._last, where=lost[:, np.newaxis])
            self._last = entry.copy()
        if self._section.kind == "frozen":
            unseen = np.isnan(self._first[:, _LAYER])[:, np.newaxis]
            np.copyto(self._first, entry, where=unseen)
            entry[:, :_NUM_FIGURES] = self._first[:, :_NUM_FIGURES]
        self._positions[place] = position
        self._num_entries += 1

    def get(self, step: int, layer: int, now_seconds: ArrayLike) -> Readings:
        """Return what a router that is about to route `layer` of `step` reads.

        It is the newest of what was put at least `age_layers` layers and `age_seconds` before. A
        reading put after the previous layer is 1 layer old, so 0 differs from 1 only where one
        has been put for this layer already. Neither layers nor clocks run backwards.
        """
        now = np.broadcast_to(np.asarray(now_seconds, dtype=np.float64), self._shape[:1])
        position = step * self._layers_per_step + layer
        self._advance(position - self._section.age_layers, now - self._section.age_seconds)
        if self._had.min() < 0:
            had = np.where(
                (self._had >= 0)[:, np.newaxis, np.newaxis],
                self._entries[self._had, self._places],
                np.nan,
            )
        else:
            had = self._entries[self._had, self._places]
        age_seconds = now[:, np.newaxis] - had[:, _CLOCK]
        figures = (had[:, place] for place in range(_NUM_FIGURES))
        return Readings(age_seconds, position - had[:, _LAYER], *figures)

    def _told(self, truths: Truths) -> NDArray[np.float64]:
        section = self._section
        told = np.stack([getattr(truths, name) for name in FIGURES], axis=1)
        match section.kind:
            case "uniform":
                told = lies.uniform(told).copy()
            case "shuffled":
                told = np.take_along_axis(told, self._whose, axis=-1)
            case "adversarial":
                told = lies.adversarial(told, next(self._lie))
            case _:
                pass
        if section.noise:
            told[:, :NUM_MEASURED] *= np.exp(section.noise * next(self._noise))
        if section.celsius_step:
            told[:, _DIE] = np.round(told[:, _DIE] / section.celsius_step) * section.celsius_step
        if section.nan_fraction:
            unreadable = next(self._nan) < section.nan_fraction
            np.copyto(told, np.nan, where=unreadable)
        return told

    def _advance(self, newest_position: int, newest_seconds: NDArray[np.float64]) -> None:
        """Move each seed on to the newest entry that is old enough for it."""
        last = self._num_entries - 1
        if last < 0:
            return
        while True:
            following = np.minimum(self._had + 1, last)
            old_enough = (
                (following > self._had)
                & (self._positions[following] <= newest_position)
                & (self._put_seconds[following, self._places] <= newest_seconds)
            )
            if not old_enough.any():
                return
            self._had += old_enough

    def _make_room(self) -> None:
        """Forget what no seed can have any more; double the room where little is forgotten."""
        forgotten = max(int(self._had.min()), 0)
        kept = self._num_entries - forgotten
        capacity = len(self._entries) * (2 if 2 * kept > len(self._entries) else 1)
        entries = np.empty((capacity, *self._entries.shape[1:]))
        put_seconds = np.empty((capacity, *self._put_seconds.shape[1:]))
        positions = np.empty(capacity, dtype=np.int64)
        entries[:kept] = self._entries[forgotten:]
        put_seconds[:kept] = self._put_seconds[forgotten:]
        positions[:kept] = self._positions[forgotten:]
        self._entries, self._put_seconds, self._positions = entries, put_seconds, positions
        self._num_entries = kept
        self._had = np.maximum(self._had - forgotten, -1)

    def _nothing(self) -> NDArray[np.float64]:
        num_seeds, num_gpus = self._shape
        return np.full((num_seeds, _NUM_FIGURES + 2, num_gpus), np.nan)
