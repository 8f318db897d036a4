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
    "dict_type": "a table",
    "model_type": "a section (a TOML table)",
}
_BOUND_WORDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
# What pydantic puts into a fault's location for the branch of a union; no key is called so.
_BRANCH = re.compile(r"(constrained-)?(float|int|str|bool)|(tuple|list|dict|literal)\[.*\]")


def describe(error: ValidationError, root: type[BaseModel] = Recipe) -> str:
    """Return the first fault of a document of kind `root` in words, and the number of others."""
    faults = _by_key(error.errors())
    # A misspelt key also leaves the right one missing: the misspelling is what to mend.
    faults.sort(key=lambda details: details[0]["type"] != "extra_forbidden")
    sentence = _sentence(faults[0], root)
    if len(faults) > 1:
        sentence += f" (and {len(faults) - 1} more)"
    return sentence


def _by_key(details: list[ErrorDetails]) -> list[list[ErrorDetails]]:
    """Return the faults, each with all that was found of its key: one detail per union branch."""
    by_key: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for detail in details:
        by_key.setdefault(_keys(detail), []).append(detail)
    # A wrong element also makes its list no number, and too short without it.
    deeper = {key[:end] for key in by_key for end in range(len(key))}
    return [
        found
        for key, found in by_key.items()
        if key not in deeper or not all(_is_of_type(each) or _is_short(each) for each in found)
    ]


def _is_of_type(detail: ErrorDetails) -> bool:
    return detail["type"] in _TYPE_WORDS


def _is_short(detail: ErrorDetails) -> bool:
    return detail["type"] == "too_short"


def _keys(detail: ErrorDetails) -> tuple[int | str, ...]:
    """Return the location of a fault without the branches of unions in it."""
    parts = detail["loc"]
    # An unknown key, the last part, may be called anything.
    num_kept = len(parts) - 1 if detail["type"] == "extra_forbidden" else len(parts)
    known = (part for part in parts[:num_kept] if not _BRANCH.fullmatch(str(part)))
    return (*known, *parts[num_kept:])


def _sentence(  # noqa: PLR0911 - one answer for each kind of fault
    details: list[ErrorDetails], root: type[BaseModel]
) -> str:
    # The branch that took the value's type knows best what is wrong with it.
    detail = next((each for each in details if not _is_of_type(each)), details[0])
    location = _keys(detail)
    key = _dotted(location)
    found = detail["input"]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"{key}: there is no such key; {_nearest(location, root)}"
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
            return f"{key}: must be {_type_words(details)}, got {found!r}"
        case kind if kind in _BOUND_WORDS:
            bound, words = _BOUND_WORDS[kind]
            return f"{key}: must be {words} {context[bound]:g}, got {found!r}"
        case _:
            return f"{key}: {detail['msg']}, got {found!r}"


def _type_words(details: list[ErrorDetails]) -> str:
    """Return what a value may be, after one fault for each type that it is not."""
    words = dict.fromkeys(_TYPE_WORDS[detail["type"]] for detail in details)
    if "a number" in words:  # a whole one is one
        words.pop("a whole number", None)
    *before, last = words
    return f"{', '.join(before)} or {last}" if before else last


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
