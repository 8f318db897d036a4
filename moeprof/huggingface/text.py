"""Text as a model's tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moeprof.errors import TextError

if TYPE_CHECKING:
    from collections.abc import Sized
    from pathlib import Path

Encoder = Callable[[str | bytes], list[int]]


def bytes_as_tokens(text: str | bytes) -> list[int]:
    """Return the bytes of a text as token ids, 0..255; of a string, its UTF-8.

    Raises TextError: the text is empty, or has half a surrogate pair, which has no bytes.
    """
    try:
        content = text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise TextError(f"text: has no UTF-8: {error}") from error
    _refuse_empty(content, "text")
    return list(content)


@dataclass(frozen=True, slots=True, eq=False)
class TokenizerEncoder:
    """Encodes with a tokenizer of Transformers, without special tokens."""

    tokenizer: Any
    num_vocabulary: int
    """Token ids that the model knows, from 0."""

    def __call__(self, text: str | bytes) -> list[int]:
        """Return token ids.

        Raises TextError: the text is empty, is not UTF-8, or has tokens that the model does not.
        """
        try:
            content = text.decode() if isinstance(text, bytes) else text
        except UnicodeDecodeError as error:
            raise TextError(
                f"text: must be UTF-8 for this model's tokenizer: {error}",
                hint="Give a text file; only models of bytes read any file.",
            ) from error
        _refuse_empty(content, "text")
        found = self.tokenizer(
            content,
            add_special_tokens=False,
            return_attention_mask=False,
            verbose=False,
        )
        ids: list[int] = found["input_ids"]
        _refuse_empty(ids, "text in tokens")
        if (greatest := max(ids)) >= self.num_vocabulary:
            raise TextError(
                f"text: tokens must lie in 0..{self.num_vocabulary - 1}, as the model's do; its "
                f"tokenizer gave {greatest}",
                hint="The folder's tokenizer is of another model: copy the right one there.",
            )
        return ids


def read_text(path: Path) -> bytes:
    """Return the content of a file.

    Raises TextError: it is missing, cannot be read, or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TextError(
            f"{path}: cannot be read: {error.strerror}", hint="Give a file that exists."
        ) from error
    _refuse_empty(content, str(path))
    return content


def token_ids(source: Path | str | bytes, encode: Encoder) -> list[int]:
    """Return the tokens of a file, given as a path, or of a text, given as string or bytes.

    Raises TextError: the file is missing or unreadable, or the text is empty or not encodable.
    """
    if isinstance(source, str | bytes):
        return encode(source)
    content = read_text(source)
    try:
        return encode(content)
    except TextError as error:
        raise TextError(f"{source}: {error.message}", hint=error.hint) from error


def _refuse_empty(content: Sized, where: str) -> None:
    if not content:
        raise TextError(f"{where}: must not be empty", hint="Give a text with something in it.")
