"""Batch sizes as people write them: a number, a range such as `"1..64"`, or a list of both."""

from __future__ import annotations

import re

# Far beyond any decode batch; more would be a slip of the finger that fills the memory.
NUM_TOKENS_MAX = 131_072
_RANGE = re.compile(r"\s*(\d+)\s*\.\.\s*(\d+)\s*")
_NUMBER = re.compile(r"\s*\d+\s*")


def expand(written: object) -> tuple[int, ...]:
    """Return the batch sizes in ascending order, each once.

    Raises ValueError, in words fit for a user, for anything that is not a batch size.
    """
    parts = written if isinstance(written, list | tuple) else [written]
    sizes = {size for part in parts for size in _expand_one(part)}
    if not sizes:
        raise ValueError("must name at least one batch size, got an empty list")
    return tuple(sorted(sizes))


def _expand_one(part: object) -> range:
    match part:
        case bool():
            pass
        case int() as size:
            return _checked(size, size, part)
        case str() as text if _NUMBER.fullmatch(text):
            return _checked(int(text), int(text), part)
        case str() as text if found := _RANGE.fullmatch(text):
            return _checked(int(found[1]), int(found[2]), part)
    raise ValueError(f'must be a number, a range such as "1..64" or a list of both, got {part!r}')


def _checked(first: int, last: int, written: object) -> range:
    if first < 1:
        raise ValueError(f"must be at least 1, got {written!r}")
    if last > NUM_TOKENS_MAX:
        raise ValueError(f"must be at most {NUM_TOKENS_MAX}, got {written!r}")
    if last < first:
        raise ValueError(f"must be a range from low to high, got {written!r}")
    return range(first, last + 1)
