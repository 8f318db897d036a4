"""Where a fitted model comes from, and what it was found to be worth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a model was fitted to.

    `sources` are the kinds of rows (measured, simulated, imported); `datasets` say in words where
    they come from; `not_identified` lists what the data could not tell, such as temperature.
    `held_out` are errors on rows that a fit had not seen, as `fit-cost --json` gives them.
    """

    moeprof_version: str
    sources: tuple[str, ...]
    datasets: tuple[str, ...]
    num_rows: int
    seed: int
    not_identified: tuple[str, ...]
    held_out: dict[str, object]
