"""Compare a sweep's latency on the CPU with torch.utils.benchmark on the same work.

Both time the same bound kernel in the same process, in turn, so that a change of the machine's
speed meets both alike. Prints the ratio per batch size, and the median.
"""

from __future__ import annotations

import argparse
import statistics

from torch.utils.benchmark import Timer

from moeprof.device.registry import open_device
from moeprof.kernel.opening import open_kernel
from moeprof.measure.settings import StoppingSettings
from moeprof.measure.timing import measure_latency
from moeprof.workload.layer import MoELayer
from moeprof.workload.routing import draw, parse, rows_per_expert
from moeprof.workload.workload import Workload

LAYER = MoELayer("mixtral-8x7b/4", hidden_size=1024, expert_size=3584, num_experts=8, top_k=2)


def workload(batch_size: int) -> Workload:
    """Return one rank's whole layer with uniform routing."""
    ids = draw(parse("uniform"), num_tokens=batch_size, num_experts=8, top_k=2, seed=1)
    return Workload(
        model=LAYER.name,
        layer=LAYER,
        weight_dtype="bf16",
        activation_dtype="bf16",
        batch_size=batch_size,
        routing_pattern="uniform",
        routing_seed=1,
        placement="contiguous:1",
        ep_size=1,
        ep_rank=0,
        tp_size=1,
        rows_per_expert=tuple(rows_per_expert(ids, 8).tolist()),
    )


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", default="torch-loop")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = open_device("cpu", seed=1)
    kernel = open_kernel(arguments.kernel, device)
    stopping = StoppingSettings(relative_half_width_fraction=0.01, seconds_max=2.0)
    ratios = []
    for batch_size in (1, 2, 4, 8, 16):
        work = kernel.bind(workload(batch_size), device, l2_state="cold", seed=1)
        program = device.prepare(work)
        program.run(1.0)
        turn = 0

        def launch(work=work) -> None:  # noqa: ANN001
            nonlocal turn
            work.launch(turn % work.num_buffer_sets)
            turn += 1

        timer = Timer("launch()", globals={"launch": launch}, num_threads=2)
        rounds = []
        for _ in range(arguments.rounds):
            latency, _ = measure_latency(device, program, stopping, None)
            theirs = timer.blocked_autorange(min_run_time=2.0).median
            rounds.append(latency.median.estimate / theirs)
        ratio = statistics.median(rounds)
        ratios.append(ratio)
        print(f"batch {batch_size:3d}: moeprof / torch.utils.benchmark = {ratio:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f}, target 0.95..1.05")


if __name__ == "__main__":
    main()
