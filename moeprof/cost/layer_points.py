"""A catalogue layer's points over batch sizes, with a kernel and GPU that a model knows."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from moeprof.errors import UsageError
from moeprof.recipe.batch_sizes import expand
from moeprof.workload import catalogue
from moeprof.workload.routing import check, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from moeprof.cost.model import CostModel
    from moeprof.workload.layer import MoELayer
    from moeprof.workload.model import MoEModel

_LEAST_CELSIUS, _MOST_CELSIUS = -50.0, 150.0  # no die works outside
_NUM_NAME_PARTS: Final = 4  # of a model's kernel: engine, kernel, weight and activation format


@dataclass(frozen=True, slots=True)
class LayerRequest:
    """One layer at some batch sizes; None: what the model has, the most measured if several.

    `tokens` is `1..256`, `1,2,4` or a mixture of both, `pattern` a routing pattern, `kernel` the
    name of a kernel with or without its engine and formats, as the model has it.
    """

    layer: str
    tokens: str
    pattern: str
    celsius: float | None = None
    kernel: str | None = None
    gpu: str | None = None
    weight_dtype: str | None = None
    ep_size: int = 1
    tp_size: int = 1


@dataclass(frozen=True, slots=True)
class LayerPoints:
    """Points as a table with a dataset's workload columns, and what was chosen for the user."""

    table: pa.Table
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Measured:
    """One kind of kernel on one GPU that a model was fitted to."""

    name: str
    gpu: str

    @property
    def parts(self) -> list[str]:
        return self.name.split(" | ")

    @property
    def kernel(self) -> str:
        return self.parts[1]

    @property
    def weight_dtype(self) -> str:
        return self.parts[2]


def points_of_layer(model: CostModel, request: LayerRequest) -> LayerPoints:
    """Return the points asked for, the smallest batch first.

    Where the model knows several, the published number format of the layer's weights is taken, and
    then the kernel and GPU with most measured batch sizes of this layer, or else of all layers.

    Raises:
        UsageError: the model does not know the kernel, GPU or format, or a number is impossible.
        WorkloadError: there is no such layer, or the pattern is impossible for it.

    """
    named = catalogue.model(request.layer)
    layer = named.layer
    sizes = _batch_sizes(request.tokens)
    pattern = parse(request.pattern)
    for num_tokens in (sizes[0], sizes[-1]):
        check(pattern, num_experts=layer.num_experts, top_k=layer.top_k, num_tokens=num_tokens)
    _check_numbers(request, layer)
    chosen, notes = _chosen(model, request, named)
    engine, kernel, weights, activations = chosen.parts
    row = {
        "model": named.name,
        "kernel": kernel,
        "engine": engine.partition(" ")[0],
        "engine_version": engine.partition(" ")[2] or None,
        "device_kind": chosen.gpu,
        "weight_dtype": weights,
        "activation_dtype": activations,
        "hidden_size": layer.hidden_size,
        "expert_size": layer.expert_size,
        "num_experts": layer.num_experts,
        "top_k": layer.top_k,
        "ep_size": request.ep_size,
        "tp_size": request.tp_size,
        "routing_pattern": str(pattern),
        "die_celsius": request.celsius,
    }
    columns = {name: pa.array([value] * len(sizes)) for name, value in row.items()}
    columns["die_celsius"] = columns["die_celsius"].cast(pa.float64())
    return LayerPoints(pa.table({**columns, "batch_size": pa.array(sizes)}), tuple(notes))


def _batch_sizes(tokens: str) -> tuple[int, ...]:
    try:
        return expand([part for part in tokens.split(",") if part.strip()])
    except ValueError as error:
        raise UsageError(f"--tokens {error}", hint="Give --tokens 1..256 or 1,2,4,8.") from error


def _check_numbers(request: LayerRequest, layer: MoELayer) -> None:
    celsius = request.celsius
    if celsius is not None and not _LEAST_CELSIUS <= celsius <= _MOST_CELSIUS:
        shown = celsius if math.isfinite(celsius) else str(celsius)
        raise UsageError(f"--celsius must lie in {_LEAST_CELSIUS}..{_MOST_CELSIUS}, got {shown}")
    for option, size, whole in (
        ("--ep", request.ep_size, ("num_experts", layer.num_experts)),
        ("--tp", request.tp_size, ("expert_size", layer.expert_size)),
    ):
        if size < 1 or whole[1] % size:
            raise UsageError(f"{option} must divide {whole[0]} {whole[1]}, got {size}")


def _chosen(
    model: CostModel, request: LayerRequest, named: MoEModel
) -> tuple[_Measured, list[str]]:
    of_layer, of_all = _num_knots(model, named.layer)
    left = list(of_all)
    if not left:
        raise UsageError(
            "--layer needs a model that knows a kernel, and this one knows none",
            hint="Give points with --points.",
        )
    if request.gpu is not None:
        left = _matching(left, "--gpu", request.gpu, lambda each: (each.gpu,))
    if request.kernel is not None:
        left = _matching(left, "--kernel", request.kernel, lambda e: (e.kernel, e.name))
    if request.weight_dtype is not None:
        left = _matching(left, "--weight-dtype", request.weight_dtype, lambda e: (e.weight_dtype,))

    def published(each: _Measured) -> bool:
        """Whether it is the published format, or that with other scales (fp8, fp8_block)."""
        return each.weight_dtype.startswith(named.weight_dtype)

    # A kernel that ran this very layer comes before one that only shares its number format.
    best = max(
        left,
        key=lambda e: (
            published(e) and of_layer[e] > 0,
            published(e),
            of_layer[e],
            of_all[e],
            e.name,
            e.gpu,
        ),
    )
    notes = []
    for option, found, known in (
        ("--gpu", best.gpu, {each.gpu for each in left}),
        ("--kernel", best.name, {each.name for each in left}),
    ):
        if len(known) > 1:
            notes.append(f"{option} {found}: the most measured of {len(known)} that would do")
    if request.weight_dtype is None and not published(best):
        notes.append(
            f"{named.name} is published in {named.weight_dtype}; "
            f"this is of {best.weight_dtype}, which the model knows"
        )
    return best, notes


def _num_knots(model: CostModel, layer: MoELayer) -> tuple[Counter[_Measured], Counter[_Measured]]:
    """Return how many batch sizes were measured of a layer, and of all, by kernel and GPU."""
    of_layer: Counter[_Measured] = Counter()
    of_all: Counter[_Measured] = Counter()
    shape = (layer.hidden_size, layer.expert_size, layer.num_experts, layer.top_k)
    curves = model.latency.curves
    lengths = (curves.starts[1:] - curves.starts[:-1]).tolist()
    for key, num_knots in zip(curves.contexts, lengths, strict=True):
        measured = _Measured(str(key[0]), str(key[1]))
        if len(measured.parts) != _NUM_NAME_PARTS:
            continue
        of_all[measured] += num_knots
        if key[2 : 2 + len(shape)] == shape:
            of_layer[measured] += num_knots
    return of_layer, of_all


def _matching(
    measured: Sequence[_Measured],
    option: str,
    wanted: str,
    names: Callable[[_Measured], Iterable[str]],
) -> list[_Measured]:
    found = [each for each in measured if wanted in names(each)]
    if found:
        return found
    known = sorted({next(iter(names(each))) for each in measured})
    near = get_close_matches(wanted, known, n=1, cutoff=0.3)
    nearest = f"The nearest is {near[0]}. " if near else ""
    raise UsageError(
        f"{option} must be what the model was fitted to, got {wanted!r}",
        hint=f"{nearest}The model knows {', '.join(known)}.",
    )
