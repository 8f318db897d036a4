"""Training runs spread over the cores of this machine, one thread each."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from typing import TYPE_CHECKING, Any, Final

import torch

from moeprof.errors import DeviceError, LossDiverged
from moeprof.processes import begin_worker, single_threaded
from moeprof.training.run import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from moeprof.training.events import StepDone, TrainingStarted
    from moeprof.training.figures import Figures
    from moeprof.training.run import TrainingRequest

_LOOK_SECONDS: Final = 0.5
_STOP: Final[list[Any]] = []  # a worker's own: the event that asks it to stop


class _Unwatched:
    def started(self, event: TrainingStarted) -> None:
        pass

    def stepped(self, event: StepDone) -> None:
        pass

    def judging(self, what: str) -> None:
        pass


def trained(
    requests: Sequence[TrainingRequest],
    *,
    num_workers: int,
    stop_requested: Callable[[], bool],
) -> Iterator[tuple[int, Figures | str]]:
    """Yield the figures of each request, by its index, as they are done.

    Of one whose loss grew without bound it is what was said of it. A request to stop reaches every
    worker: it keeps where it is, and yields nothing. What else a worker raises is raised here, with
    the others ended; DeviceError where one was ended from outside.
    """
    context = get_context("spawn")  # a fork would copy locks that torch's threads may hold
    stop = context.Event()
    with (
        single_threaded(),
        ProcessPoolExecutor(
            num_workers, mp_context=context, initializer=_begin_worker, initargs=(stop,)
        ) as pool,
    ):
        running = {pool.submit(_train_one, each): index for index, each in enumerate(requests)}
        try:
            while running:
                done, _ = wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                if stop_requested():
                    stop.set()
                    for future in running:
                        future.cancel()
                for future in done:
                    index = running.pop(future)
                    outcome = None if future.cancelled() else future.result()
                    if outcome is not None:
                        yield index, outcome
        except BrokenProcessPool as error:
            raise DeviceError(
                "a worker of the study was ended from outside, perhaps for want of memory",
                hint="The same command goes on with what is not done.",
            ) from error
        except BaseException:
            # What runs would go on for minutes, and nobody waits for it any more.
            for child in active_children():
                child.terminate()
            raise


def _train_one(request: TrainingRequest) -> Figures | str | None:
    (stop,) = _STOP
    try:
        return train(request, observer=_Unwatched(), stop_requested=stop.is_set).figures
    except LossDiverged as error:
        return error.message


def _begin_worker(stop: Any) -> None:
    begin_worker()
    torch.set_num_threads(1)
    _STOP.append(stop)
