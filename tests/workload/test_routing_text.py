"""Claims about the texts of routing patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeprof.errors import WorkloadError
from moeprof.workload.routing import PATTERN_FORMS, Zipf, parse

EXAMPLES = [
    *(
        "uniform",
        "balanced",
        "active:9",
        "zipf:0",
        "zipf:1.2",
        "power_law:1.01",
        "packed_power_law:1.2",
    ),
    *("dirichlet:0.0001", "hot:3@0.6", "replay:ids.npy", "replay:a:b/ids.csv"),
    *("strided/groups:8@4", "power_law:1.01/groups:8@4", "replay:a/groups:8@4/ids.npy"),
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_text_is_canonical(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" uniform\n", "uniform"),
        ("zipf:1.0", "zipf:1"),
        ("active:007", "active:7"),
        ("hot:2@5e-1", "hot:2@0.5"),
        ("zipf:-0", "zipf:0"),
        ("zipf:1.0/groups:08@4 ", "zipf:1/groups:8@4"),
    ],
)
def test_other_spellings_parse_to_the_canonical_one(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


@given(st.floats(0, 1e300, exclude_min=True))
def test_numbers_survive_the_text(number: float) -> None:
    pattern = Zipf(number)

    assert parse(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("unifrom", "'unifrom'", "uniform"),
        ("power-law:1.2", "'power-law'", "power_law:a"),
        ("", "''", "balanced"),
        ("uniform:3", "got '3'", "Write uniform."),
        ("active", "needs an argument", "active:N"),
        ("active:0", "at least 1, got '0'", "active:N"),
        ("active:2.5", "got '2.5'", "active:N"),
        ("zipf:fast", "got 'fast'", "zipf:s"),
        ("zipf:-1", "at least 0, got '-1'", "zipf:s"),
        ("zipf:nan", "got 'nan'", "zipf:s"),
        ("power_law:inf", "got 'inf'", "power_law:a"),
        ("dirichlet:0", "greater than 0", "dirichlet:a"),
        ("uniform/groups:8", "no @ between the number of groups", "uniform/groups:8@4"),
        ("uniform/groups:0@0", "at least 1, got '0'", "uniform/groups:8@4"),
        ("uniform/groups:4@8", "of 4 groups at most", "uniform/groups:8@4"),
        ("unifrom/groups:8@4", "'unifrom'", "uniform"),
        ("hot:4", "no @", "hot:N@share"),
        ("hot:4@70", "0..1, got '70'", "hot:N@share"),
        ("hot:x@0.5", "got 'x'", "hot:N@share"),
        ("replay:", "needs an argument", "replay:FILE"),
    ],
)
def test_bad_text_is_refused_with_the_nearest_form(text: str, message: str, hint: str) -> None:
    with pytest.raises(WorkloadError) as refusal:
        parse(text)

    assert message in refusal.value.message
    assert repr(text) in refusal.value.message
    assert hint in (refusal.value.hint or "")


def test_every_form_is_documented_and_parses() -> None:
    example = {"N": "2", "s": "1", "a": "1", "N@share": "2@0.5", "N@M": "4@2", "FILE": "ids.npy"}

    for form, meaning in PATTERN_FORMS:
        name, colon, argument = form.replace("PATTERN", "uniform").partition(":")
        assert parse(name + colon + example.get(argument, "")) is not None
        assert meaning
