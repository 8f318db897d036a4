from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.errors import InputError
from moeprof.evaluation import outputs
from moeprof.evaluation.outputs import OutputComparison
from moeprof.evaluation.quality import OutputQuality, output_quality

LN3 = math.log(3)


def compare(
    plain: torch.Tensor,
    routed: torch.Tensor,
    next_tokens: torch.Tensor,
    *,
    requests: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> OutputQuality:
    comparison = OutputComparison()
    comparison.add(
        requests=torch.zeros(len(plain), dtype=torch.long) if requests is None else requests,
        plain_logits=plain,
        routed_logits=routed,
        next_tokens=next_tokens,
        mask=mask,
    )
    return output_quality(comparison, seed=0)


def random_outputs(seed: int, num_tokens: int = 12) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    plain, routed = torch.randn(2, num_tokens, 9, generator=random) * 4
    return plain, routed, torch.randint(9, (num_tokens,), generator=random)


def test_figures_worked_by_hand() -> None:
    # Two tokens: probabilities (1/4, 3/4) become (3/4, 1/4), and (1/2, 1/2) stays; 0 came twice.
    plain = torch.tensor([[0.0, LN3], [0.0, 0.0]])
    routed = torch.tensor([[LN3, 0.0], [1.0, 1.0]])
    found = compare(plain, routed, torch.tensor([0, 0]))

    assert found.plain_cross_entropy_nats.estimate == pytest.approx((math.log(4) + math.log(2)) / 2)
    assert found.routed_cross_entropy_nats.estimate == pytest.approx(
        (math.log(4 / 3) + math.log(2)) / 2
    )
    assert found.cross_entropy_difference_nats.estimate == pytest.approx(-LN3 / 2)
    # KL of the first: 1/4 ln(1/3) + 3/4 ln 3 = 1/2 ln 3.
    assert found.divergence_nats.estimate == pytest.approx(LN3 / 4)
    assert found.agreement_fraction.estimate == 0.5


def test_divergence_is_of_plain_from_routed() -> None:
    plain, routed = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, LN3]])
    next_tokens = torch.tensor([0])

    there = compare(plain, routed, next_tokens).divergence_nats.estimate
    back = compare(routed, plain, next_tokens).divergence_nats.estimate
    assert there == pytest.approx(math.log(4 / 3) / 2)
    assert back == pytest.approx(0.75 * math.log(3 / 2) + 0.25 * math.log(1 / 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_outputs_differ_by_exactly_nothing(dtype: torch.dtype) -> None:
    plain, _, next_tokens = random_outputs(1)
    found = compare(plain.to(dtype), plain.to(dtype), next_tokens)

    assert found.cross_entropy_difference_nats.estimate == 0.0
    assert found.divergence_nats.estimate == 0.0
    assert found.agreement_fraction.estimate == 1.0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 1e-12, 1e-9, 1e-3]))
def test_no_divergence_is_negative(seed: int, distance: float) -> None:
    plain, noise, next_tokens = random_outputs(seed, num_tokens=1)
    found = compare(plain.double(), plain.double() + distance * noise, next_tokens)

    assert found.divergence_nats.estimate >= 0


def test_the_difference_is_the_cross_entropies_own() -> None:
    plain, routed, next_tokens = random_outputs(2)
    found = compare(plain, routed, next_tokens)
    loss = torch.nn.functional.cross_entropy

    assert found.plain_cross_entropy_nats.estimate == pytest.approx(
        loss(plain, next_tokens).item(), rel=1e-6
    )
    assert found.cross_entropy_difference_nats.estimate == pytest.approx(
        (loss(routed, next_tokens) - loss(plain, next_tokens)).item(), rel=1e-5
    )


def test_padding_counts_for_nothing_whatever_stands_there() -> None:
    plain, routed, next_tokens = random_outputs(3)
    mask = torch.ones(12, dtype=torch.bool)
    mask[[0, 5]] = False
    damaged = plain.clone()
    damaged[0] = math.nan
    outside = next_tokens.clone()
    outside[5] = -100

    assert compare(damaged, routed, outside, mask=mask) == compare(
        plain[mask], routed[mask], next_tokens[mask]
    )


def test_a_text_may_come_in_pieces_and_requests_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, routed, next_tokens = random_outputs(4, num_tokens=40)
    requests = torch.arange(40) % 8
    whole = compare(plain, routed, next_tokens, requests=requests)
    monkeypatch.setattr(outputs, "_LOGITS_AT_ONCE", 30)
    pieces = OutputComparison()
    for part in torch.arange(40).split(7):
        pieces.add(
            requests=requests[part],
            plain_logits=plain[part],
            routed_logits=routed[part],
            next_tokens=next_tokens[part],
        )
    found = output_quality(pieces, seed=0)

    difference = found.cross_entropy_difference_nats
    assert difference.num_requests == 8
    assert difference.num_tokens == 40
    assert difference.estimate == pytest.approx(whole.cross_entropy_difference_nats.estimate)
    assert difference.interval is not None
    assert whole.cross_entropy_difference_nats.interval is not None
    assert difference.interval.low == pytest.approx(
        whole.cross_entropy_difference_nats.interval.low
    )


def test_tokens_excluded_by_both_models_change_nothing() -> None:
    plain, routed, next_tokens = random_outputs(5)
    shut = torch.full((12, 3), -math.inf)
    found = compare(torch.cat([plain, shut], -1), torch.cat([routed, shut], -1), next_tokens)

    open_only = compare(plain, routed, next_tokens)
    assert found.divergence_nats.estimate == pytest.approx(open_only.divergence_nats.estimate)
    assert found.agreement_fraction == open_only.agreement_fraction


@pytest.mark.parametrize(
    ("model", "value", "says"),
    [
        ("plain", math.nan, "plain model, request 7: must be finite or -inf, found NaN"),
        ("routed", math.nan, "routed model, request 7: must be finite or -inf, found NaN"),
        ("routed", math.inf, "routed model, request 7: must be finite or -inf"),
        ("routed", -math.inf, "request 7: the plain and the routed model must exclude"),
    ],
)
def test_impossible_logits_are_refused_by_request(model: str, value: float, says: str) -> None:
    plain, routed, next_tokens = random_outputs(6)
    next_tokens[:] = 0
    {"plain": plain, "routed": routed}[model][4, 8] = value
    requests = torch.where(torch.arange(12) == 4, 7, 1)

    with pytest.raises(InputError, match=says):
        compare(plain, routed, next_tokens, requests=requests)


def test_a_token_that_came_although_excluded_is_refused() -> None:
    plain, routed, next_tokens = random_outputs(6)
    plain[3, next_tokens[3]] = routed[3, next_tokens[3]] = -math.inf

    with pytest.raises(InputError, match="must not be -inf for the token that came"):
        compare(plain, routed, next_tokens)


def test_a_token_outside_the_vocabulary_is_refused() -> None:
    plain, routed, next_tokens = random_outputs(6)
    next_tokens[2] = 9

    with pytest.raises(InputError, match=r"the next token must lie in 0\.\.8"):
        compare(plain, routed, next_tokens)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"routed": 11}, "routed_logits: must be of 12 tokens as requests are, got 11"),
        ({"plain": 13, "routed": 13}, "plain_logits: must be of 12 tokens as requests are, got 13"),
        ({"next_tokens": 13}, "next_tokens: must be of 12 tokens as requests are, got 13"),
        ({"mask": 11}, "mask: must be of 12 tokens as requests are, got 11"),
    ],
)
def test_rows_that_would_be_taken_for_other_tokens_are_refused(
    changes: dict[str, int], says: str
) -> None:
    plain, routed, next_tokens = random_outputs(6, num_tokens=13)
    given = {"plain": plain, "routed": routed, "next_tokens": next_tokens, "mask": next_tokens >= 0}
    cut = {name: values[: changes.get(name, 12)] for name, values in given.items()}

    with pytest.raises(InputError, match=says):
        compare(**cut, requests=torch.zeros(12, dtype=torch.long))


def test_vocabularies_of_two_sizes_are_refused() -> None:
    plain, routed, next_tokens = random_outputs(6)

    with pytest.raises(InputError, match=r"routed_logits: must be \[12, 9\] .* got \[12, 1\]"):
        compare(plain, routed[:, :1], next_tokens)


def test_nothing_to_judge_is_an_error() -> None:
    plain, routed, next_tokens = random_outputs(6)

    with pytest.raises(InputError, match="no token to judge"):
        compare(plain, routed, next_tokens, mask=torch.zeros(12, dtype=torch.bool))
