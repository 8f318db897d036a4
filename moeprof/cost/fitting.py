"""From dataset folders to a cost model that has been judged: the whole of `moeprof fit-cost`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from moeprof.cost.adapt import adapt
from moeprof.cost.assess import OWN_NAME, Peers, assess, default_holdout
from moeprof.cost.fit import FitSettings, fit_cost
from moeprof.cost.gathered import gather
from moeprof.cost.held_out import Rows, scores_document
from moeprof.cost.held_rows import held_rows_of_table
from moeprof.cost.holdout import Holdout
from moeprof.cost.noise import noise_study
from moeprof.cost.provenance import not_identified
from moeprof.cost.suspect import fit_weights, suspects

if TYPE_CHECKING:
    from pathlib import Path

    from moeprof.cost.assess import Assessment
    from moeprof.cost.gathered import Gathered
    from moeprof.cost.model import CostModel
    from moeprof.cost.noise import NoiseLevel
    from moeprof.cost.provenance import Provenance
    from moeprof.cost.suspect import Suspect

# What is done, to which rows, how many steps are done of how many.
OnProgress: TypeAlias = Callable[[str, str, int, int], None]


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What to fit and how to judge it.

    `sources` names the kinds of rows to take where there are several. `holdout` None: the hardest
    that the rows allow. `base` is a fitted model to adapt to the rows; None: a new fit.
    `noise_fractions` are the levels of a noise study; none: no study.
    """

    folders: tuple[Path, ...]
    sources: tuple[str, ...] = ()
    holdout: Holdout | None = None
    seed: int = 0
    peers: Peers = Peers.ALL
    noise_fractions: tuple[float, ...] = ()
    base: CostModel | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FittedCost:
    """A model fitted to all rows, and what is known of it and of the rows.

    `suspects` name rows of `gathered`. `fit_seconds` is the wall time of the fit to all rows,
    without reading them and without any judgement.
    """

    model: CostModel
    gathered: Gathered
    suspects: tuple[Suspect, ...]
    assessment: Assessment
    noise: tuple[NoiseLevel, ...]
    fit_seconds: float


def fit_datasets(
    request: FitRequest,
    *,
    settings: FitSettings | None = None,
    on_progress: OnProgress = lambda *_: None,
    clock: Callable[[], float] = time.perf_counter,
) -> FittedCost:
    """Return the model of the rows of all folders, with its errors on rows held out.

    Rows that contradict physics or each other are listed and count for less in the fit.

    Raises:
        DatasetError: a folder cannot be read, or its rows may not be put together.
        FitError: there are too few rows to fit to or to hold out; the message says what is missing.

    """
    on_progress("reading", "", 0, 1)
    gathered = gather(request.folders, request.sources)
    chosen = replace(settings or FitSettings(), seed=request.seed)

    def fit(rows: Rows) -> CostModel:
        if request.base is not None:
            return adapt(
                request.base,
                rows.points,
                rows.observed,
                rows.weight,
                watt_weight=rows.watt_weight,
            )
        return fit_cost(
            rows.points,
            rows.observed,
            rows.weight,
            chosen,
            rows.held,
            watt_weight=rows.watt_weight,
        )

    doubted = suspects(gathered.points, gathered.observed)
    weight = fit_weights(doubted, len(gathered.points), "latency_seconds")
    held = held_rows_of_table(gathered.table)
    watt_weight = fit_weights(doubted, len(gathered.points), "average_watts")
    rows = Rows(gathered.points, gathered.observed, weight, held, watt_weight)
    # First of all, as it refuses what is too little before anything is judged.
    on_progress(OWN_NAME, "all rows", 0, 1)
    begun_seconds = clock()
    model = fit(rows)
    fit_seconds = clock() - begun_seconds
    holdout = request.holdout or (
        default_holdout(rows.points) if request.base is None else Holdout.RANDOM
    )
    assessment = assess(
        rows, fit, holdout=holdout, seed=request.seed, peers=request.peers, on_step=on_progress
    )
    noise = noise_study(
        rows,
        fit,
        request.noise_fractions,
        holdout=holdout,
        seed=request.seed,
        on_step=on_progress,
    )
    model = replace(model, provenance=_provenance(model, gathered, assessment, request.base))
    return FittedCost(model, gathered, doubted, assessment, noise, fit_seconds)


def _provenance(
    model: CostModel, gathered: Gathered, assessment: Assessment, base: CostModel | None
) -> Provenance:
    """Return where a model comes from; an adapted one also from what its base was fitted to."""
    own = assessment.methods.get(OWN_NAME)
    scores: dict[str, object] = (
        {} if own is None else {"holdout": assessment.holdout.value, **scores_document(own)}
    )
    kept = model.provenance
    if base is not None:
        return replace(
            kept,
            sources=tuple(dict.fromkeys([*kept.sources, *gathered.sources])),
            datasets=(*kept.datasets, *(f"adapted to {words}" for words in gathered.datasets)),
            held_out={**kept.held_out, "adapted": scores},
        )
    absent = not_identified(
        gathered.points, has_thermal=model.thermal is not None, has_watts=model.watts is not None
    )
    return replace(
        kept,
        sources=gathered.sources,
        datasets=gathered.datasets,
        not_identified=tuple(dict.fromkeys([*kept.not_identified, *absent])),
        held_out=scores,
    )
