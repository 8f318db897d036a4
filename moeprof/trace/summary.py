"""What a trace holds, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from moeprof.trace.schema import IS_DUMMY, LOGITS, POSITION, REQUEST, STEP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moeprof.trace.counts import ExpertCounts
    from moeprof.trace.metadata import TraceMetadata
    from moeprof.trace.reader import Trace

BATCH_SIZE: Final = 16  # of the decode step that active experts are told for


@dataclass(frozen=True, slots=True)
class MostUsed:
    """The expert that most tokens use in one layer; `fraction` of all tokens do."""

    layer: int
    expert: int
    fraction: float


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """A trace, or expert counts, told in numbers; shares are of what is no dummy.

    `active_experts_fraction`, of all experts of a layer, is a mean over steps and layers; None
    where no step could be told. The steps are those of the engine, or, in a recording of texts,
    what decoding `step_tokens` requests at once would be: the tokens at one position of that many
    neighbouring requests.
    """

    metadata: TraceMetadata
    num_tokens: int
    """For counts, the tokens of all steps."""
    num_dummy_tokens: int
    num_requests: int | None
    has_logits: bool
    num_steps: int
    step_tokens: int | None
    """None: steps are the engine's, of as many tokens as it ran."""
    active_experts_fraction: float | None
    most_used: MostUsed | None
    """None: every token is a dummy."""
    num_unused_experts: int
    """Pairs of layer and expert that no token uses."""


def summary_of(trace: Trace) -> TraceSummary:
    """Return the summary of a trace, which it reads layer by layer.

    Raises TraceError: the file is damaged.
    """
    metadata = trace.metadata
    first = trace.read_layer(metadata.layers[0], (IS_DUMMY, REQUEST, POSITION, STEP))
    is_dummy = first.is_dummy
    assert is_dummy is not None
    step, step_tokens = _steps(first.request, first.position, first.step, is_dummy)
    num_steps = int(step.max(initial=-1)) + 1
    used = np.zeros((len(metadata.layers), metadata.num_experts), dtype=np.int64)
    num_active = 0
    for index, layer in enumerate(metadata.layers):
        experts = trace.read_layer(layer).experts
        assert experts is not None
        used[index] = np.bincount(experts[~is_dummy].ravel(), minlength=metadata.num_experts)
        in_step = step[:, np.newaxis] * metadata.num_experts + experts
        num_active += len(np.unique(in_step[step >= 0]))
    return TraceSummary(
        metadata=metadata,
        num_tokens=trace.num_tokens,
        num_dummy_tokens=int(is_dummy.sum()),
        num_requests=None if first.request is None else len(np.unique(first.request)),
        has_logits=LOGITS in trace.columns,
        num_steps=num_steps,
        step_tokens=step_tokens,
        active_experts_fraction=_fraction(num_active, num_steps, used),
        most_used=_most_used(used, metadata, int((~is_dummy).sum())),
        num_unused_experts=int((used == 0).sum()),
    )


def summary_of_counts(counts: ExpertCounts) -> TraceSummary:
    """Return the summary of expert counts."""
    rows = counts.rows[~counts.is_dummy]
    tokens = counts.rows.sum(axis=2).max(axis=1) // counts.metadata.top_k
    used = rows.sum(axis=0, dtype=np.int64)
    return TraceSummary(
        metadata=counts.metadata,
        num_tokens=int(tokens.sum()),
        num_dummy_tokens=int(tokens[counts.is_dummy].sum()),
        num_requests=None,
        has_logits=False,
        num_steps=len(rows),
        step_tokens=None,
        active_experts_fraction=_fraction(int((rows > 0).sum()), len(rows), used),
        most_used=_most_used(used, counts.metadata, int(tokens[~counts.is_dummy].sum())),
        num_unused_experts=int((used == 0).sum()),
    )


def _steps(
    request: NDArray[np.int32] | None,
    position: NDArray[np.int32] | None,
    step: NDArray[np.int32] | None,
    is_dummy: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], int | None]:
    """Return the step of each token, from 0, negative for none, and the tokens of a step."""
    numbers = np.full(len(is_dummy), -1, dtype=np.int64)
    if step is not None:
        numbers[~is_dummy] = np.unique(step[~is_dummy], return_inverse=True)[1]
        return numbers, None
    if request is None or position is None or is_dummy.all():
        return numbers, None
    order = np.unique(request[~is_dummy], return_inverse=True)[1]
    num_requests = int(order.max()) + 1
    size = min(BATCH_SIZE, num_requests)
    pairs = np.stack([order // size, position[~is_dummy].astype(np.int64)])
    group, num_in_group = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)[1:]
    whole = num_in_group == size
    number_of = np.where(whole, np.cumsum(whole) - 1, -1)
    numbers[~is_dummy] = number_of[group.ravel()]
    return numbers, size


def _most_used(
    used: NDArray[np.int64], metadata: TraceMetadata, num_tokens: int
) -> MostUsed | None:
    if not num_tokens:
        return None
    layer, expert = np.unravel_index(int(used.argmax()), used.shape)
    return MostUsed(metadata.layers[layer], int(expert), float(used.max()) / num_tokens)


def _fraction(num_active: int, num_steps: int, used: NDArray[np.int64]) -> float | None:
    return num_active / (num_steps * used.size) if num_steps else None
