"""What a routing policy does to quality, each figure a mean per token with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from moeprof.errors import InputError
from moeprof.evaluation import outputs, routings
from moeprof.evaluation.bootstrap import Estimate, mean_per_token

if TYPE_CHECKING:
    from moeprof.evaluation.outputs import OutputComparison
    from moeprof.evaluation.routings import RoutingComparison
    from moeprof.evaluation.sums import RequestSums


@dataclass(frozen=True, slots=True)
class OutputQuality:
    """What routing does to the next-token distributions, per token."""

    plain_cross_entropy_nats: Estimate
    routed_cross_entropy_nats: Estimate
    cross_entropy_difference_nats: Estimate
    """Routed minus plain, paired token by token: positive is worse."""
    divergence_nats: Estimate
    """KL(plain ‖ routed) (Kullback and Leibler, Annals of Mathematical Statistics 22, 1951)."""
    agreement_fraction: Estimate
    """Share of tokens for which both models find the same next token most likely."""


@dataclass(frozen=True, slots=True)
class RoutingQuality:
    """How far routing decisions are from plain top-k's, per token and layer."""

    retained_mass_fraction: Estimate
    """Scores of the chosen experts over those of plain top-k, under the plain gate."""
    changed_selections_fraction: Estimate
    """Share of selections that differ from plain top-k's, whatever their order."""
    top_1_kept_fraction: Estimate
    """Share of decisions that still use the expert that plain top-k weighs most."""


def output_quality(
    comparison: OutputComparison, *, seed: int, confidence: float = 0.95
) -> OutputQuality:
    """Return the figures of all outputs added so far, with intervals over requests.

    Raises InputError: nothing has been added.
    """
    mean = partial(_mean, comparison.sums(), seed=seed, confidence=confidence)
    return OutputQuality(
        plain_cross_entropy_nats=mean(outputs.PLAIN_LOSS),
        routed_cross_entropy_nats=mean(outputs.ROUTED_LOSS),
        cross_entropy_difference_nats=mean(outputs.LOSS_DIFFERENCE),
        divergence_nats=mean(outputs.DIVERGENCE),
        agreement_fraction=mean(outputs.AGREEMENT),
    )


def routing_quality(
    comparison: RoutingComparison, *, seed: int, confidence: float = 0.95
) -> RoutingQuality:
    """Return the figures of all decisions added so far, with intervals over requests.

    Raises InputError: nothing has been added.
    """
    mean = partial(_mean, comparison.sums(), seed=seed, confidence=confidence)
    return RoutingQuality(
        retained_mass_fraction=mean(routings.RETAINED_MASS),
        changed_selections_fraction=mean(routings.CHANGED),
        top_1_kept_fraction=mean(routings.TOP_1_KEPT),
    )


def _mean(sums: RequestSums, name: str, *, seed: int, confidence: float) -> Estimate:
    if len(sums.requests) == 0:
        raise InputError("there is no token to judge: every one is masked, or none was given")
    return mean_per_token(sums.sums[name], sums.num_tokens, seed=seed, confidence=confidence)
