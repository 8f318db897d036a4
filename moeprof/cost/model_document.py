"""A cost model as the sections of its file, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from moeprof.cost.anchors_schema import anchor_sections
from moeprof.cost.contexts import FLAGS, NUMBERS
from moeprof.cost.intervals import Band
from moeprof.cost.local import STEPS_PER_LOG, Curves
from moeprof.cost.model import CostModel
from moeprof.cost.model_schema import (
    CONTEXT_COLUMNS,
    FORMAT,
    FORMAT_VERSION,
    SHAPE_COLUMNS,
    ModelDocument,
)
from moeprof.cost.network import Encoder, Network
from moeprof.cost.part_model import PartModel
from moeprof.cost.provenance import Provenance
from moeprof.cost.reach import Reach, Seen
from moeprof.cost.terms import TERMS
from moeprof.cost.watt_terms import WATT_NUMBERS, WATT_TERMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from moeprof.cost.model_schema import (
        BandSection,
        CurvesSection,
        EncoderSection,
        PartSection,
        RowsSection,
    )
    from moeprof.cost.terms import Term

    Key = tuple[str | int, ...]


def document_of(model: CostModel) -> ModelDocument:
    """Return the sections that keep a model, every number with all its digits.

    Raises:
        pydantic.ValidationError: the model has a number that is not finite or far out of range.

    """
    return ModelDocument.model_validate(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "provenance": _plain(asdict(model.provenance)),
            "latency": _part(model.latency, TERMS, NUMBERS),
            "watts": None if model.watts is None else _part(model.watts, WATT_TERMS, WATT_NUMBERS),
            "energy_bands": _bands(model.energy_bands),
            "thermal": None if model.thermal is None else _plain(asdict(model.thermal)),
        }
    )


def model_of(document: ModelDocument) -> CostModel:
    """Return the model that a file's sections keep."""
    kept = document.provenance
    return CostModel(
        latency=_part_model(document.latency, TERMS),
        watts=None if document.watts is None else _part_model(document.watts, WATT_TERMS),
        energy_bands=_bands_of(document.energy_bands),
        thermal=None if document.thermal is None else document.thermal.thermal(),
        provenance=Provenance(
            moeprof_version=kept.moeprof_version,
            sources=tuple(kept.sources),
            datasets=tuple(kept.datasets),
            num_rows=kept.num_rows,
            seed=kept.seed,
            not_identified=tuple(kept.not_identified),
            held_out=dict(kept.held_out),
        ),
    )


def _plain(found: Any) -> Any:
    """Return the same of lists and numbers of Python alone, as JSON has them."""
    match found:
        case dict():
            return {str(key): _plain(each) for key, each in found.items()}
        case list() | tuple():
            return [_plain(each) for each in found]
        case np.generic():
            return found.item()
        case _:
            return found


def _part(part: PartModel, terms: Sequence[Term], numbers: Sequence[str]) -> dict[str, Any]:
    encoder, network = part.encoder, part.network
    layers = zip(network.weights, network.biases, strict=True)
    return {
        "terms": [term.name for term in terms],
        "encoder": {
            "numbers": list(numbers),
            "flags": list(FLAGS),
            "centre": list(encoder.centre),
            "scale": list(encoder.scale),
            "kernels": list(encoder.kernels),
            "gpus": list(encoder.gpus),
        },
        "network": [
            {"weights": _floats(weights), "biases": _floats(biases)} for weights, biases in layers
        ],
        "measured": _measured(part.curves, part.seen),
        "bands": _bands(part.bands),
        "anchors": anchor_sections(part.anchors),
    }


def _floats(values: np.ndarray[Any, Any]) -> Any:
    return values.astype(np.float64).tolist()


def _measured(curves: Curves, seen: Seen) -> dict[str, Any]:
    keys = list(dict.fromkeys(curves.contexts))
    shapes = sorted(seen.shapes, key=str)
    named = [*keys, *shapes, *seen.octaves]
    kernels = {name: place for place, name in enumerate(sorted({str(key[0]) for key in named}))}
    gpus = {name: place for place, name in enumerate(sorted({str(key[1]) for key in named}))}

    def rows(columns: Sequence[str], found: Iterable[Key]) -> dict[str, Any]:
        numbered = [[kernels[str(key[0])], gpus[str(key[1])], *key[2:]] for key in found]
        return {"columns": list(columns), "rows": numbered}

    place = {key: number for number, key in enumerate(keys)}
    grids: dict[tuple[float, ...], int] = {}
    listed = []
    borders = curves.starts.tolist()
    for curve, (key, pattern) in enumerate(zip(curves.contexts, curves.patterns, strict=True)):
        own = slice(borders[curve], borders[curve + 1])
        grid = grids.setdefault(tuple(curves.octaves[own].tolist()), len(grids))
        values = np.rint(curves.values[own] * STEPS_PER_LOG).astype(np.int64).tolist()
        listed.append({"context": place[key], "pattern": pattern, "grid": grid, "values": values})
    spans = [
        {"kernel": kernels[kernel], "gpu": gpus[gpu], "least": least, "greatest": greatest}
        for (kernel, gpu), (least, greatest) in seen.octaves.items()
    ]
    return {
        "kernels": list(kernels),
        "gpus": list(gpus),
        "contexts": rows(CONTEXT_COLUMNS, keys),
        "shapes": rows(SHAPE_COLUMNS, shapes),
        "spans": spans,
        "grids": [list(grid) for grid in grids],
        "curves": listed,
    }


def _bands(bands: Iterable[Band]) -> list[dict[str, Any]]:
    return [{**asdict(band), "reach": Reach(band.reach).name.lower()} for band in bands]


def _bands_of(sections: Iterable[BandSection]) -> tuple[Band, ...]:
    return tuple(
        Band(**{**section.model_dump(), "reach": Reach[section.reach.upper()]})
        for section in sections
    )


def _part_model(section: PartSection, terms: Sequence[Term]) -> PartModel:
    measured = section.measured
    return PartModel(
        parts=np.array([int(term.part) for term in terms]),
        encoder=_encoder(section.encoder),
        network=Network(
            weights=tuple(np.array(layer.weights, dtype=np.float64) for layer in section.network),
            biases=tuple(np.array(layer.biases, dtype=np.float64) for layer in section.network),
        ),
        curves=_curves(measured),
        seen=Seen(
            shapes=frozenset(_keys(measured.shapes, measured)),
            octaves={
                (measured.kernels[span.kernel], measured.gpus[span.gpu]): (
                    span.least,
                    span.greatest,
                )
                for span in measured.spans
            },
        ),
        bands=_bands_of(section.bands),
        anchors=tuple(each.anchors() for each in section.anchors),
    )


def _encoder(section: EncoderSection) -> Encoder:
    return Encoder(
        centre=tuple(section.centre),
        scale=tuple(section.scale),
        kernels=tuple(section.kernels),
        gpus=tuple(section.gpus),
    )


def _keys(rows: RowsSection, measured: CurvesSection) -> list[Key]:
    return [(measured.kernels[row[0]], measured.gpus[row[1]], *row[2:]) for row in rows.rows]


def _curves(measured: CurvesSection) -> Curves:
    keys = _keys(measured.contexts, measured)
    knots = [measured.grids[curve.grid] for curve in measured.curves]
    return Curves(
        contexts=tuple(keys[curve.context] for curve in measured.curves),
        patterns=tuple(curve.pattern for curve in measured.curves),
        starts=np.concatenate([[0], np.cumsum([len(each) for each in knots])]).astype(np.int64),
        octaves=np.array([each for grid in knots for each in grid], dtype=np.float64),
        values=np.array(
            [each for curve in measured.curves for each in curve.values], dtype=np.float64
        )
        / STEPS_PER_LOG,
    )
