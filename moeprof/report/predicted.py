"""What the predict command shows: a step per line with its time, energy and power."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from rich.table import Table

from moeprof.cost import predict
from moeprof.cost.layer_points import points_of_layer
from moeprof.cost.model_file import load_model
from moeprof.cost.points_file import check_out, read_points, write_points
from moeprof.errors import ExitCode, UsageError
from moeprof.report import human
from moeprof.report.consoles import console_on, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from moeprof.cost.layer_points import LayerRequest
    from moeprof.cost.model import CostModel

_NUM_SHOWN = 40
_WIDEST = 16  # characters of a name: figures are never cut
# What tells steps apart; what all have in common is the title.
_NAMES = ("model", "device_kind", "kernel", "weight_dtype", "routing_pattern")
_SIZES = ("hidden_size", "expert_size", "num_experts", "top_k", "ep_size", "tp_size")


def show_points(model: Path, points: Path | None, *, out: Path | None, as_json: bool) -> ExitCode:
    """Predict the points in a file or dataset, and write or print them."""
    if points is None:
        raise UsageError(
            "one of --points and --layer must be given",
            hint="Give --points FILE, or --layer mixtral-8x7b.",
        )
    _check(out)
    return _show(load_model(model), read_points(points), (), out=out, as_json=as_json)


def show_layer(
    model: Path, request: LayerRequest, *, points: Path | None, out: Path | None, as_json: bool
) -> ExitCode:
    """Predict a layer of the catalogue over batch sizes, and write or print it."""
    if points is not None:
        raise UsageError("only one of --points and --layer can be given, got both")
    _check(out)
    loaded = load_model(model)
    asked = points_of_layer(loaded, request)
    return _show(loaded, asked.table, asked.notes, out=out, as_json=as_json)


def _check(out: Path | None) -> None:
    if out is not None:
        check_out(out)


def _show(
    model: CostModel, points: pa.Table, notes: Sequence[str], *, out: Path | None, as_json: bool
) -> ExitCode:
    found = predict.predicted_table(model, points)
    if out is not None:
        write_points(found, out)
    if as_json:
        print_json(_document(found, notes, out))
        return ExitCode.DONE
    console = console_on(sys.stdout)
    for note in notes:
        console.print(note, soft_wrap=True)
    if out is None:
        console.print(steps_table(found))
        if (num_more := found.num_rows - _NUM_SHOWN) > 0:
            console.print(f"… and {num_more:,} more rows: --out FILE, or --json", soft_wrap=True)
    else:
        num_far = sum(found[predict.EXTRAPOLATING].to_pylist())
        far = f", {num_far:,} of them outside of what was measured" if num_far else ""
        console.print(f"{found.num_rows:,} points predicted{far}: {out}", soft_wrap=True)
    return ExitCode.DONE


def steps_table(found: pa.Table) -> Table:
    """Return the table of predicted steps, at most the first forty."""
    present = [name for name in _NAMES if name in found.column_names]
    same = [name for name in present if len(found[name].unique()) == 1]
    differing = [name for name in present if name not in same]
    layers = any(len(found[name].unique()) > 1 for name in _SIZES if name in found.column_names)
    words = [str(found[name][0]) for name in same if found[name][0].is_valid]
    title = "  ·  ".join(words)
    table = Table(title=title or None, title_justify="left", title_style="bold")
    for name in differing:
        table.add_column(
            name.replace("_", " "), overflow="ellipsis", no_wrap=True, max_width=_WIDEST
        )
    if layers:
        table.add_column("layer", no_wrap=True)
    has_power = found[predict.POWER].null_count < found.num_rows
    power = ("energy", "90 %", "power") if has_power else ()
    for name in ("tokens", "active experts", "time", "90 %", *power):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("extrapolating")
    for row in found.slice(0, _NUM_SHOWN).to_pylist():
        words = [str(row[name] or human.ABSENT) for name in differing]
        table.add_row(*words, *([_layer(row)] if layers else []), *_cells(row, has_power=has_power))
    return table


def _layer(row: dict[str, Any]) -> str:
    """Return a layer as `4096 x 14336, 2 of 8, EP 4, TP 2`."""
    words = f"{row['hidden_size']} x {row['expert_size']}, {row['top_k']} of {row['num_experts']}"
    ranks = (("EP", row.get("ep_size")), ("TP", row.get("tp_size")))
    return ", ".join([words, *(f"{name} {size}" for name, size in ranks if size and size > 1)])


def _cells(row: dict[str, Any], *, has_power: bool) -> Iterator[str]:
    yield f"{row['batch_size']:,}"
    yield human.three_digits(row[predict.ACTIVE])
    yield human.seconds(row[predict.LATENCY])
    yield _interval(row, predict.LATENCY, 1e-6, "µs")
    if has_power:
        yield human.joules(row[predict.ENERGY])
        yield _interval(row, predict.ENERGY, 1e-3, "mJ")
        yield human.watts(row[predict.POWER])
    yield "yes" if row[predict.EXTRAPOLATING] else ""


def _interval(row: dict[str, Any], name: str, unit: float, symbol: str) -> str:
    low, high = (human.three_digits(row[f"{name}_{end}"] / unit) for end in ("low", "high"))
    return f"[{low}, {high}] {symbol}"


def _document(found: pa.Table, notes: Sequence[str], out: Path | None) -> dict[str, Any]:
    """Return all that was predicted, or where it was written; JSON has no NaN, so that is null."""
    about = {"num_points": found.num_rows, "notes": list(notes)}
    if out is not None:
        return {**about, "out": str(out)}
    wanted = ("batch_size", *_NAMES, *_SIZES, "die_celsius")
    added = found.column_names[found.column_names.index(predict.ACTIVE) :]
    names = [name for name in (*wanted, *added) if name in found.column_names]
    rows = found.select(names).to_pylist()
    return {**about, "points": [{key: _plain(each) for key, each in row.items()} for row in rows]}


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
