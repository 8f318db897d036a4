from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from moeprof.errors import ExtraMissing
from moeprof.huggingface import extra


def test_a_missing_transformers_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(ExtraMissing, match="transformers cannot be imported") as caught:
        extra.transformers()

    assert caught.value.hint == "pip install 'moeprof[hf]'"


def test_loading_needs_transformers_only_when_it_is_called() -> None:
    code = "import sys, moeprof.huggingface.load; print('transformers' in sys.modules)"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout == "False\n"


def test_quiet_ends_with_its_block_even_by_an_error() -> None:
    log = extra.transformers().utils.logging
    before = (log.get_verbosity(), log.is_progress_bar_enabled())

    def fail() -> None:
        with extra.quiet():
            assert log.get_verbosity() == log.CRITICAL
            warnings.warn("unheard", stacklevel=1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)
