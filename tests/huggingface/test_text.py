from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moeprof.errors import TextError
from moeprof.huggingface.text import TokenizerEncoder, bytes_as_tokens, read_text, token_ids

if TYPE_CHECKING:
    from pathlib import Path


def test_a_byte_is_its_own_token() -> None:
    everything = bytes(range(256))

    assert bytes_as_tokens(everything) == list(range(256))
    assert bytes_as_tokens("aé") == [97, 0xC3, 0xA9]


def test_a_text_comes_from_a_file_a_string_or_bytes(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"abc")

    assert token_ids(path, bytes_as_tokens) == [97, 98, 99]
    assert token_ids("abc", bytes_as_tokens) == token_ids(b"abc", bytes_as_tokens) == [97, 98, 99]


@pytest.mark.parametrize("text", ["", b""])
def test_an_empty_text_is_refused(text: str | bytes) -> None:
    with pytest.raises(TextError, match="text: must not be empty"):
        token_ids(text, bytes_as_tokens)


def test_a_text_of_no_tokens_is_refused() -> None:
    encode = TokenizerEncoder(lambda _text, **_settings: {"input_ids": []}, num_vocabulary=9)

    with pytest.raises(TextError, match="text in tokens: must not be empty"):
        encode(" ")


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(TextError, match="has no UTF-8"):
        token_ids("\ud800", bytes_as_tokens)


def test_a_file_that_is_missing_a_folder_or_empty_is_refused_by_name(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()

    for path, fault in (
        (tmp_path / "gone", "gone: cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (empty, "empty: must not be empty"),
    ):
        with pytest.raises(TextError, match=fault):
            read_text(path)


def test_what_an_encoder_refuses_is_said_with_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"abc")

    def refuse(text: str | bytes) -> list[int]:
        raise TextError("text: no", hint="yes")

    with pytest.raises(TextError, match=r"text: text: no") as caught:
        token_ids(path, refuse)

    assert str(path) in caught.value.message
    assert caught.value.hint == "yes"
