"""Refusals of patterns that a layer and a batch size make impossible."""

from __future__ import annotations

from typing import assert_never

import numpy as np

from moeprof.errors import WorkloadError
from moeprof.workload.routing import replay
from moeprof.workload.routing.grouped import NUM_BEST
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
    Uniform,
    Zipf,
)
from moeprof.workload.routing.strided import has_distinct_slots


def check(pattern: Pattern, *, num_experts: int, top_k: int, num_tokens: int) -> None:
    """Return if the pattern can be drawn for this layer and batch size.

    A replay file is read (once while it stays the same) and all of it is checked.

    Raises WorkloadError: a number out of its range, or a replay file that is unreadable or was
    recorded for another layer.
    """
    if num_experts < 1:
        message = f"num_experts must be at least 1, got {num_experts}"
        raise WorkloadError(message)
    if not 1 <= top_k <= num_experts:
        message = f"top_k must lie in 1..{num_experts} (num_experts), got {top_k}"
        raise WorkloadError(message)
    if num_tokens < 1:
        message = f"num_tokens must be at least 1, got {num_tokens}"
        raise WorkloadError(message)
    match pattern:
        case Active():
            _check_active(pattern, num_experts, top_k, num_tokens)
        case Hot():
            _check_hot(pattern, num_experts)
        case Strided():
            _check_strided(num_experts, top_k)
        case Grouped(meant):
            check(meant, num_experts=num_experts, top_k=top_k, num_tokens=num_tokens)
            _check_groups(pattern, num_experts, top_k)
        case Replay():
            _check_replay(pattern, num_experts, top_k)
        case Uniform() | Balanced() | Zipf() | PowerLaw() | PackedPowerLaw() | Dirichlet():
            pass
        case _:
            assert_never(pattern)


def _check_active(pattern: Active, num_experts: int, top_k: int, num_tokens: int) -> None:
    most = min(num_experts, num_tokens * top_k)
    if top_k <= pattern.num_active <= most:
        return
    message = (
        f"routing pattern {pattern}: N must lie in {top_k}..{most} for {num_tokens} tokens "
        f"with top_k {top_k} of {num_experts} experts, got {pattern.num_active}"
    )
    raise WorkloadError(
        message, hint="A token has top_k distinct experts, and an active expert needs a row."
    )


def _check_hot(pattern: Hot, num_experts: int) -> None:
    if pattern.num_hot < num_experts:
        return
    right = f"must lie in 1..{num_experts - 1}" if num_experts > 1 else "needs two experts or more"
    message = (
        f"routing pattern {pattern}: N {right} for {num_experts} experts, got {pattern.num_hot}"
    )
    raise WorkloadError(message, hint="With every expert hot none is: use uniform.")


def _check_strided(num_experts: int, top_k: int) -> None:
    if has_distinct_slots(num_experts, top_k):
        return
    message = (
        f"routing pattern strided: the slots of a token must be different experts, and are not "
        f"for top_k {top_k} of {num_experts} experts"
    )
    raise WorkloadError(message, hint="Use balanced, which any layer can have.")


def _check_groups(pattern: Grouped, num_experts: int, top_k: int) -> None:
    where = f"routing pattern {pattern}"
    size, rest = divmod(num_experts, pattern.num_groups)
    if rest:
        raise WorkloadError(
            f"{where}: the number of groups must divide num_experts ({num_experts}), "
            f"got {pattern.num_groups}"
        )
    if size < NUM_BEST:
        raise WorkloadError(
            f"{where}: a group must have {NUM_BEST} experts or more, got {size}",
            hint="A group's score is the sum of its two best experts.",
        )
    if pattern.num_allowed * size < top_k:
        raise WorkloadError(
            f"{where}: the groups allowed must have top_k ({top_k}) experts or more, "
            f"got {pattern.num_allowed * size}"
        )


def _check_replay(pattern: Replay, num_experts: int, top_k: int) -> None:
    ids = replay.recorded_ids(pattern)
    where = f"replay file {pattern.file}"
    if ids.shape[1] != top_k:
        message = f"{where}: must have top_k = {top_k} columns, got {ids.shape[1]}"
        raise WorkloadError(message, hint="Replay a recording of a layer with the same top_k.")
    outside = (ids < 0) | (ids >= num_experts)
    if outside.any():
        token, slot = np.argwhere(outside)[0]
        message = (
            f"{where}: token {token}, slot {slot}: expert id must lie in 0..{num_experts - 1}, "
            f"got {ids[token, slot]}"
        )
        raise WorkloadError(
            message, hint=f"Replay a recording of a layer with {num_experts} experts."
        )
    ordered = np.sort(ids, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if repeated.any():
        token = int(np.flatnonzero(repeated)[0])
        message = f"{where}: token {token}: experts must be distinct, got {ids[token].tolist()}"
        raise WorkloadError(message, hint="Leave out padding and profiling tokens when recording.")
