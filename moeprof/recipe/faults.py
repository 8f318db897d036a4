"""A validation fault of a recipe in one sentence: the key, what was found, what would be right."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from moeprof.recipe.schema import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_TYPE_WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a section (a TOML table)",
}
_BOUND_WORDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def describe(error: ValidationError, root: type[BaseModel] = Recipe) -> str:
    """Return the first fault of a document of kind `root` in words, and the number of others."""
    # A misspelt key also leaves the right one missing: the misspelling is what to mend.
    details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    sentence = _sentence(details[0], root)
    if len(details) > 1:
        sentence += f" (and {len(details) - 1} more)"
    return sentence


def _sentence(  # noqa: PLR0911 - one answer for each kind of fault
    detail: ErrorDetails, root: type[BaseModel]
) -> str:
    key = _dotted(detail["loc"])
    found = detail["input"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"{key}: there is no such key; {_nearest(detail['loc'], root)}"
        case "missing":
            return f"{key}: is missing; it has no default"
        case "literal_error":
            near = get_close_matches(str(found), re.findall(r"'([^']+)'", context["expected"]), n=1)
            ending = f"; did you mean {near[0]!r}?" if near else ""
            return f"{key}: must be {context['expected']}, got {found!r}{ending}"
        case "value_error":
            where = f"{key}: " if key else ""
            return f"{where}{context['error']}"
        case "too_short" | "string_too_short":
            return f"{key}: must not be empty"
        case "finite_number":
            return f"{key}: must be a finite number, got {found!r}"
        case kind if kind in _TYPE_WORDS:
            return f"{key}: must be {_TYPE_WORDS[kind]}, got {found!r}"
        case kind if kind in _BOUND_WORDS:
            bound, words = _BOUND_WORDS[kind]
            return f"{key}: must be {words} {context[bound]:g}, got {found!r}"
        case _:
            return f"{key}: {detail['msg']}, got {found!r}"


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _nearest(location: tuple[int | str, ...], root: type[BaseModel]) -> str:
    section = _section_at(location[:-1], root)
    keys = sorted(section.model_fields)
    near = get_close_matches(str(location[-1]), keys, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    elsewhere = [
        path.removeprefix(".") for path in _all_keys(root, "") if path.endswith(f".{location[-1]}")
    ]
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    return f"the keys here are {', '.join(keys)}"


def _section_at(location: tuple[int | str, ...], root: type[BaseModel]) -> type[BaseModel]:
    section = root
    for part in location:
        if isinstance(part, str):
            section = next(_sections_in(section.model_fields[part].annotation))
    return section


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument)


def _all_keys(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for key, field in section.model_fields.items():
        yield f"{prefix}.{key}"
        for inner in _sections_in(field.annotation):
            yield from _all_keys(inner, f"{prefix}.{key}")
