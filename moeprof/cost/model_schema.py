"""The sections of a model file: the type, range and length of every value in it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, Field, JsonValue, StrictInt, model_validator

from moeprof.cost.anchors_schema import AnchorsSection
from moeprof.cost.contexts import FLAGS, NUM_SHAPE_SIZES, NUMBERS, SIZES
from moeprof.cost.local import STEPS_PER_LOG
from moeprof.cost.reach import Reach
from moeprof.cost.terms import TERMS
from moeprof.cost.thermal_schema import ThermalSection
from moeprof.cost.watt_terms import WATT_NUMBERS, WATT_TERMS
from moeprof.recipe.schema import Strict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FORMAT: Final = "moeprof-cost-model"
FORMAT_VERSION: Final = 1
CONTEXT_COLUMNS: Final = ("kernel", "gpu", *SIZES)
SHAPE_COLUMNS: Final = CONTEXT_COLUMNS[: 2 + NUM_SHAPE_SIZES]

# Bounds far beyond what a fit finds, within which no prediction leaves the range of a float64.
_WEIGHT: Final = 1e6
_LOG_RATIO: Final = 30.0
_OCTAVES: Final = 64.0


def _exactly(expected: Sequence[str]) -> Callable[[list[str]], list[str]]:
    """Return a validator of a list of names that this version of moeprof must know, in order."""

    def check(found: list[str]) -> list[str]:
        if unknown := [name for name in found if name not in expected]:
            raise ValueError(f"this version of moeprof does not know {unknown[0]!r}")
        if found != list(expected):
            raise ValueError(f"must be {', '.join(expected)}, got {', '.join(found)}")
        return found

    return check


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("must not hold one name twice")
    return names


def _rising(values: list[float]) -> list[float]:
    if any(right <= left for left, right in pairwise(values)):
        raise ValueError("must rise")
    return values


def _reach(name: str) -> str:
    known = [each.name.lower() for each in Reach]
    if name not in known:
        raise ValueError(f"must be one of {', '.join(known)}, got {name!r}")
    return name


Name = Annotated[str, Field(max_length=1000)]
Names = Annotated[list[Name], Field(max_length=100_000), AfterValidator(_distinct)]
Weight = Annotated[float, Field(ge=-_WEIGHT, le=_WEIGHT)]
Scale = Annotated[float, Field(gt=0, le=_WEIGHT)]
LogRatio = Annotated[float, Field(ge=-_LOG_RATIO, le=_LOG_RATIO)]
Steps = Annotated[int, Field(ge=-_LOG_RATIO * STEPS_PER_LOG, le=_LOG_RATIO * STEPS_PER_LOG)]
Octaves = Annotated[float, Field(ge=0, le=_OCTAVES)]
Index = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1, le=2**31 - 1)]
Row = Annotated[list[Index], Field(max_length=len(CONTEXT_COLUMNS))]
Grid = Annotated[list[Octaves], Field(min_length=1, max_length=100_000), AfterValidator(_rising)]


class ProvenanceSection(Strict):
    """Where the model comes from (see `provenance.Provenance`)."""

    moeprof_version: Name
    sources: list[Name]
    datasets: list[Annotated[str, Field(max_length=10_000)]]
    num_rows: Index
    seed: int
    not_identified: list[Name]
    held_out: dict[str, JsonValue]


class EncoderSection(Strict):
    """How contexts become the network's inputs (see `network.Encoder`)."""

    numbers: list[Name]
    flags: Annotated[list[Name], AfterValidator(_exactly(FLAGS))]
    centre: list[Weight]
    scale: list[Scale]
    kernels: Names
    gpus: Names

    @model_validator(mode="after")
    def _of_one_length(self) -> EncoderSection:
        if not len(self.numbers) == len(self.centre) == len(self.scale):
            raise ValueError("centre and scale must have a value for each of numbers")
        return self

    @property
    def num_inputs(self) -> int:
        """Inputs of the network."""
        return len(self.numbers) + len(self.flags) + len(self.kernels) + len(self.gpus)


class LayerSection(Strict):
    """One layer of the network: `weights` are [inputs, outputs]."""

    weights: Annotated[list[list[Weight]], Field(max_length=100_000)]
    biases: Annotated[list[Weight], Field(min_length=1, max_length=4096)]

    @model_validator(mode="after")
    def _rectangular(self) -> LayerSection:
        for number, row in enumerate(self.weights):
            if len(row) != len(self.biases):
                raise ValueError(
                    f"weights[{number}] must have as many values as biases, "
                    f"{len(self.biases)}, got {len(row)}"
                )
        return self


class RowsSection(Strict):
    """Rows of whole numbers; `kernel` and `gpu` number the names of the section around them."""

    columns: list[Name]
    rows: Annotated[list[Row], Field(max_length=2_000_000)]

    def check(self, columns: Sequence[str], num_kernels: int, num_gpus: int) -> None:
        """Return if every row is one of these columns; else raise ValueError."""
        _exactly(columns)(self.columns)
        for number, row in enumerate(self.rows):
            if len(row) != len(columns):
                raise ValueError(f"rows[{number}] must have {len(columns)} values, got {len(row)}")
            if row[0] >= num_kernels or row[1] >= num_gpus:
                raise ValueError(f"rows[{number}] must begin with the number of a kernel and a GPU")
            if not all(1 <= size < 2**31 for size in row[2:]):
                raise ValueError(f"rows[{number}] must hold sizes of 1 and more, got {row[2:]}")


class SpanSection(Strict):
    """The batch sizes, as log2 of tokens, that a kernel was measured at on a GPU."""

    kernel: Index
    gpu: Index
    least: Octaves
    greatest: Octaves


class CurveSection(Strict):
    """One curve: `context` numbers a row of the contexts, `grid` the knots.

    `values` are whole steps, `local.STEPS_PER_LOG` to a log ratio of 1.
    """

    context: Index
    pattern: Name
    grid: Index
    values: Annotated[list[Steps], Field(max_length=100_000)]


class CurvesSection(Strict):
    """All curves; contexts and knots that several share stand here once."""

    kernels: Names
    gpus: Names
    contexts: RowsSection
    shapes: RowsSection
    spans: Annotated[list[SpanSection], Field(max_length=100_000)]
    grids: Annotated[list[Grid], Field(max_length=2_000_000)]
    curves: Annotated[list[CurveSection], Field(max_length=2_000_000)]

    @model_validator(mode="after")
    def _consistent(self) -> CurvesSection:
        num_kernels, num_gpus = len(self.kernels), len(self.gpus)
        for name, columns in (("contexts", CONTEXT_COLUMNS), ("shapes", SHAPE_COLUMNS)):
            try:
                getattr(self, name).check(columns, num_kernels, num_gpus)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        for number, span in enumerate(self.spans):
            if span.kernel >= num_kernels or span.gpu >= num_gpus:
                raise ValueError(f"spans[{number}] must name a kernel and a GPU by their numbers")
            if span.least > span.greatest:
                raise ValueError(f"spans[{number}] must not begin above its end")
        known: set[tuple[int, str]] = set()
        for number, curve in enumerate(self.curves):
            where = f"curves[{number}]"
            if curve.context >= len(self.contexts.rows) or curve.grid >= len(self.grids):
                raise ValueError(f"{where} must name a context and a grid by their numbers")
            if len(curve.values) != len(self.grids[curve.grid]):
                raise ValueError(f"{where}.values must be as many as the knots of its grid")
            if (curve.context, curve.pattern) in known:
                raise ValueError(f"{where} must not be of a context and pattern that had one")
            known.add((curve.context, curve.pattern))
        return self


class BandSection(Strict):
    """One interval's quantiles (see `intervals.Band`)."""

    reach: Annotated[str, AfterValidator(_reach)]
    decode: bool
    upto_octaves: Octaves
    low: LogRatio
    high: LogRatio
    num_errors: Index

    @model_validator(mode="after")
    def _ordered(self) -> BandSection:
        if self.low > self.high:
            raise ValueError(f"low must be at most high, got {self.low} and {self.high}")
        return self


def _by_distance(bands: list[BandSection]) -> list[BandSection]:
    farthest: dict[tuple[str, bool], float] = {}
    for number, band in enumerate(bands):
        key = (band.reach, band.decode)
        if band.upto_octaves <= farthest.get(key, -1.0):
            raise ValueError(f"[{number}].upto_octaves must rise within a reach and regime")
        farthest[key] = band.upto_octaves
    return bands


Bands = Annotated[list[BandSection], Field(max_length=10_000), AfterValidator(_by_distance)]


class PartSection(Strict):
    """The model of one quantity (see `part_model.PartModel`)."""

    terms: list[Name]
    encoder: EncoderSection
    network: Annotated[list[LayerSection], Field(min_length=1, max_length=8)]
    measured: CurvesSection
    bands: Bands
    anchors: Annotated[list[AnchorsSection], Field(max_length=1000)]

    @model_validator(mode="after")
    def _fitting(self) -> PartSection:
        num_inputs = self.encoder.num_inputs
        for number, layer in enumerate(self.network):
            if len(layer.weights) != num_inputs:
                raise ValueError(
                    f"network[{number}].weights must have a row for each of the {num_inputs} "
                    f"inputs, got {len(layer.weights)}"
                )
            num_inputs = len(layer.biases)
        if num_inputs != len(self.terms):
            raise ValueError(
                f"network must end with a value for each of the {len(self.terms)} terms, "
                f"got {num_inputs}"
            )
        return self


class ModelDocument(Strict):
    """A whole model file."""

    format: Literal["moeprof-cost-model"]
    format_version: Annotated[StrictInt, Field(ge=1, le=FORMAT_VERSION)]
    provenance: ProvenanceSection
    latency: PartSection
    watts: PartSection | None
    energy_bands: Bands
    thermal: ThermalSection | None

    @model_validator(mode="after")
    def _of_known_names(self) -> ModelDocument:
        known = {
            "latency": (self.latency, TERMS, NUMBERS),
            "watts": (self.watts, WATT_TERMS, WATT_NUMBERS),
        }
        for name, (part, terms, numbers) in known.items():
            if part is not None:
                _check_names(f"{name}.terms", part.terms, [term.name for term in terms])
                _check_names(f"{name}.encoder.numbers", part.encoder.numbers, numbers)
        return self


def _check_names(where: str, found: list[str], expected: Sequence[str]) -> None:
    try:
        _exactly(expected)(found)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
