"""The loss curve on the disk: a line per step, of which a resumed run keeps what it resumes at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from moeprof.dataset import files
from moeprof.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path


class Curve:
    """A JSON Lines file that grows by a line per step."""

    def __init__(self, path: Path, descriptor: int, num_bytes: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.num_bytes = num_bytes
        """Bytes that have been added, those before this process included."""

    @classmethod
    def at(cls, path: Path, num_bytes: int) -> Self:
        """Open a curve, with all behind its first `num_bytes` cut away.

        Raises CheckpointError: it is shorter than that, or cannot be written.
        """
        try:
            if not path.exists():
                files.replace_file(path, b"")
            found = path.stat().st_size
            if found < num_bytes:
                raise CheckpointError(
                    f"{path}: must have at least {num_bytes} bytes, as the checkpoint says, "
                    f"got {found}",
                    hint="Put the file back, or train in another folder.",
                )
            descriptor = files.open_for_appending(path)
            files.cut(descriptor, num_bytes)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error
        return cls(path, descriptor, num_bytes)

    def add(self, row: dict[str, Any]) -> None:
        """Add a line; it is on the disk after the next `sync`. Raises CheckpointError."""
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        try:
            files.write_all(self._descriptor, line)
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be written: {error.strerror}") from error
        self.num_bytes += len(line)

    def sync(self) -> None:
        """Return once every line is on the disk. Raises CheckpointError."""
        try:
            files.sync(self._descriptor)
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Let the file go."""
        files.close(self._descriptor)


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a finished curve. Raises CheckpointError: it is missing or damaged."""
    try:
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged: {error}") from error
