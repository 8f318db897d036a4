"""Text split by file, and texts that nothing can be learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moeprof.errors import TextError
from moeprof.recipe.training import TextSection
from moeprof.training.corpus import SEPARATOR, read_corpus, standard_library

if TYPE_CHECKING:
    from pathlib import Path

SECTION = TextSection(validation_fraction=0.2, test_fraction=0.2, num_window_tokens=16)


def folder_of(path: Path, num_files: int) -> Path:
    path.mkdir()
    for number in range(num_files):
        (path / f"{number}.txt").write_text(f"file {number} " * 20, encoding="utf-8")
    return path


def files_in(split: bytes) -> set[bytes]:
    return set(split.split(SEPARATOR))


def test_no_file_is_in_two_splits_and_none_is_lost(tmp_path: Path) -> None:
    corpus = read_corpus([folder_of(tmp_path / "texts", 60)], SECTION)

    splits = [files_in(each) for each in (corpus.train, corpus.validation, corpus.test)]
    assert sum(len(split) for split in splits) == 60 == corpus.num_files
    assert len(set.union(*splits)) == 60
    assert 20 < len(splits[0]) < 50


def test_another_file_moves_no_file_to_another_split(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "texts", 60)
    before = read_corpus([folder], SECTION)
    (folder / "another.txt").write_text("another file " * 20, encoding="utf-8")
    after = read_corpus([folder], SECTION)

    for split in ("train", "validation", "test"):
        assert files_in(getattr(before, split)) <= files_in(getattr(after, split))
    assert after.fingerprint != before.fingerprint


def test_a_lone_file_is_cut_into_three_stretches(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_bytes(bytes(range(32, 127)) * 10)
    corpus = read_corpus([path], SECTION)

    assert corpus.train + corpus.validation + corpus.test == path.read_bytes()
    assert len(corpus.test) == len(corpus.validation) == 190


def test_repeated_and_binary_files_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "texts", 60)
    (folder / "again.txt").write_bytes((folder / "1.txt").read_bytes() + b"\n")
    (folder / "picture.png").write_bytes(b"\x89PNG\xff\x00")
    (folder / "empty.txt").write_bytes(b"\n")
    (folder / ".hidden").write_bytes(b"not looked at")
    corpus = read_corpus([folder], SECTION)

    assert corpus.num_files == 60
    assert corpus.num_left_out == 3


def test_the_standard_library_has_sources_and_topics_and_no_tests() -> None:
    names = {file.name for file in standard_library()}

    assert "json/decoder.py" in names
    assert "pydoc_data/topics.py/assert" in names
    assert "pydoc_data/topics.py" not in names
    assert not any("site-packages" in name or "/test/" in name for name in names)
    assert not any(name.startswith("_sysconfigdata") for name in names)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such text file or folder"),
        (b"", "holds nothing"),
        (b"too short", "more than one window of 16 tokens"),
        (b"\xff\xfe not text" * 50, "must be UTF-8 text"),
        (b"nul \0" * 50, "must be UTF-8 text"),
    ],
)
def test_a_text_that_cannot_be_learned_from_is_a_clear_error(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TextError, match=words) as caught:
        read_corpus([path], SECTION)

    assert "bad.txt" in caught.value.message


def test_a_folder_without_text_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\xff\x00")

    with pytest.raises(TextError, match="holds nothing"):
        read_corpus([tmp_path], SECTION)
