"""Which experts are kept: against every set that could have been, one by one, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, combinations, pairwise
from typing import TYPE_CHECKING

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moeprof.router.marginal.buffers import Buffers
from moeprof.router.marginal.conditions import Conditions
from moeprof.router.marginal.curve import EXPERTS_ONLY, StepCurve
from moeprof.router.marginal.levels import Trade, worth_keeping
from moeprof.router.marginal.worth import WHOLE, Worth

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet


@dataclass(frozen=True)
class Case:
    losses: list[int]
    rows: list[int]
    protected: list[bool]
    home: list[int]
    slowness: list[float]
    hunger: list[float]
    curve: StepCurve
    energy_fraction: float
    num_tokens: int

    @property
    def used(self) -> set[int]:
        return {expert for expert, rows in enumerate(self.rows) if rows}

    @property
    def kept_always(self) -> set[int]:
        return {expert for expert in self.used if self.protected[expert]}

    def seconds(self, experts: AbstractSet[int]) -> float:
        counts = [sum(self.home[e] == rank for e in experts) for rank in range(len(self.slowness))]
        return max(
            slow * (self.curve.launch_experts + count) if count else 0.0
            for slow, count in zip(self.slowness, counts, strict=True)
        )

    def cost(self, experts: AbstractSet[int]) -> float:
        of_rank = [slow * hunger for slow, hunger in zip(self.slowness, self.hunger, strict=True)]
        static = self.curve.static_experts * sum(of_rank) / len(of_rank)
        makespan = self.seconds(experts) / self.seconds(self.used)
        joules = sum(of_rank[self.home[expert]] for expert in experts) + static * makespan
        plain = sum(of_rank[self.home[expert]] for expert in self.used) + static
        return (1 - self.energy_fraction) * makespan + self.energy_fraction * joules / plain

    def objective(self, experts: AbstractSet[int], trade: float) -> float:
        lost = sum(self.losses[expert] for expert in self.used - experts)
        return lost / (self.num_tokens * WHOLE) + trade * self.cost(experts)

    def found(self, trade: float, scale: float = 1.0) -> set[int]:
        rows = torch.tensor(self.rows)
        worth = Worth(
            torch.tensor(self.losses), rows, rows > 0, torch.tensor(self.protected) & (rows > 0)
        )
        conditions = Conditions.of(trade, len(self.slowness))
        conditions.learn(slowness=[scale * slow for slow in self.slowness], hunger=self.hunger)
        most = max(self.home.count(rank) for rank in range(len(self.slowness)))
        asked = Trade(conditions, self.curve, self.energy_fraction, most, self.num_tokens)
        usable = worth_keeping(worth, torch.tensor(self.home), asked, Buffers(torch.device("cpu")))
        return set(usable.nonzero().flatten().tolist())


@st.composite
def cases(draw: st.DrawFn) -> Case:
    num_experts, num_ranks = draw(st.integers(1, 9)), draw(st.integers(1, 3))

    def each(values: st.SearchStrategy, number: int = num_experts) -> list:
        return draw(st.lists(values, min_size=number, max_size=number))

    speeds = st.sampled_from([1.0, 1.0, 1.15, 0.5, 2.0]) | st.floats(0.3, 3.0)
    rows = each(st.integers(0, 4))
    rows[0] = max(rows[0], 1)
    return Case(
        losses=[loss * bool(count) for loss, count in zip(
            each(st.sampled_from([0, WHOLE // 8, WHOLE]) | st.integers(0, 2 * WHOLE)), rows,
            strict=True,
        )],
        rows=rows,
        protected=each(st.integers(0, 3).map(lambda value: value == 0)),
        home=each(st.integers(0, num_ranks - 1)),
        slowness=each(speeds, num_ranks),
        hunger=each(speeds, num_ranks),
        curve=StepCurve(
            draw(st.sampled_from([0.0, 1.0, 2.75]) | st.floats(0, 9)),
            static_experts=draw(st.sampled_from([0.0, 4.0]) | st.floats(0, 9)),
        ),
        energy_fraction=draw(st.sampled_from([0.0, 0.0, 0.3, 1.0]) | st.floats(0, 1)),
        num_tokens=draw(st.integers(1, 4)),
    )  # fmt: skip


trades = st.floats(1e-3, 4.0)


def subsets(experts: Iterable[int]) -> Iterable[set[int]]:
    every = list(experts)
    return map(set, chain.from_iterable(combinations(every, n) for n in range(len(every) + 1)))


@given(case=cases(), trade=trades)
@settings(max_examples=250, deadline=None)
def test_no_other_set_of_experts_is_better(case: Case, trade: float) -> None:
    least = min(
        case.objective(case.kept_always | more, trade)
        for more in subsets(case.used - case.kept_always)
    )
    found = case.found(trade)

    assert case.kept_always <= found <= case.used
    assert case.objective(found, trade) <= least + 1e-9


@given(case=cases())
@settings(max_examples=80, deadline=None)
def test_a_greater_lambda_never_keeps_what_costs_more(case: Case) -> None:
    kept = [case.found(trade) for trade in (1e-3, 0.05, 0.2, 0.5, 1.0, 3.0, 50.0)]
    costs = [case.cost(experts) for experts in kept]
    lost = [sum(case.losses[expert] for expert in case.used - experts) for experts in kept]

    assert all(after <= before + 1e-9 for before, after in pairwise(costs))
    assert all(after >= before for before, after in pairwise(lost))
    if not case.energy_fraction:
        spans = [case.seconds(experts) for experts in kept]
        assert all(after <= before + 1e-9 for before, after in pairwise(spans))


@given(case=cases(), trade=trades, scale=st.sampled_from([1.37, 0.5, 7.0]))
@settings(max_examples=60, deadline=None)
def test_only_ratios_of_slowness_matter(case: Case, trade: float, scale: float) -> None:
    # Rounding may tell apart what is equally good, so what is compared is how good.
    found, scaled = case.found(trade), case.found(trade, scale)

    assert abs(case.objective(found, trade) - case.objective(scaled, trade)) < 1e-9


@given(case=cases())
@settings(max_examples=30, deadline=None)
def test_at_no_lambda_every_expert_may_be_used(case: Case) -> None:
    assert case.found(0.0) == set(range(len(case.rows)))


def test_by_hand() -> None:
    # Experts 0 to 3 on rank 0, 4 and 5 on rank 1, which takes twice as long: plain takes 4 either
    # way. One step less loses 0.1 and 0.5 tokens, and saves a quarter on rank 0 alone, so nothing;
    # makespan 2, half of the plain one, keeps the two best of rank 0 and the better of rank 1.
    case = Case(
        losses=[WHOLE, WHOLE // 10, WHOLE // 5, WHOLE // 2, WHOLE, WHOLE // 2],
        rows=[1] * 6,
        protected=[False] * 6,
        home=[0, 0, 0, 0, 1, 1],
        slowness=[1.0, 2.0],
        hunger=[1.0, 1.0],
        curve=EXPERTS_ONLY,
        energy_fraction=0.0,
        num_tokens=1,
    )

    # Half of a step is worth 0.1 + 0.2 + 0.5 = 0.8 tokens, so lambda 1.6; the next half 2.5 more.
    assert case.found(1.5) == {0, 1, 2, 3, 4, 5}
    assert case.found(1.7) == {0, 3, 4}
    assert case.found(4.9) == {0, 3, 4}
    assert case.found(5.1) == set()


def tied(slowness: list[float], home: list[int], losses: list[float]) -> Case:
    number = len(losses)
    return Case(
        losses=[int(loss * WHOLE) for loss in losses],
        rows=[1] * number,
        protected=[False] * number,
        home=home,
        slowness=slowness,
        hunger=[1.0] * len(slowness),
        curve=EXPERTS_ONLY,
        energy_fraction=0.0,
        num_tokens=1,
    )


def test_of_equally_good_makespans_the_shortest_is_taken_however_ranks_are_numbered() -> None:
    # Plain takes 2 seconds, so at lambda 4 a second costs 2. 0.75 seconds keep expert 2, worth 2:
    # -0.5. 1 second keeps expert 0 as well, worth 0.5: -0.5 too. Nothing else is below 0.
    losses = [0.5, 0.0, 2.0, 0.25]

    assert tied([1.0, 0.75], [0, 0, 1, 1], losses).found(4.0) == {2}
    assert tied([0.75, 1.0], [1, 1, 0, 0], losses).found(4.0) == {2}


def test_equal_ranks_tie_alike_at_any_slowness() -> None:
    # A quarter of the step for a quarter of the mass, four times: every makespan is as good.
    for slow in torch.linspace(0.3, 3.0, 200, dtype=torch.float64).tolist():
        case = tied([slow, slow], [0, 0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25, 0.0])

        assert case.found(1.0) == set()
