from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cost.tables import grid, row, table

from moeprof.cost.points import points_from_table
from moeprof.cost.terms import TERMS, term_seconds

NAMES = [term.name for term in TERMS]


def terms_of(*rows: dict) -> np.ndarray:
    return term_seconds(points_from_table(table(list(rows))))


def column(terms: np.ndarray, name: str) -> np.ndarray:
    return terms[:, NAMES.index(name)]


@pytest.mark.parametrize("kernel", ["triton", "triton_tritonexperts", "marlin"])
@pytest.mark.parametrize("figure", ["num_active", "num_rows", "max_rows"])
def test_no_term_falls_when_a_count_grows_alone(kernel: str, figure: str) -> None:
    points = grid(kernel=kernel, routing_pattern="uniform")
    more = replace(points.occupancy, **{figure: getattr(points.occupancy, figure) * 1.5})

    before, after = term_seconds(points), term_seconds(replace(points, occupancy=more))

    assert (after >= before).all()
    assert (after > before).any(axis=1).all()


@pytest.mark.parametrize("kernel", ["triton", "triton_tritonexperts"])
def test_no_term_falls_when_any_expert_gets_more_rows(kernel: str) -> None:
    counts = np.zeros(128, dtype=np.int64)
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        counts[draw.integers(0, 128, 3)] += draw.integers(1, 40)
        rows.append(row(rows_per_expert=counts.tolist(), batch_size=2000, kernel=kernel))

    terms = terms_of(*rows)

    assert (np.diff(terms, axis=0) >= 0).all()


@pytest.mark.parametrize("size", ["hidden_size", "expert_size"])
def test_no_term_falls_when_the_layer_grows(size: str) -> None:
    sizes = (64, 192, 512, 768, 1000, 4096, 14336)
    terms = terms_of(*(row(**{size: each}) for each in sizes))

    assert (np.diff(terms, axis=0) >= 0).all()


def test_weights_are_read_once_per_active_expert_at_the_datasheet_s_bandwidth() -> None:
    terms = terms_of(row(routing_pattern=None, num_active_experts=10, num_rows=20, batch_size=64))

    # 10 experts of 3 x 2048 x 768 elements of 2 bytes, at 4.8 TB/s.
    assert column(terms, "weights")[0] == pytest.approx(10 * 3 * 2048 * 768 * 2 / 4.8e12)


def test_weights_that_are_widened_on_the_way_count_double() -> None:
    terms = terms_of(
        row(weight_dtype="mxfp4", activation_dtype="bf16"),
        row(weight_dtype="mxfp4", activation_dtype="mxfp4"),
        row(weight_dtype="fp8", activation_dtype="bf16"),
        row(weight_dtype="fp8", activation_dtype="fp8"),
    )

    weights = column(terms, "weights")
    assert weights[0] == pytest.approx(2 * weights[1])
    assert weights[2] == weights[3]


def test_rows_with_blocks_of_their_own_ask_for_weights_once_per_row() -> None:
    counts = [4] + [0] * 127
    ours, other = (
        row(kernel=kernel, batch_size=4, rows_per_expert=counts)
        for kernel in ("triton_tritonexperts", "triton")
    )

    weights = column(terms_of(ours, other), "weights")

    assert weights[0] == pytest.approx(4 * weights[1])


def test_a_narrow_slice_of_an_expert_is_computed_in_full() -> None:
    terms = terms_of(*(row(tp_size=each) for each in (12, 24, 48)))

    flops, weights = column(terms, "flops"), column(terms, "weights")
    assert flops[0] == flops[1] == flops[2]
    assert weights[0] == pytest.approx(4 * weights[2])


def test_a_gpu_of_no_catalogue_has_finite_terms() -> None:
    terms = terms_of(row(device_kind="somebody's", device_name=None), row())

    assert np.isfinite(terms).all()
    assert (terms >= 0).all()
    assert (terms[0] >= terms[1]).all(), "the stand-in is of the size of a CPU"


def test_a_rank_without_rows_still_has_its_launch() -> None:
    terms = terms_of(row(rows_per_expert=[0] * 128))

    assert np.isfinite(terms).all()
    assert column(terms, "launch")[0] > 0
    for name in ("rows", "weights", "flops", "root_fullest"):
        assert column(terms, name)[0] == 0, name
