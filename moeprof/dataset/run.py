"""The record of one run: what was asked for, by which versions, on which device."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from moeprof.dataset.schema import SCHEMA_VERSION, check_version
from moeprof.device.protocol import DeviceIdentity
from moeprof.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run; everything in it is plain JSON values.

    `recipe_text` is the file as the user wrote it, `recipe` its canonical form, `limits` what the
    device was held to (power, clocks), `notes` what was learnt on the way (warm-up, ceilings,
    sentinel drift).
    """

    run_id: str
    recipe_text: str
    recipe: dict[str, Any]
    seed: int
    versions: dict[str, str]
    device: DeviceIdentity
    limits: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def run_path(folder: Path, run_id: str) -> Path:
    """Return where a run's record is."""
    return folder / f"run-{run_id}.json"


def to_json(run: RunRecord) -> bytes:
    """Return a run's record as the file's content."""
    document = {"schema_version": SCHEMA_VERSION, **asdict(run)}
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def read_run(path: Path) -> RunRecord:
    """Read one run's record.

    Raises:
        DatasetError: the file is unreadable, damaged, or of a newer schema.

    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(document, dict):
        raise _damaged(path, f"must be a JSON object, got {type(document).__name__}")
    check_version(document.pop("schema_version", None), path)
    for name in ("recipe", "versions", "device", "limits", "notes"):
        if not isinstance(document.get(name), dict):
            raise _damaged(path, f"{name} must be a JSON object, got {document.get(name)!r}")
    try:
        return RunRecord(**{**document, "device": DeviceIdentity(**document["device"])})
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: object) -> DatasetError:
    return DatasetError(
        f"{path}: not a run's record: {why}",
        hint="Move it away; the same sweep command writes it anew and keeps the finished points.",
    )
