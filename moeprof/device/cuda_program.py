"""Work captured in a CUDA graph, replayed between events to be timed or in a row to make heat."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import torch

from moeprof.device.cuda_errors import as_device_errors, causes
from moeprof.errors import DeviceError, KernelUnsupported
from moeprof.units import seconds_from_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from moeprof.device.protocol import Work

# An event resolves about 0.5 us, so a graph of 1 ms is timed to 0.05 %.
GRAPH_SECONDS = 1e-3
MAX_LAUNCHES = 2048
# Deep enough that the GPU never waits for the host, shallow enough to stop soon after a deadline.
QUEUE_DEPTH = 3
# The first launches may load modules or pick algorithms, which a capture forbids.
WARM_LAUNCHES = 3


class CudaProgram:
    """A graph whose launches rotate through all buffer sets; see `moeprof.device.protocol.Program`.

    A sample replays the graph twice, and times the second: the first keeps the GPU busy while the
    host queues the events, so that no launch latency of the host falls between them.
    """

    launches_per_sample: int

    def __init__(self, work: Work, stream: torch.cuda.Stream, clock: Callable[[], float]) -> None:
        """Capture the work.

        Raises:
            KernelUnsupported: the kernel waits for the GPU or does what a graph cannot hold.
            DeviceOutOfMemory, DeviceLost: as the names say.

        """
        self._work = work  # the graph holds bare pointers into the work's buffers
        self._clock = clock
        self._stream = stream
        self._graph: torch.cuda.CUDAGraph | None = None
        self._start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._stop = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        with as_device_errors("preparing a kernel"), self._on_stream():
            torch.cuda.synchronize()  # the buffers were filled on another stream
            self._warm_up()
            self._capture(rotations=1)
            graph_seconds = self._timed_replay()
            wanted = math.ceil(GRAPH_SECONDS / graph_seconds) if graph_seconds > 0 else MAX_LAUNCHES
            rotations = min(wanted, MAX_LAUNCHES // work.num_buffer_sets)
            if rotations > 1:
                self._capture(rotations)
                self._timed_replay()

    def sample(self) -> float:
        """Return seconds per launch. Raises DeviceLost, DeviceOutOfMemory."""
        with as_device_errors("timing a kernel"), self._on_stream():
            return self._timed_replay() / self.launches_per_sample

    def run(self, seconds: float) -> int:
        """Replay back to back for about `seconds`, wait, and return the launches made.

        Raises DeviceLost, DeviceOutOfMemory.
        """
        replays = 0
        queued: deque[torch.cuda.Event] = deque()
        deadline = self._clock() + seconds
        with as_device_errors("running a kernel"), self._on_stream():
            while replays == 0 or self._clock() < deadline:
                if len(queued) == QUEUE_DEPTH:
                    queued[0].synchronize()
                    queued.rotate(-1)
                else:
                    queued.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
                self._replay()
                queued[-1].record()
                replays += 1
            self._stream.synchronize()
        return replays * self.launches_per_sample

    def close(self) -> None:
        """Free the graph and its memory; the program cannot be used after it."""
        with as_device_errors("freeing a graph"), self._on_stream():
            self._release()

    def _on_stream(self) -> torch.cuda.StreamContext:
        # Entering a stream also makes its device the current one.
        return torch.cuda.stream(self._stream)

    def _warm_up(self) -> None:
        for launch in range(WARM_LAUNCHES):
            self._work.launch(launch % self._work.num_buffer_sets)
        self._stream.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            self._work.launch(0)
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            raise self._not_capturable(error) from error
        finally:
            torch.cuda.set_sync_debug_mode("default")
        self._stream.synchronize()

    def _capture(self, rotations: int) -> None:
        self._release()
        graph = torch.cuda.CUDAGraph()
        launches = rotations * self._work.num_buffer_sets
        # "thread_local": another thread, such as a sensor's, may go on calling CUDA meanwhile.
        recording = torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local")
        try:
            # Memory and fatal errors inside a capture are not about capturing.
            with as_device_errors("capturing a kernel"), recording:
                for launch in range(launches):
                    self._work.launch(launch % self._work.num_buffer_sets)
        except RuntimeError as error:
            if not any("captur" in str(cause) for cause in causes(error)):
                raise
            raise self._not_capturable(error) from error
        self._graph = graph
        self.launches_per_sample = launches

    def _not_capturable(self, error: RuntimeError) -> DeviceError:
        root = tuple(causes(error))[-1]
        return KernelUnsupported(
            f"the kernel cannot be captured in a CUDA graph: {str(root).splitlines()[0]}",
            hint="Let the kernel neither wait for the GPU nor read its results on the host.",
        )

    def _timed_replay(self) -> float:
        self._replay()
        self._start.record()
        self._replay()
        self._stop.record()
        self._stop.synchronize()
        return seconds_from_ms(self._start.elapsed_time(self._stop))

    def _replay(self) -> None:
        assert self._graph is not None, "the program was closed"
        self._graph.replay()

    def _release(self) -> None:
        if self._graph is not None:
            self._stream.synchronize()
            self._graph.reset()
            self._graph = None
