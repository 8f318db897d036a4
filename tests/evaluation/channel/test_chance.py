"""Claims about random numbers that policies share."""

from __future__ import annotations

import numpy as np

from moeprof.evaluation.channel import channel
from moeprof.evaluation.channel.chance import uniforms


def test_every_purpose_draws_numbers_of_its_own() -> None:
    purposes = [channel._NOISE, channel._LOSS, channel._NAN, channel._LIE, channel._SHUFFLE]
    drawn = [next(uniforms(0, 2, purpose, (50,))) for purpose in purposes]

    assert len(np.unique(np.stack(drawn))) == len(purposes) * 2 * 50


def test_draws_do_not_repeat_at_the_end_of_a_block() -> None:
    source = uniforms(0, 1, 0, (1,))

    assert len({float(next(source)[0, 0]) for _ in range(300)}) == 300
