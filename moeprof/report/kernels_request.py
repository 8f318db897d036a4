"""What `kernels bench` and `kernels tune` are asked, from the words of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from moeprof.bench.request import BenchRequest, layers_named
from moeprof.errors import UsageError
from moeprof.recipe.batch_sizes import expand
from moeprof.workload.routing import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moeprof.kernel.protocol import L2State

_DTYPES: Final = ("bf16", "fp16", "fp32", "fp8_block")
_L2_STATES: Final = ("cold", "warm")


def bench_request(  # noqa: PLR0913 - options of a command
    models: Sequence[str],
    *,
    tokens: str | None,
    dtypes: Sequence[str],
    kernels: Sequence[str],
    device: str,
    pattern: str,
    seed: int,
    rounds: int,
    seconds: float | None,
    l2: str = "cold",
) -> BenchRequest:
    """Return the request that options stand for; nothing named: what fits the device.

    Raises UsageError, WorkloadError, CatalogueError.
    """
    for dtype in dtypes:
        _refuse_unknown("--dtype", dtype, _DTYPES)
    _refuse_unknown("--l2", l2, _L2_STATES)
    return BenchRequest(
        layers=layers_named(tuple(models)),
        batch_sizes=() if tokens is None else _batch_sizes(tokens),
        dtypes=tuple(dtypes),
        kernels=tuple(kernels),
        device=device,
        pattern=parse(pattern),
        seed=seed,
        rounds=rounds,
        l2_state=cast("L2State", l2),
        seconds_max=seconds,
    )


def _refuse_unknown(option: str, found: str, known: tuple[str, ...]) -> None:
    if found not in known:
        raise UsageError(f"{option} must be {', '.join(known[:-1])} or {known[-1]}, got {found!r}")


def _batch_sizes(tokens: str) -> tuple[int, ...]:
    try:
        return expand([part for part in tokens.split(",") if part.strip()])
    except ValueError as error:
        raise UsageError(f"--tokens {error}", hint="Give --tokens 1..16 or 1,2,4,8.") from error
