"""An earlier result of route-eval, as its JSON has it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moeprof.errors import InputError
from moeprof.evaluation.judge.student import Estimated

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The document of an earlier run, and where it is."""

    path: Path
    document: dict[str, Any]

    def figure(self, scene: str, policy: str, metric: str) -> Estimated:
        """Return a metric as it was, with bounds where they were stored.

        Raises InputError: the result lacks the scene, the policy, or a number for the metric.
        """
        found: Any = self.document["scenes"]
        walked = []
        head, _, leaf = metric.partition(".")
        for key in (scene, "routers", policy, head, *([leaf] if leaf else [])):
            walked.append(key)
            if not isinstance(found, dict) or key not in found:
                raise InputError(
                    f"{self.path}: has no scenes.{'.'.join(walked)}, which a gate compares with",
                    hint="Store a new result with the scenes and routers that the gates name.",
                )
            parent, found = found, found[key]
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise InputError(
                f"{self.path}: scenes.{'.'.join(walked)}: must be a number, got {found!r}"
            )
        bounds = parent if leaf == "mean" else {}
        return Estimated(float(found), bounds.get("low"), bounds.get("high"))


def read_stored(path: Path) -> StoredResult:
    """Read an earlier result.

    Raises InputError: the file cannot be read, is not JSON, or not route-eval's.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: is not a JSON document: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("scenes"), dict):
        raise InputError(
            f"{path}: must be a result of route-eval, an object with scenes",
            hint="moeprof route-eval --json > result.json writes one.",
        )
    return StoredResult(path, document)
