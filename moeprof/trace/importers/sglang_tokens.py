"""What SGLang's recorder kept of every token: its experts, and, of a prefill, its request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from moeprof.errors import TraceError
from moeprof.trace.importers.choices import RecordedPass

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

    Raises TraceError: the map says another number than the one given, or there is neither.
    """
    slots = logical_of_slot(file, content)
    if slots is None and given is None:
        raise TraceError(
            f"{file}: has no {MAP}, so it does not tell how many experts the model has",
            hint="Give --num-experts.",
        )
    if slots is None:
        return given or 0
    found = int(slots.max()) + 1
    if given is not None and given != found:
        raise TraceError(f"{file}: its map is of {found} experts, --num-experts says {given}")
    return found


def logical_of_slot(file: Path, content: Mapping[str, Any]) -> NDArray[np.int64] | None:
    """Return the expert in every slot, [num_layers, num_slots]; None: the file does not say.

    Raises TraceError: the map is no table of whole numbers from 0.
    """
    found = content.get(MAP)
    if found is None:
        return None
    table = torch.as_tensor(found)
    if table.ndim != 2 or table.is_floating_point() or not table.numel() or table.min() < 0:  # noqa: PLR2004
        raise TraceError(
            f"{file}: {MAP} must be [num_layers, num_slots] of experts, found {list(table.shape)} "
            f"of {table.dtype}"
        )
    slots: NDArray[np.int64] = table.numpy().astype(np.int64)
    return slots


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
        lengths = record.get("extend_seq_lens")
        if lengths is not None and sum(lengths) == num_tokens:
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
                step=int(record.get("forward_pass_id", number)),
            )
        )
    return passes, () if slots is None else replication_note(slots)


def _ids(file: Path, where: str, found: Any, slots: NDArray[np.int64] | None) -> NDArray[Any]:
    table = torch.as_tensor(found)
    if table.ndim != _NUM_AXES or table.is_floating_point():
        raise TraceError(
            f"{file}: {where}: topk_ids_of_layer must be [num_layers, num_tokens, top_k] of whole "
            f"numbers, found {list(table.shape)} of {table.dtype}"
        )
    ids: NDArray[Any] = table.numpy()
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
    values = torch.as_tensor(found)
    if values.shape != (num_tokens,) or values.is_floating_point():
        raise TraceError(
            f"{file}: {where}: {name} must have {num_tokens} whole numbers, found "
            f"{list(values.shape)} of {values.dtype}"
        )
    return values.numpy().astype(np.int32)
