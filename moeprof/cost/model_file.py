"""A cost model kept in one JSON file, which loading checks in full and never executes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from pydantic_core import from_json

from moeprof.cost.model_document import document_of, model_of
from moeprof.cost.model_schema import FORMAT, FORMAT_VERSION, ModelDocument
from moeprof.dataset.files import replace_file
from moeprof.errors import ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from moeprof.cost.model import CostModel

_MOST_BYTES: Final = 64 * 2**20  # the model of a million rows is far smaller
_SHOWN_CHARACTERS: Final = 60
_NESTED: Final = 5  # levels that are written a line for each element
_AGAIN: Final = "Fit the model again (moeprof fit-cost), or take an undamaged copy of the file."


def save_model(model: CostModel, path: Path) -> None:
    """Write a model; whoever opens the file, at any time, sees the old or the new one whole.

    A model that was saved and loaded predicts the same, bit for bit: all digits are kept.

    Raises:
        ModelFileError: the file cannot be written, or a number of the model is not finite.

    """
    try:
        document = document_of(model).model_dump()
    except ValidationError as error:
        raise ModelFileError(
            f"{path}: this model cannot be kept: {_fault(error)}",
            hint="A fit gave numbers that no file may hold: report this, with the data.",
        ) from error
    try:
        replace_file(path, f"{_text(document, _NESTED, '')}\n".encode())
    except OSError as error:
        raise ModelFileError(
            f"{path}: cannot be written: {error.strerror}",
            hint="Give a file in a folder that exists and can be written to.",
        ) from error


def load_model(path: Path) -> CostModel:
    """Return the model in a file, every value of which was checked.

    Raises:
        ModelFileError: the file cannot be read, is no model, is damaged, or is of a newer format
            or of terms that this version of moeprof does not know; the message has the place.

    """
    found = _parsed(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ModelFileError(
            f'{path}: is no cost model: it must be an object with "format": "{FORMAT}"',
            hint="Give a file that moeprof fit-cost wrote.",
        )
    version = found.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: format_version must be at most {FORMAT_VERSION} for this version of "
            f"moeprof, got {_shown(version)}",
            hint="The file is of a newer moeprof: upgrade moeprof, or fit the model again.",
        )
    try:
        document = ModelDocument.model_validate(found)
    except ValidationError as error:
        raise ModelFileError(f"{path}: {_fault(error)}", hint=_AGAIN) from error
    return model_of(document)


def _parsed(path: Path) -> Any:
    try:
        if path.exists() and not path.is_file():
            raise ModelFileError(f"{path}: must be a file", hint="Give a model file, not a folder.")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ModelFileError(
            f"{path}: cannot be read: {error.strerror}",
            hint="Give the path of a model that moeprof fit-cost wrote.",
        ) from error
    if len(data) > _MOST_BYTES:
        raise ModelFileError(
            f"{path}: must have at most {_MOST_BYTES} bytes, and has more",
            hint="Give a file that moeprof fit-cost wrote.",
        )
    try:
        # Nesting is limited by the parser, and NaN and Infinity, which JSON has not, are refused.
        return from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise ModelFileError(f"{path}: is not JSON: {error}", hint=_AGAIN) from error


def _fault(error: ValidationError) -> str:
    """Return the first fault in words: where, what would be right, what was found."""
    # A misspelt key also leaves the right one missing: the misspelling is what to mend.
    details = error.errors(include_url=False)
    details.sort(key=lambda detail: detail["type"] != "extra_forbidden")
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{_sentence(details[0])}{more}"


def _sentence(detail: ErrorDetails) -> str:
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in detail["loc"]
    ).removeprefix(".")
    where = f"{place}: " if place else ""
    match detail["type"]:
        case "extra_forbidden":
            return f"{where}there is no such key"
        case "missing":
            return f"{where}is missing"
        case "value_error":
            return f"{where}{detail['ctx']['error']}"
        case _:
            _, _, right = detail["msg"].rpartition(" should ")
            return f"{where}must {right}, got {_shown(detail['input'])}"


def _shown(found: object) -> str:
    """Return a value as text, cut short: a hostile file may hold long ones."""
    if isinstance(found, str):
        text = found if found.isidentifier() else repr(found[: _SHOWN_CHARACTERS + 1])
    elif isinstance(found, int | float | bool) or found is None:
        text = hex(found) if isinstance(found, int) and abs(found) >= 2**64 else repr(found)
    else:
        text = {"dict": "an object", "list": "a list"}.get(type(found).__name__, "another type")
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _text(value: object, num_levels: int, indent: str) -> str:
    """Return a value as JSON; the outer levels have a line for each element, to be readable."""
    inner = f"{indent} "
    if num_levels and isinstance(value, dict) and value:
        rows = [
            f"{inner}{json.dumps(key)}: {_text(each, num_levels - 1, inner)}"
            for key, each in value.items()
        ]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if num_levels and isinstance(value, list) and any(isinstance(e, list | dict) for e in value):
        rows = [f"{inner}{_text(each, 0, inner)}" for each in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
