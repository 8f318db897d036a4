"""The choices that an engine recorded, checked and rid of what is no choice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from moeprof.errors import TraceError
from moeprof.trace.metadata import NUM_EXPERTS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class RecordedPass:
    """Tokens that ran together, or one request, as they were recorded.

    `experts`, [num_layers, num_tokens, top_k], negative where nothing was; the others [num_tokens].
    `where` names the pass for people.
    """

    where: str
    experts: NDArray[Any]
    request: NDArray[np.int32] | None = None
    position: NDArray[np.int32] | None = None
    token_id: NDArray[np.int32] | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """The passes of a recording, reduced to MoE layers, used columns and tokens with a choice."""

    passes: tuple[RecordedPass, ...]
    layers: tuple[int, ...]
    top_k: int
    num_tokens_left_out: int


def choices(
    file: Path, passes: Sequence[RecordedPass], *, num_experts: int, top_k: int | None
) -> Choices:
    """Return the choices in a file's passes, whose experts are the model's own numbers.

    Engines keep one array for all layers, with more columns than `top_k`: a layer is dense where no
    token has an expert, or each has only expert 0, and columns that are never filled are cut. A
    token without an expert in any MoE layer was padding, or was not captured: it is left out, and
    counted.

    Raises TraceError: there is nothing in the file, an expert out of range, one chosen twice by a
    token, some experts of a token missing, another `top_k` than the one given, or more experts than
    a trace holds.
    """
    refuse_too_many(file, num_experts)
    if len({each.experts.shape[::2] for each in passes}) != 1:
        raise TraceError(
            f"{file}: must have passes of the same layers and top_k, found {_shapes(passes)}"
        )
    filled = np.logical_or.reduce([(each.experts >= 0).any(axis=(0, 1)) for each in passes])
    width = int(filled.sum())
    if top_k is not None and top_k != width:
        raise TraceError(
            f"{file}: its tokens have {width} experts, --top-k says {top_k}",
            hint="Leave --top-k out: the file tells.",
        )
    cut = [replace(each, experts=each.experts[:, :, filled]) for each in passes]
    is_moe = np.logical_or.reduce([~_is_blank(each.experts).all(axis=1) for each in cut])
    layers = np.flatnonzero(is_moe)
    if not len(layers):
        raise TraceError(f"{file}: no layer has a token with experts")
    kept = [_kept(file, each, layers, num_experts) for each in cut]
    num_left_out = sum(each.experts.shape[1] for each in cut) - sum(
        each.experts.shape[1] for each in kept
    )
    return Choices(
        passes=tuple(each for each in kept if each.experts.shape[1]),
        layers=tuple(layers.tolist()),
        top_k=width,
        num_tokens_left_out=num_left_out,
    )


def refuse_too_many(file: Path, num_experts: int) -> None:
    """Raise TraceError if a trace has no number for every expert: it keeps them in 16 bits."""
    if num_experts > NUM_EXPERTS_MAX:
        raise TraceError(f"{file}: must have at most {NUM_EXPERTS_MAX} experts, got {num_experts}")


def counts_of(experts: NDArray[Any], num_experts: int) -> NDArray[np.int64]:
    """Return the rows per expert, [num_layers, num_experts], of a pass."""
    return np.stack([np.bincount(layer.ravel(), minlength=num_experts) for layer in experts])


def _shapes(passes: Sequence[RecordedPass]) -> str:
    shapes = sorted({each.experts.shape[::2] for each in passes})
    return " and ".join(f"{layers} layers of {k}" for layers, k in shapes) or "none"


def _kept(
    file: Path, recorded: RecordedPass, layers: NDArray[np.int64], num_experts: int
) -> RecordedPass:
    experts = recorded.experts[layers]
    is_choice = ~_is_blank(experts).all(axis=0)
    experts = experts[:, is_choice]
    for wrong, what in (
        (experts < 0, "has no expert in one of its slots"),
        (experts >= num_experts, f"has an expert that does not lie in 0..{num_experts - 1}"),
        (_is_twice(experts), "chooses one expert twice"),
    ):
        if wrong.any():
            layer, token = (int(each) for each in np.argwhere(wrong)[0][:2])
            found = experts[layer, token].tolist()
            raise TraceError(
                f"{file}: {recorded.where}, layer {layers[layer]}: token "
                f"{np.flatnonzero(is_choice)[token]} {what}: {found}",
                hint="Replicated, or fused shared, experts have numbers of their own, which only "
                "the engine's own map tells.",
            )

    def chosen(values: NDArray[np.int32] | None) -> NDArray[np.int32] | None:
        return None if values is None else values[is_choice]

    return replace(
        recorded,
        experts=experts.astype(np.int16),
        request=chosen(recorded.request),
        position=chosen(recorded.position),
        token_id=chosen(recorded.token_id),
    )


def _is_blank(experts: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which tokens have no choice, [num_layers, num_tokens]."""
    is_empty: NDArray[np.bool_] = np.all(experts < 0, axis=2)
    if experts.shape[2] == 1:
        return is_empty
    # No token chooses expert 0 twice: this part of the array was never filled.
    is_zero: NDArray[np.bool_] = np.all(experts == 0, axis=2)
    return is_empty | is_zero


def _is_twice(experts: NDArray[Any]) -> NDArray[np.bool_]:
    ordered = np.sort(experts, axis=2)
    twice: NDArray[np.bool_] = (ordered[:, :, 1:] == ordered[:, :, :-1]).any(axis=2)
    return twice
