"""What routing does to a model's next-token distributions, added up token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from moeprof.errors import InputError
from moeprof.evaluation.sums import SumsByRequest, check_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from moeprof.evaluation.sums import RequestSums

PLAIN_LOSS: Final = "plain cross-entropy"
ROUTED_LOSS: Final = "routed cross-entropy"
LOSS_DIFFERENCE: Final = "cross-entropy difference"
DIVERGENCE: Final = "KL divergence"
AGREEMENT: Final = "agreement"
_LOGITS_AT_ONCE = 2**24  # 128 MiB in float64, of each of the two models


class OutputComparison:
    """Adds up what one routing policy does to the outputs; memory grows with requests only."""

    def __init__(self) -> None:
        self._sums = SumsByRequest(
            (PLAIN_LOSS, ROUTED_LOSS, LOSS_DIFFERENCE, DIVERGENCE, AGREEMENT)
        )

    def add(
        self,
        *,
        requests: Tensor,
        plain_logits: Tensor,
        routed_logits: Tensor,
        next_tokens: Tensor,
        mask: Tensor | None = None,
    ) -> None:
        """Add tokens, of any requests, for which both models have said what comes next.

        `requests` and `next_tokens` are [num_tokens], the logits [num_tokens, vocabulary], `mask`,
        [num_tokens], is False where there is nothing to judge: padding, or a request's last token,
        after which nothing came. Raises InputError, with nothing added: a logit is NaN or +inf, a
        token is outside the vocabulary, a model gives probability 0 to what came, only one of the
        two does to some token, or shapes do not go together.
        """
        check_tokens(
            requests,
            plain_logits=plain_logits,
            routed_logits=routed_logits,
            next_tokens=next_tokens,
            mask=mask,
        )
        if plain_logits.shape != routed_logits.shape:
            raise InputError(
                f"routed_logits: must be {list(plain_logits.shape)} as plain_logits are, "
                f"got {list(routed_logits.shape)}"
            )
        kept = torch.ones_like(requests, dtype=torch.bool) if mask is None else mask.bool()
        rows = kept.nonzero().flatten()
        size = max(1, _LOGITS_AT_ONCE // plain_logits.shape[-1])
        pieces = [
            _figures(requests[part], plain_logits[part], routed_logits[part], next_tokens[part])
            for part in torch.split(rows, size)
            if len(part) > 0
        ]
        if pieces:
            figures = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
            self._sums.add(requests[rows], figures)

    def sums(self) -> RequestSums:
        """Return the sums of everything that has been added, in nats; agreement is a count."""
        return self._sums.so_far()


def _figures(
    requests: Tensor, plain_logits: Tensor, routed_logits: Tensor, next_tokens: Tensor
) -> dict[str, Tensor]:
    """Return each figure of every token, [num_tokens], in float64."""
    _refuse_impossible("plain", plain_logits, next_tokens, requests)
    _refuse_impossible("routed", routed_logits, next_tokens, requests)
    excluded = plain_logits.isneginf()
    if differing := _first(requests, (excluded != routed_logits.isneginf()).any(dim=-1)):
        raise InputError(
            f"next-token logits, request {differing}: the plain and the routed model must exclude "
            "(-inf) the same tokens, or their divergence is infinite"
        )
    plain = torch.log_softmax(plain_logits.double(), dim=-1)
    routed = torch.log_softmax(routed_logits.double(), dim=-1)
    # Where both are -inf the difference is NaN, and the term 0.
    terms = (plain.exp() * (plain - routed)).masked_fill(excluded, 0.0)
    targets = next_tokens.long().unsqueeze(-1)
    plain_loss = -plain.gather(-1, targets).squeeze(-1)
    routed_loss = -routed.gather(-1, targets).squeeze(-1)
    return {
        PLAIN_LOSS: plain_loss,
        ROUTED_LOSS: routed_loss,
        LOSS_DIFFERENCE: routed_loss - plain_loss,
        # No divergence is negative; the rounding of a sum may be.
        DIVERGENCE: terms.sum(dim=-1).clamp(min=0.0),
        AGREEMENT: (plain_logits.argmax(dim=-1) == routed_logits.argmax(dim=-1)).double(),
    }


def _refuse_impossible(model: str, logits: Tensor, next_tokens: Tensor, requests: Tensor) -> None:
    where = f"next-token logits of the {model} model, request"
    if found := _first(requests, (logits.isnan() | logits.isposinf()).any(dim=-1)):
        raise InputError(
            f"{where} {found}: must be finite or -inf, found NaN or +inf",
            hint="Run the model in float32, or look for damaged weights.",
        )
    vocabulary = logits.shape[-1]
    if found := _first(requests, (next_tokens < 0) | (next_tokens >= vocabulary)):
        raise InputError(f"{where} {found}: the next token must lie in 0..{vocabulary - 1}")
    chosen = logits.gather(-1, next_tokens.long().unsqueeze(-1)).squeeze(-1)
    if found := _first(requests, chosen.isneginf()):
        raise InputError(
            f"{where} {found}: must not be -inf for the token that came, or its cross-entropy is "
            "infinite"
        )


def _first(requests: Tensor, faulty: Tensor) -> str | None:
    """Return the request of the first faulty token, as text, None where there is none."""
    places = faulty.nonzero().flatten()
    return str(int(requests[places[0]])) if len(places) > 0 else None
