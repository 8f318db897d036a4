"""The TOML file that says which column of a foreign CSV is which of ours."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moeprof.errors import InputError
from moeprof.resources import data_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXTS: Final = (
    *("model", "device_name", "kernel", "engine", "engine_version", "weight_dtype"),
    *("activation_dtype", "placement", "routing_pattern", "l2_state"),
)
WHOLE: Final = (
    *("hidden_size", "expert_size", "num_experts", "top_k", "batch_size", "ep_size", "tp_size"),
    *("num_projections", "num_active_experts", "num_rows", "max_rows_per_expert", "num_samples"),
    *("num_launches", "routing_seed"),
)
REALS: Final = (
    *("latency_seconds", "latency_seconds_p10", "latency_seconds_p90", "latency_seconds_p99"),
    *("latency_seconds_ci_low", "latency_seconds_ci_high", "confidence"),
    *("energy_joules", "average_watts", "idle_watts", "power_limit_watts"),
    *("hold_celsius", "die_celsius", "memory_celsius", "sm_clock_hertz", "memory_clock_hertz"),
    "throttled_fraction",
)
# Figures that some sources give in place of a count.
RELATIVE: Final = ("active_experts_fraction", "max_rows_over_mean")
TARGETS: Final = (*TEXTS, *WHOLE, *REALS, *RELATIVE)
NEEDED: Final = (
    *("device_name", "kernel", "hidden_size", "expert_size", "num_experts", "top_k"),
    *("weight_dtype", "batch_size", "latency_seconds"),
)
UNITS: Final[dict[str, tuple[str, float]]] = {
    "s": ("seconds", 1.0),
    "ms": ("seconds", 1e-3),
    "us": ("seconds", 1e-6),
    "ns": ("seconds", 1e-9),
    "J": ("joules", 1.0),
    "mJ": ("joules", 1e-3),
    "W": ("watts", 1.0),
    "mW": ("watts", 1e-3),
    "Hz": ("hertz", 1.0),
    "MHz": ("hertz", 1e6),
    "GHz": ("hertz", 1e9),
    "degC": ("celsius", 1.0),
    "percent": ("fraction", 1e-2),
}

_Value = str | int | float


class CsvMap(BaseModel):
    """One map: our column to theirs, or to several that are added up; and what they leave out.

    `constants` hold for every row, `units` are those of the CSV where not SI base units, `values`
    say for a column what each of its texts means.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str = ""
    source: str = ""
    columns: dict[str, str | Annotated[list[str], Field(min_length=1)]]
    constants: dict[str, _Value] = Field(default_factory=dict)
    units: dict[str, str] = Field(default_factory=dict)
    values: dict[str, dict[str, _Value]] = Field(default_factory=dict)


def maps_folder() -> Path:
    """Return the folder of the maps that ship with moeprof."""
    return data_folder() / "maps"


def load_map(name: str, constants: Mapping[str, str]) -> CsvMap:
    """Return a map by its path ending in .toml or the name of a shipped one, with `constants` set.

    `constants` go above the map's own; their values are texts as typed.

    Raises:
        InputError: there is no such map, it is no TOML, or a key, column or unit in it is unknown.

    """
    path = Path(name) if name.endswith(".toml") else maps_folder() / f"{name}.toml"
    if not path.is_file():
        shipped = sorted(each.stem for each in maps_folder().glob("*.toml"))
        raise InputError(
            f"map {name!r}: there is no file {path.name}",
            hint=f"Give a .toml file, or one that ships: {', '.join(shipped)}.",
        )
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as TOML: {error}") from error
    try:
        found = CsvMap(**document)
    except ValidationError as error:
        raise _fault(path, error, document) from error
    found = found.model_copy(update={"constants": {**found.constants, **constants}})
    _check(path, found)
    return found


def _check(path: Path, found: CsvMap) -> None:
    for table in ("columns", "constants", "units", "values"):
        for name in getattr(found, table):
            if name not in TARGETS:
                raise InputError(
                    f"{path}: {table}.{name}: moeprof has no such column{_nearest(name, TARGETS)}",
                    hint=f"The columns are {', '.join(TARGETS)}.",
                )
    for name, unit in found.units.items():
        fits = UNITS.get(unit)
        if fits is None or fits[0] not in name.split("_"):
            right = [each for each, (quantity, _) in UNITS.items() if quantity in name.split("_")]
            raise InputError(
                f"{path}: units.{name}: must be {' or '.join(right) or 'left out'}, got {unit!r}",
                hint="Units are those of the CSV; moeprof converts them.",
            )
    if missing := [
        each for each in NEEDED if each not in found.columns and each not in found.constants
    ]:
        raise InputError(
            f"{path}: says nothing of {', '.join(missing)}",
            hint="Name a column for each under [columns], or a value under [constants] "
            f"or as --set {missing[0]}=VALUE.",
        )


def _fault(path: Path, error: ValidationError, document: Mapping[str, Any]) -> InputError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        tables = tuple(CsvMap.model_fields)
        message = f"{path}: unknown key {where!r}{_nearest(where, tables)}"
        return InputError(message, hint=f"The keys are {', '.join(tables)}.")
    if first["type"] == "missing":
        return InputError(
            f"{path}: must have [{where}], has {', '.join(document) or 'nothing'}",
            hint='Write for each column of ours the CSV\'s: batch_size = "num_tokens".',
        )
    return InputError(f"{path}: {where}: {first['msg']}, got {first['input']!r}")


def _nearest(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
