from __future__ import annotations

from dataclasses import replace

import numpy as np
from cost.tables import grid, row, table

from moeprof.cost.contexts import FLAGS, NUMBERS, contexts_of
from moeprof.cost.network import HIGHEST, LOWEST, Network, encoder_of, silu
from moeprof.cost.points import points_from_table

NUM_NUMBERS = len(NUMBERS)
NUM_PLAIN = NUM_NUMBERS + len(FLAGS)


def test_numbers_are_centred_and_scaled_by_the_contexts_of_the_fit() -> None:
    contexts = contexts_of(grid())
    encoder = encoder_of(contexts)

    inputs = encoder.inputs(contexts)

    assert inputs.shape == (4, NUM_PLAIN + encoder.num_names)
    scaled = inputs[:, :NUM_NUMBERS]
    varied = contexts.numbers.std(axis=0) > 0
    np.testing.assert_allclose(scaled[:, varied].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled[:, varied].std(axis=0), 1)
    assert (scaled[:, ~varied] == 0).all()


def test_a_size_far_outside_counts_as_that_of_the_border() -> None:
    encoder = encoder_of(contexts_of(grid()))
    huge, larger = (
        contexts_of(points_from_table(table([row(hidden_size=each, expert_size=1)])))
        for each in (60_000, 65_536)
    )

    at_huge, at_larger = encoder.inputs(huge), encoder.inputs(larger)

    assert (huge.numbers != larger.numbers).any()
    assert np.abs(at_huge[:, :NUM_NUMBERS]).max() == 2.0
    hidden = NUMBERS.index("hidden_size")
    assert at_huge[0, hidden] == at_larger[0, hidden] == 2.0


def test_known_names_have_an_input_each_and_unknown_ones_none() -> None:
    rows = [row(), row(kernel="marlin"), row(device_kind="imported:h100-sxm")]
    encoder = encoder_of(contexts_of(points_from_table(table(rows))))
    asked = [*rows, row(kernel="nobody's", device_kind="cpu", device_name=None)]
    contexts = contexts_of(points_from_table(table(asked)))

    names = (encoder.inputs(contexts)[:, NUM_PLAIN:] > 0)[contexts.index]

    assert encoder.num_names == 4
    assert names.sum(axis=1).tolist() == [2, 2, 2, 0]
    assert len(np.unique(names, axis=0)) == 4


def test_names_of_points_that_were_taken_out_have_no_input() -> None:
    points = points_from_table(table([row(), row(kernel="marlin")]))

    encoder = encoder_of(contexts_of(points).take(np.array([True, False])))

    assert encoder.kernels == ("vllm 0.24.0 | triton | bf16 | bf16",)


def test_coefficients_stay_within_their_bounds_whatever_the_weights() -> None:
    draw = np.random.default_rng(0)
    shapes = ((5, 8), (8, 8), (8, 3))
    network = Network(
        tuple(draw.normal(0, 50, shape) for shape in shapes),
        tuple(draw.normal(0, 50, shape[1]) for shape in shapes),
    )

    found = network.log_coefficients(draw.normal(0, 10, (200, 5)))

    assert found.shape == (200, 3)
    assert found.min() == LOWEST
    assert found.max() == HIGHEST


def test_silu_is_smooth_at_nought_and_the_identity_or_nought_far_off() -> None:
    found = silu(np.array([-1e4, -40.0, 0.0, 1.0, 40.0, 1e4]))

    np.testing.assert_allclose(found, [0, 0, 0, 1 / (1 + np.exp(-1)), 40, 1e4], atol=1e-12)


def test_an_encoder_gives_the_same_inputs_to_a_context_among_others() -> None:
    contexts = contexts_of(grid())
    encoder = replace(encoder_of(contexts), gpus=("a100-sxm-80gb", "h200-sxm"))
    together = encoder.inputs(contexts)

    for place in range(len(contexts)):
        alone = encoder.inputs(contexts.take(contexts.index == place))
        assert (alone == together[place]).all()
