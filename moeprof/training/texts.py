"""The three splits of a corpus as the tokens of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moeprof.training.beginning import token_text

if TYPE_CHECKING:
    from moeprof.training.beginning import Beginning
    from moeprof.training.corpus import Corpus
    from moeprof.training.windows import TokenText


@dataclass(frozen=True, slots=True, eq=False)
class SplitTexts:
    """What is learned from, what is looked at on the way, and what is judged at the end."""

    train: TokenText
    validation: TokenText
    test: TokenText


def split_texts(corpus: Corpus, beginning: Beginning, *, length: int) -> SplitTexts:
    """Return the splits as tokens. Raises TextError: one is shorter than a window of `length`."""
    splits = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    return SplitTexts(
        **{
            name: token_text(data, beginning, split=name, length=length)
            for name, data in splits.items()
        }
    )
