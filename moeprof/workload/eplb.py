"""DeepSeek's Expert Parallelism Load Balancer: which experts to replicate and where to put them.

Source: the description and interface of https://github.com/deepseek-ai/EPLB, and section 3.4 of
the DeepSeek-V3 report (arXiv:2412.19437). Re-implemented here so that planning needs no torch.
Where loads are equal the lower number goes first; EPLB leaves that order to torch's unstable sort,
so its tables may differ from these by which of two equally loaded replicas sits where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from moeprof.errors import WorkloadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


class _Replica(NamedTuple):
    """The copy numbered `copy`, from 0, of one expert."""

    expert: int
    copy: int


class Rebalanced(NamedTuple):
    """A plan for every layer; P physical experts (slots) hold E logical ones.

    Slots are numbered GPU by GPU: GPU g has slots g x P/G up to (g + 1) x P/G.
    """

    physical_to_logical: NDArray[np.int64]
    """[num_layers, P]: the expert in each slot."""
    logical_to_physical: NDArray[np.int64]
    """[num_layers, E, most replicas]: the slots of each expert, padded with -1 as EPLB does."""
    logical_count: NDArray[np.int64]
    """[num_layers, E]: how many replicas each expert has, so how many entries are not padding."""


def rebalance_experts(
    weight: ArrayLike, num_replicas_total: int, num_groups: int, num_nodes: int, num_gpus: int
) -> Rebalanced:
    """Replicate the loaded experts and spread all replicas over the GPUs.

    `weight` is [num_layers, num_experts], the load of each expert in any unit;
    `num_replicas_total` counts every physical expert, the first copies included.

    Where `num_nodes` divides `num_groups`, the hierarchical policy keeps each group of experts on
    one node: groups are packed onto nodes, experts replicated within their node, replicas packed
    onto the GPUs of the node. Elsewhere the global policy ignores groups and nodes.

    Raises WorkloadError: a load that is negative or not finite, or a number that does not divide.
    """
    # EPLB balances in single precision; with more, equal loads would tie differently.
    loads = np.asarray(weight, dtype=np.float32)
    if loads.ndim != 2 or 0 in loads.shape:  # noqa: PLR2004 - layers and experts
        message = f"loads must be [num_layers, num_experts], got shape {list(loads.shape)}"
        raise WorkloadError(message)
    if not (np.isfinite(loads).all() and (loads >= 0).all()):
        worst = loads[~(loads >= 0) | ~np.isfinite(loads)][0]
        message = f"loads of experts must be finite and at least 0, got {worst}"
        raise WorkloadError(message)
    if min(num_groups, num_nodes, num_gpus) < 1:
        message = (
            f"num_groups, num_nodes and num_gpus must be at least 1, "
            f"got {num_groups}, {num_nodes} and {num_gpus}"
        )
        raise WorkloadError(message)
    if num_groups % num_nodes != 0:
        num_groups = num_nodes = 1
    num_experts = loads.shape[1]
    _check_divides("num_groups", num_groups, "num_experts", num_experts)
    _check_divides("num_nodes", num_nodes, "num_gpus", num_gpus)
    _check_divides("num_gpus", num_gpus, "physical experts", num_replicas_total)
    if num_replicas_total < num_experts:
        message = (
            f"physical experts must be at least num_experts = {num_experts}, "
            f"got {num_replicas_total}"
        )
        raise WorkloadError(message)
    plans = [
        _slots_of_layer(layer, num_replicas_total, num_groups, num_nodes, num_gpus)
        for layer in loads
    ]
    most = 1 + max(replica.copy for plan in plans for replica in plan)
    logical_to_physical = np.full((*loads.shape, most), -1, dtype=np.int64)
    for layer, plan in enumerate(plans):
        for slot, replica in enumerate(plan):
            logical_to_physical[layer, replica.expert, replica.copy] = slot
    return Rebalanced(
        np.array([[replica.expert for replica in plan] for plan in plans], dtype=np.int64),
        logical_to_physical,
        (logical_to_physical >= 0).sum(axis=2),
    )


def _slots_of_layer(
    loads: NDArray[np.float32], num_slots: int, num_groups: int, num_nodes: int, num_gpus: int
) -> list[_Replica]:
    groups = np.arange(len(loads)).reshape(num_groups, -1)
    slots: list[_Replica] = []
    for node in _pack(loads[groups].sum(axis=1), num_nodes):
        experts = groups[node].ravel()
        replicas, shares = _replicate(loads[experts], num_slots // num_nodes)
        for gpu in _pack(shares, num_gpus // num_nodes):
            on_gpu = (replicas[index] for index in gpu)
            slots += [_Replica(int(experts[local]), copy) for local, copy in on_gpu]
    return slots


def _replicate(
    loads: NDArray[np.float32], num_slots: int
) -> tuple[list[_Replica], NDArray[np.float32]]:
    """Give each further slot to the expert whose replicas are the most loaded at that time.

    Returns the replicas, first copies first, and the load of each, [num_slots].
    """
    counts = np.ones(len(loads), dtype=np.float32)
    replicas = [_Replica(expert, 0) for expert in range(len(loads))]
    while len(replicas) < num_slots:
        expert = int(np.argmax(loads / counts))
        replicas.append(_Replica(expert, int(counts[expert])))
        counts[expert] += 1
    return replicas, (loads / counts)[[replica.expert for replica in replicas]]


def _pack(loads: NDArray[np.float32], num_packs: int) -> Sequence[Sequence[int]]:
    """Pack items into packs of equal size: the heaviest item first, to the lightest open pack.

    Returns the items of each pack in the order they came. One item per pack stays in order.
    """
    size = len(loads) // num_packs
    if size == 1:
        return [[item] for item in range(num_packs)]
    packs: list[list[int]] = [[] for _ in range(num_packs)]
    totals = np.zeros(num_packs, dtype=np.float32)
    for item in np.argsort(-loads, kind="stable").tolist():
        lightest = min(
            (pack for pack in range(num_packs) if len(packs[pack]) < size), key=totals.__getitem__
        )
        packs[lightest].append(item)
        totals[lightest] += loads[item]
    return packs


def _check_divides(divisor_name: str, divisor: int, name: str, number: int) -> None:
    if number % divisor != 0:
        message = f"EPLB: {divisor_name} must divide {name} ({number}), got {divisor}"
        raise WorkloadError(message)
