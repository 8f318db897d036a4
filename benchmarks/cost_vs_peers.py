"""moeprof's cost model against its peers on one of aiconfigurator's own MoE tables.

Every method is fitted to the same rows and judged on the same others: the peers' methods as
moeprof has them, aiconfigurator's real engine with its MoE table cut to the training rows, and
moeprof's model. Needs `pip install 'moeprof[aic]'`. For example:

    python benchmarks/cost_vs_peers.py --system h200_sxm --engine vllm --version 0.24.0 \
        --split shape --out results.json
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import math
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from moeprof.cost.fit import fit_cost
from moeprof.cost.holdout import Holdout, Split, outside_range, splits
from moeprof.cost.peers import PEERS
from moeprof.cost.points import observed_from_table, points_from_table, usable
from moeprof.cost.score import Score, regimes, score, score_by_regime
from moeprof.cost.suspect import fit_weights, suspects
from moeprof.dataset.importers import aiconfigurator
from moeprof.dataset.importers.package import choose, moe_tables, package_folder
from moeprof.dataset.importers.points import to_table
from moeprof.errors import MoeprofError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from moeprof.cost.points import Observed, Points

SPLITS = ("random", "tokens", "beyond", "shape")
REGIMES = ("all", "decode", "beyond", "outside")
SEED = 0
MS_PER_SECOND = 1e3
NUM_CONTROLS = 2000  # training rows asked again of the engine that has them
# The engine holds these rows apart, under the same keys as others, and a query cannot name them.
MIN_LATENCY_TABLE = "moe_torch_flow_min_latency"


@dataclass(frozen=True, slots=True)
class Bench:
    """One table: its file, its rows there, and the same rows as points with what they cost."""

    system: str
    engine: str
    version: str
    path: Path
    rows: pa.Table
    points: Points
    observed: Observed
    weight: NDArray[np.float64]

    @property
    def latency_seconds(self) -> NDArray[np.float64]:
        """What is predicted, [num_points]."""
        return self.observed.latency_seconds


Prediction = tuple[
    "NDArray[np.float64]", "NDArray[np.float64] | None", "NDArray[np.float64] | None"
]


def load(system: str, engine: str, version: str) -> Bench:
    """Read a table of the installed package, as points and as its engine reads it."""
    folder = package_folder()
    (found,) = choose(moe_tables(folder), system=system, engine=engine, version=version)
    imported = to_table(
        aiconfigurator.read_points(found.path), run_id="bench", recorded_at=datetime.now(UTC)
    )
    kept = usable(imported)
    for reason, number in kept.num_left_out.items():
        print(f"left out: {number} rows, {reason}", file=sys.stderr)
    rows = pq.read_table(found.path, partitioning=None).take(pa.array(kept.rows))
    apart = pc.equal(rows["kernel_source"].cast(pa.string()), MIN_LATENCY_TABLE)
    if number := pc.sum(apart).as_py():
        print(f"left out: {number} rows of {MIN_LATENCY_TABLE}", file=sys.stderr)
    table, rows = kept.table.filter(pc.invert(apart)), rows.filter(pc.invert(apart))
    points, observed = points_from_table(table), observed_from_table(table)
    weight = fit_weights(suspects(points, observed), len(points), "latency_seconds")
    return Bench(system, engine, version, found.path, rows, points, observed, weight)


def peer(name: str) -> Callable[[Bench, Split], Prediction]:
    """Return one of moeprof's implementations of the peers' methods."""

    def predict(bench: Bench, split: Split) -> Prediction:
        train = bench.points.take(split.train)
        fitted = PEERS[name].fit(train, bench.latency_seconds[split.train])
        return fitted.predict(bench.points.take(split.test)), None, None

    return predict


def moeprof_model(bench: Bench, split: Split) -> Prediction:
    """Return moeprof's model, with its intervals."""
    train = split.train
    model = fit_cost(bench.points.take(train), bench.observed.take(train), bench.weight[train])
    found = model.seconds(bench.points.take(split.test))
    return found.value, found.low, found.high


class Engine:
    """aiconfigurator's engine, given a table that has the training rows only."""

    def __init__(self, bench: Bench, train: NDArray[np.bool_], folder: Path) -> None:
        """Lay out a folder of systems that differs from the package's in one table."""
        self._bench = bench
        systems = package_folder() / "systems"
        _mirror(systems, folder, bench.path.relative_to(systems).parts)
        cut = folder / bench.path.relative_to(systems)
        pq.write_table(bench.rows.filter(pa.array(train)), cut)
        database = importlib.import_module("aiconfigurator_core.sdk.perf_database")
        database.set_systems_paths(str(folder))
        self._database = database.get_database_view(
            bench.system,
            bench.engine,
            bench.version,
            systems_paths=str(folder),
            database_mode="HYBRID",
            # No rows of other versions or engines: they hold the very points that are held out.
            shared_layer=False,
            allow_unlisted_version=True,
        )
        self._moe = importlib.import_module("aiconfigurator_core.sdk.operations.moe").MoE
        self._modes = importlib.import_module("aiconfigurator_core.sdk.common").MoEQuantMode

    def seconds(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what the engine predicts for some rows of the table, [len(index)]."""
        columns = {
            name: self._bench.rows[name].take(pa.array(index)).to_pylist()
            for name in self._bench.rows.column_names
        }
        gated = (self._bench.points.num_projections[index] > 2).tolist()  # noqa: PLR2004
        found = np.empty(len(index))
        for place, is_gated in enumerate(gated):
            row = {name: values[place] for name, values in columns.items()}
            found[place] = self._one(row, is_gated=is_gated)
        return found

    def _one(self, row: dict[str, Any], *, is_gated: bool) -> float:
        operation = self._moe(
            "moe",
            1.0,
            row["hidden_size"],
            row["inter_size"],
            row["topk"],
            row["num_experts"],
            row["moe_tp_size"],
            row["moe_ep_size"],
            self._modes[row["moe_dtype"]],
            row["distribution"],
            1,
            is_gated=is_gated,
        )
        milliseconds = operation._engine_query(self._database, x=row["num_tokens"])  # noqa: SLF001
        return float(milliseconds) / MS_PER_SECOND


def engine(bench: Bench, split: Split) -> Prediction:
    """Return aiconfigurator's predictions, after the control that training rows are hit exactly."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Engine(bench, split.train, Path(folder))
        known = np.flatnonzero(split.train)
        some = np.random.default_rng(SEED).permutation(known)[:NUM_CONTROLS]
        control = score(bench.latency_seconds[some], asked.seconds(some))
        assert control is not None
        print(
            f"control, aiconfigurator on {control.num_rows} of its own rows ({split.name}): "
            f"median {control.median_ape_fraction:.2%}, p90 {control.p90_ape_fraction:.2%}, "
            f"mean {control.mean_ape_fraction:.2%}"
        )
        return asked.seconds(np.flatnonzero(split.test)), None, None


def _mirror(source: Path, target: Path, changed: tuple[str, ...]) -> None:
    """Link everything in `source` into `target`, but make the folders down to `changed` anew."""
    head, *rest = changed
    target.mkdir(exist_ok=True)
    for entry in source.iterdir():
        if entry.name != head:
            (target / entry.name).symlink_to(entry)
    if rest:
        _mirror(source / head, target / head, tuple(rest))


def judge(
    method: Callable[[Bench, Split], Prediction], bench: Bench, parts: tuple[Split, ...]
) -> dict[str, Score]:
    """Return a method's score in each regime, over the held-out rows of all parts."""
    num = len(bench.points)
    predicted, low, high = (np.full(num, np.nan) for _ in range(3))
    held, outside = np.zeros(num, dtype=bool), np.zeros(num, dtype=bool)
    for split in parts:
        held |= split.test
        outside[split.test] = outside_range(
            bench.points.take(split.train), bench.points.take(split.test)
        )
        predicted[split.test], lower, upper = method(bench, split)
        if lower is not None and upper is not None:
            low[split.test], high[split.test] = lower, upper
    masks = regimes(bench.points.take(held), outside[held])
    bounds = (None, None) if np.isnan(low[held]).all() else (low[held], high[held])
    return score_by_regime(masks, bench.latency_seconds[held], predicted[held], *bounds)


def lines(results: dict[str, dict[str, Score]]) -> Iterator[str]:
    """Return the table's lines: median / mean / p90 of the absolute error, in %."""
    names = [name for name in REGIMES if any(name in each for each in results.values())]
    yield f"{'median / mean / p90 error, %':30}" + "".join(f"{name:>24}" for name in names)
    for method, found in results.items():
        cells = [_cell(found.get(name)) for name in names]
        yield f"{method:30}" + "".join(f"{cell:>24}" for cell in cells)
    counts = next(iter(results.values()))
    yield f"{'rows':30}" + "".join(
        f"{counts[name].num_rows if name in counts else 0:>24}" for name in names
    )


def _cell(found: Score | None) -> str:
    if found is None:
        return "-"
    errors = (found.median_ape_fraction, found.mean_ape_fraction, found.p90_ape_fraction)
    text = " / ".join("inf" if math.isinf(each) else f"{100 * each:.1f}" for each in errors)
    coverage = found.interval_coverage_fraction
    return text if coverage is None else f"{text} ({coverage:.0%})"


def main() -> None:
    """Fit, judge, and print."""
    parser = argparse.ArgumentParser(description="moeprof's cost model against its peers")
    parser.add_argument("--system", default="h200_sxm")
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--version", default="0.24.0")
    parser.add_argument("--split", choices=SPLITS, default="shape")
    parser.add_argument("--methods", nargs="*", help="some of the methods; all without it")
    parser.add_argument("--out", type=Path, help="a JSON file of the scores")
    arguments = parser.parse_args()
    os.environ.setdefault("AICONFIGURATOR_LOG_LEVEL", "ERROR")
    logging.disable(logging.WARNING)
    try:
        bench = load(arguments.system, arguments.engine, arguments.version)
        parts = splits(bench.points, Holdout(arguments.split), SEED)
    except MoeprofError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
    methods = {name: peer(name) for name in PEERS} | {
        "aiconfigurator": engine,
        "moeprof": moeprof_model,
    }
    results, seconds = {}, {}
    for name in arguments.methods or methods:
        start = time.perf_counter()
        try:
            results[name] = judge(methods[name], bench, parts)
        except (MoeprofError, ModuleNotFoundError) as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            continue
        seconds[name] = time.perf_counter() - start
    title = f"{arguments.system} / {arguments.engine} {arguments.version}"
    print(f"\n{title}, held out: {arguments.split}, {len(bench.points)} rows")
    print("\n".join(lines(results)))
    if arguments.out is not None:
        found = {
            name: {regime: each.to_json() for regime, each in by_regime.items()}
            for name, by_regime in results.items()
        }
        document = {"table": title, "holdout": arguments.split, "methods": found}
        arguments.out.write_text(json.dumps(document | {"seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
