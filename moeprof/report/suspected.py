"""Rows in doubt, as people and programs read them: which they are, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.csv as pa_csv

from moeprof.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from moeprof.cost.suspect import Suspect

KEYS: Final = (
    *("point_id", "run_id", "device_name", "engine", "engine_version", "kernel", "weight_dtype"),
    *("activation_dtype", "hidden_size", "expert_size", "num_experts", "top_k", "ep_size"),
    *("tp_size", "batch_size", "routing_pattern"),
)
_NUM_EXAMPLES: Final = 3
_NUM_DOCUMENTS: Final = 1000


def suspect_documents(table: pa.Table, found: Sequence[Suspect]) -> list[dict[str, Any]]:
    """Return the rows in most doubt as plain JSON values, at most 1000, the gravest first.

    `table` has the rows that the suspects are places in.
    """
    worst = _gravest(found)[:_NUM_DOCUMENTS]
    keys = table.select(KEYS).take(pa.array([each.row for each in worst], pa.int64())).to_pylist()
    return [
        key | {"reason": each.reason.value, "detail": each.detail, "weight": each.weight_fraction}
        for key, each in zip(keys, worst, strict=True)
    ]


def write_suspects(table: pa.Table, found: Sequence[Suspect], file: Path) -> None:
    """Write all rows in doubt as CSV, in the order of the dataset.

    Raises:
        UsageError: the file cannot be written.

    """
    rows = table.select(KEYS).take(pa.array([each.row for each in found], pa.int64()))
    for name, values in (
        ("reason", [each.reason.value for each in found]),
        ("detail", [each.detail for each in found]),
        ("weight_fraction", [each.weight_fraction for each in found]),
    ):
        kind = pa.float64() if name == "weight_fraction" else pa.string()
        rows = rows.append_column(name, pa.array(values, kind))
    try:
        pa_csv.write_csv(rows, file)
    except OSError as error:
        raise UsageError(
            f"--suspects {file}: cannot be written: {error.strerror or error}",
            hint="Give a file in a folder that exists and can be written to.",
        ) from error


def suspect_lines(table: pa.Table, found: Sequence[Suspect]) -> Iterator[str]:
    """Return how many rows are in doubt for each reason, with the gravest of each."""
    num_rows = len({each.row for each in found})
    yield f"rows in doubt: {num_rows:,} of {table.num_rows:,}; none was left out"
    if found:
        yield "  they count for less in the fit of what is in doubt, latency or power"
    for reason, number in Counter(each.reason for each in found).most_common():
        yield f"  {number:,} x {reason.value}"
        worst = _gravest([each for each in found if each.reason is reason])[:_NUM_EXAMPLES]
        index = pa.array([each.row for each in worst], pa.int64())
        for each, key in zip(worst, table.select(KEYS).take(index).to_pylist(), strict=True):
            yield f"    {_words(key)}: {each.detail}"


def _gravest(found: Sequence[Suspect]) -> list[Suspect]:
    return sorted(found, key=lambda each: (each.weight_fraction, each.row, each.reason))


def _words(key: dict[str, Any]) -> str:
    return (
        f"{key['kernel']} {key['weight_dtype']} d={key['hidden_size']} f={key['expert_size']} "
        f"E={key['num_experts']} k={key['top_k']} ep={key['ep_size'] or 1} "
        f"tp={key['tp_size'] or 1} B={key['batch_size']} {key['routing_pattern'] or ''}".rstrip()
    )
