"""The attention pair's seconds and share of the read-only ceiling, over contexts; needs a GPU."""

from __future__ import annotations

import statistics
import sys

from moeprof.device.registry import open_device
from moeprof.errors import MoeprofError
from moeprof.kernel.attention import AttentionWorkload
from moeprof.kernel.cuda.mla_work import bind_mla
from moeprof.kernel.cuda.read_only_work import bind_read_only

READ_BYTES = 2**30
ROUNDS = 21


def main() -> None:
    """Time every context beside the read-only kernel and print a line for each."""
    try:
        device = open_device("cuda:0", seed=0)
    except MoeprofError as error:
        sys.exit(f"error: {error.message}")
    reading = device.prepare(bind_read_only(READ_BYTES, device))
    print("requests  context  MB of cache      us   share of the read-only ceiling")
    for batch_size in (1, 8, 64):
        for context_length in (1024, 4096, 16384):
            workload = AttentionWorkload(128, 512, 64, batch_size, context_length)
            pair = device.prepare(bind_mla(workload, device, l2_state="cold", seed=0))
            # Side by side, so that what changes with time changes both.
            rounds = [(pair.sample(), reading.sample()) for _ in range(ROUNDS)]
            pair.close()
            seconds = statistics.median(own for own, _ in rounds)
            read_seconds = statistics.median(other for _, other in rounds)
            ceiling = READ_BYTES / read_seconds
            share = (workload.cache_bytes + workload.activation_bytes) / seconds / ceiling
            print(
                f"{batch_size:8} {context_length:8} {workload.cache_bytes / 1e6:12.1f} "
                f"{seconds * 1e6:8.1f} {share:8.1%}"
            )


if __name__ == "__main__":
    main()
