"""Requests in a file of JSON lines: responses of vLLM's server, or objects with their fields."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from moeprof.errors import TraceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_EXPERTS = "routed_experts"
_PROMPT = "prompt_routed_experts"


def requests_in_lines(
    file: Path,
) -> Iterator[tuple[str, NDArray[Any], NDArray[np.int32] | None, int]]:
    """Yield of each request where it is, its experts, its token ids, and its first position.

    Experts are nested lists, or a .npy file in base64, as the server writes it. Of a response with
    several choices each is a request. Where the ids of all tokens are told (`prompt_token_ids` and
    `token_ids`) and more of them than tokens with experts, the tokens missing are the first ones,
    which a prefix cache held, and the very last one, which is never run.

    Raises TraceError: a line is no such object.
    """
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield from _requests_in_line(f"{file}: line {number}", number, line)
    except OSError as error:
        raise TraceError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{file}: must be JSON lines in UTF-8, found: {error}") from error


def _requests_in_line(
    where: str, number: int, line: str
) -> Iterator[tuple[str, NDArray[Any], NDArray[np.int32] | None, int]]:
    try:
        response = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{where}: must be JSON, found: {error}") from error
    answers = response.get("choices", [response]) if isinstance(response, dict) else None
    if not isinstance(answers, list) or not all(isinstance(each, dict) for each in answers):
        raise TraceError(f"{where}: must be an object with {_EXPERTS}, or with choices that have")
    for index, answer in enumerate(answers):
        if answer.get(_EXPERTS) is None:
            found = ", ".join(answer) or "nothing"
            raise TraceError(
                f"{where}: choice {index} has no {_EXPERTS}, found {found}",
                hint="Start vLLM with --enable-return-routed-experts.",
            )
        experts = _array(f"{where}: {_EXPERTS}", answer[_EXPERTS])
        if response.get(_PROMPT) is not None:
            prompt = _array(f"{where}: {_PROMPT}", response[_PROMPT])
            if prompt.shape[1:] != experts.shape[1:]:
                raise TraceError(
                    f"{where}: {_PROMPT} of shape {list(prompt.shape)} does not go with "
                    f"{_EXPERTS} of shape {list(experts.shape)}"
                )
            experts = np.concatenate([prompt, experts])
        token_ids, start = _token_ids(where, response, answer, len(experts))
        yield f"line {number}", experts, token_ids, start


def _token_ids(
    where: str, response: Mapping[str, Any], answer: Mapping[str, Any], num_tokens: int
) -> tuple[NDArray[np.int32] | None, int]:
    prompt = answer.get("prompt_token_ids", response.get("prompt_token_ids"))
    generated = answer.get("token_ids")
    if prompt is None or generated is None:
        return None, 0
    try:
        token_ids = np.array([*prompt, *generated], dtype=np.int32)
    except (TypeError, ValueError, OverflowError) as error:
        raise TraceError(
            f"{where}: prompt_token_ids and token_ids must be lists of whole numbers: {error}"
        ) from error
    if num_tokens > len(token_ids):
        raise TraceError(f"{where}: has experts of {num_tokens} tokens and ids of {len(token_ids)}")
    start = max(0, len(token_ids) - 1 - num_tokens)
    return token_ids[start : start + num_tokens], start


def _array(where: str, found: Any) -> NDArray[Any]:
    told = f"{where} must be nested lists of one shape, or a .npy file in base64"
    try:
        if isinstance(found, str):
            content = base64.b64decode(found, validate=True)
            array = np.load(io.BytesIO(content), allow_pickle=False)
        else:
            array = np.array(found)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TraceError(f"{told}: {error}") from error
    if not isinstance(array, np.ndarray) or not array.ndim:
        raise TraceError(f"{told}, found {found!r:.60}")
    return array
