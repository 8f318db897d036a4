"""What a bench is asked to time, and what it times where it is not told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from moeprof.kernel.registry import STAND_INS, check_name, kernel_names
from moeprof.workload import catalogue
from moeprof.workload.dtypes import activation_dtype
from moeprof.workload.routing import Uniform, check, draw, rows_per_expert
from moeprof.workload.workload import Workload

if TYPE_CHECKING:
    from moeprof.device.protocol import DeviceIdentity
    from moeprof.kernel.protocol import L2State
    from moeprof.workload.layer import MoELayer
    from moeprof.workload.routing import Pattern

CATALOGUE_MODELS: Final = ("mixtral-8x7b", "deepseek-v3", "qwen3-30b-a3b", "gpt-oss-120b")
_GPU_BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
_GPU_DTYPES: Final = ("bf16", "fp8_block")
_CPU_MODELS: Final = ("mixtral-8x7b-quarter",)
_CPU_BATCH_SIZES: Final = (1, 4, 16)
_CPU_DTYPES: Final = ("bf16",)
# On a CPU these imitate a GPU, at a thousandth of its speed: timed where they are named only.
_EMULATED_ON_CPU: Final = STAND_INS | {"triton"}


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """Layers x dtypes x batch sizes, each timed with all kernels; an empty tuple: as fits.

    `rounds` is the samples that each kernel gets at a point. `seconds_max` is device time: points
    that are not reached in it are named and left out; None: all are measured.
    """

    layers: tuple[MoELayer, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    device: str = "auto"
    pattern: Pattern = field(default_factory=Uniform)
    seed: int = 0
    rounds: int = 30
    l2_state: L2State = "cold"
    seconds_max: float | None = None


def layers_named(names: tuple[str, ...]) -> tuple[MoELayer, ...]:
    """Return the MoE layers of models in the catalogue, or of model files.

    Raises WorkloadError, CatalogueError.
    """
    return tuple(catalogue.model(name).layer for name in names)


def kernels_of(request: BenchRequest, identity: DeviceIdentity) -> tuple[str, ...]:
    """Return the kernels to time: those named, or all that are worth timing on the device.

    Raises WorkloadError for a name that is not known.
    """
    for name in request.kernels:
        check_name(name)
    if request.kernels:
        return request.kernels
    left_out = _EMULATED_ON_CPU if identity.kind == "cpu" else STAND_INS
    return tuple(name for name in kernel_names() if name not in left_out)


def workloads_of(request: BenchRequest, identity: DeviceIdentity) -> tuple[Workload, ...]:
    """Return the points in their order; the same rows for every dtype and kernel.

    Raises WorkloadError where the pattern is impossible for a layer and batch.
    """
    on_cpu = identity.kind == "cpu"
    layers = request.layers or layers_named(_CPU_MODELS if on_cpu else CATALOGUE_MODELS)
    dtypes = request.dtypes or (_CPU_DTYPES if on_cpu else _GPU_DTYPES)
    batch_sizes = request.batch_sizes or (_CPU_BATCH_SIZES if on_cpu else _GPU_BATCH_SIZES)
    return tuple(
        workload_of(layer, dtype, batch_size, pattern=request.pattern, seed=request.seed)
        for dtype in dtypes
        for layer in layers
        for batch_size in batch_sizes
    )


def workload_of(
    layer: MoELayer, dtype: str, batch_size: int, *, pattern: Pattern, seed: int
) -> Workload:
    """Return the whole layer on one rank with rows drawn from the pattern.

    Raises WorkloadError.
    """
    check(pattern, num_experts=layer.num_experts, top_k=layer.top_k, num_tokens=batch_size)
    ids = draw(
        pattern,
        num_tokens=batch_size,
        num_experts=layer.num_experts,
        top_k=layer.top_k,
        seed=seed,
    )
    return Workload(
        model=layer.name,
        layer=layer,
        weight_dtype=dtype,
        activation_dtype=activation_dtype(dtype),
        batch_size=batch_size,
        routing_pattern=str(pattern),
        routing_seed=seed,
        placement="none",
        ep_size=1,
        ep_rank=0,
        tp_size=1,
        rows_per_expert=tuple(rows_per_expert(ids, layer.num_experts).tolist()),
    )
