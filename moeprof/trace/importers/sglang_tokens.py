"""What SGLang's recorder kept of every token: its experts, and, of a prefill, its request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moeprof.errors import TraceError
from moeprof.trace.importers.choices import RecordedPass, refuse_too_many
from moeprof.trace.importers.whole_numbers import as_int32, pass_number, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

MAP = "last_physical_to_logical_map"
_NUM_AXES = 3
_LAST_MAP = (
    "experts were told from slots by the map at the end of the recording; if slots were "
    "rebalanced during it, earlier ones are wrong"
)


def num_logical_experts(file: Path, content: Mapping[str, Any], given: int | None) -> int:
    """Return the experts of the model: of the file's map, of which each has at least one slot.

    Raises TraceError: the map says another number than the one given, or there is neither, or it
    is more than a trace holds.
    """
    slots = logical_of_slot(file, content)
    if slots is None and given is None:
        raise TraceError(
            f"{file}: has no {MAP}, so it does not tell how many experts the model has",
            hint="Give --num-experts.",
        )
    found = given or 0 if slots is None else int(slots.max()) + 1
    if given is not None and given != found:
        raise TraceError(f"{file}: its map is of {found} experts, --num-experts says {given}")
    refuse_too_many(file, found)
    return found


def logical_of_slot(file: Path, content: Mapping[str, Any]) -> NDArray[np.int64] | None:
    """Return the expert in every slot, [num_layers, num_slots]; None: the file does not say.

    Raises TraceError: the map is no table of whole numbers from 0.
    """
    found = content.get(MAP)
    if found is None:
        return None
    table = whole_numbers(f"{file}: {MAP}", found)
    if table.ndim != 2 or not table.size or table.min() < 0:  # noqa: PLR2004
        raise TraceError(
            f"{file}: {MAP} must be [num_layers, num_slots] of experts, found {list(table.shape)}"
        )
    return table.astype(np.int64)


def replication_note(slots: NDArray[np.int64]) -> tuple[str, ...]:
    """Return what people must know of a map: nothing, if every expert has the slot of its number.

    The recorder keeps the last map only.
    """
    if (slots == np.arange(slots.shape[1])).all():
        return ()
    return (_LAST_MAP,)


def passes_of(file: Path, content: Mapping[str, Any]) -> tuple[list[RecordedPass], tuple[str, ...]]:
    """Return the passes of a `per_token` recording, slots turned into experts, and notes.

    Every run of prefill tokens (`extend_seq_lens`) is a request, a later chunk of a long one too;
    which request a decode token belongs to is not recorded.

    Raises TraceError: a field has another shape than the tokens.
    """
    slots = logical_of_slot(file, content)
    passes = []
    num_requests = 0
    for number, record in enumerate(content["records"]):
        where = f"record {number}"
        ids = _ids(file, where, record["topk_ids_of_layer"], slots)
        num_tokens = ids.shape[1]
        request = None
        lengths = _prefill_lengths(file, where, record)
        if lengths is not None and lengths.sum() == num_tokens:
            request = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths) + num_requests
            request = request.astype(np.int32)
            num_requests += len(lengths)
        passes.append(
            RecordedPass(
                where=where,
                experts=ids,
                request=request,
                position=_per_token(file, where, record, "positions", num_tokens),
                token_id=_per_token(file, where, record, "input_ids", num_tokens),
                step=pass_number(
                    f"{file}: {where}: forward_pass_id", record.get("forward_pass_id", number)
                ),
            )
        )
    return passes, () if slots is None else replication_note(slots)


def _prefill_lengths(file: Path, where: str, record: Mapping[str, Any]) -> NDArray[Any] | None:
    found = record.get("extend_seq_lens")
    if found is None:
        return None
    lengths = whole_numbers(f"{file}: {where}: extend_seq_lens", found)
    if lengths.ndim != 1 or (lengths < 0).any():
        raise TraceError(f"{file}: {where}: extend_seq_lens must be lengths, found {found}")
    return lengths


def _ids(file: Path, where: str, found: Any, slots: NDArray[np.int64] | None) -> NDArray[Any]:
    told = f"{file}: {where}: topk_ids_of_layer"
    ids = whole_numbers(told, found)
    if ids.ndim != _NUM_AXES:
        raise TraceError(f"{told} must be [num_layers, num_tokens, top_k], found {list(ids.shape)}")
    if slots is None:
        return ids
    if len(slots) != len(ids) or (ids.size and ids.max() >= slots.shape[1]):
        raise TraceError(
            f"{file}: {where}: {MAP} of {slots.shape[0]} layers and {slots.shape[1]} slots does "
            f"not fit ids of {len(ids)} layers up to {ids.max()}",
            hint="Record with --disable-shared-experts-fusion: fused experts are beyond the map.",
        )
    layers = np.arange(len(ids))[:, np.newaxis, np.newaxis]
    logical: NDArray[Any] = np.where(ids < 0, ids, slots[layers, np.maximum(ids, 0)])
    return logical


def _per_token(
    file: Path, where: str, record: Mapping[str, Any], name: str, num_tokens: int
) -> NDArray[np.int32] | None:
    found = record.get(name)
    if found is None:
        return None
    told = f"{file}: {where}: {name}"
    values = whole_numbers(told, found)
    if values.shape != (num_tokens,):
        raise TraceError(f"{told} must have {num_tokens} whole numbers, found {list(values.shape)}")
    return as_int32(told, values)
