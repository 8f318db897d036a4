"""The kernel `auto`: for each workload the fastest of those that are right."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, Final, cast

from moeprof.device.simulated_work import SimulatedWork
from moeprof.errors import DeviceLost, KernelUnsupported, MoeprofError
from moeprof.kernel.check.verdict import CheckFailed
from moeprof.kernel.protocol import Choice, choice_of
from moeprof.kernel.registry import AUTO, candidate_names, loaded_or_absent
from moeprof.kernel.simulated import SimulatedKernel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moeprof.device.protocol import Device, DeviceIdentity, Program, Work
    from moeprof.kernel.protocol import Kernel, L2State
    from moeprof.workload.workload import Workload

# Medians of so few samples tell kernels apart that differ by some percent; closer ones do not
# matter.
_NUM_ROUNDS: Final = 7
_STAND_IN: Final = "moeprof"  # of all kernels, where the device is simulated

_Key = tuple[object, ...]


def open_auto(device: Device) -> Kernel:
    """Return the kernel that chooses among all others, or its stand-in on a simulated device."""
    if device.identity.simulated:
        return SimulatedAuto()
    names = candidate_names(device.identity.kind)
    return AutoKernel({name: loaded_or_absent(name) for name in names})


class AutoKernel:
    """Times the candidates that pass their check, side by side, and binds the fastest.

    A choice is remembered for the same sizes, dtype, rows and L2 state as long as this object
    lives. Of equally fast kernels the one that is named first is taken.
    """

    name = AUTO

    def __init__(self, candidates: Mapping[str, Kernel]) -> None:
        self._candidates = dict(candidates)
        self._chosen: dict[_Key, str] = {}

    def refusal(self, workload: Workload, identity: DeviceIdentity) -> str | None:
        """Return why no candidate takes this workload, or None if one does."""
        reasons = {}
        for name, kernel in self._candidates.items():
            if (reason := kernel.refusal(workload, identity)) is None:
                return None
            reasons[name] = reason
        return _no_kernel(reasons)

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Choose where that was not done, and return the fastest kernel's work.

        Raises:
            KernelUnsupported: no candidate runs it.
            CheckFailed: those that do are wrong.
            DeviceOutOfMemory, DeviceLost: as the names say.

        """
        name = self.choose(workload, device, l2_state=l2_state, seed=seed)
        work = self._candidates[name].bind(workload, device, l2_state=l2_state, seed=seed)
        return cast("Work", ChosenWork(work, name))

    def versions(self) -> dict[str, str]:
        """Return the versions of all that could be chosen: they decide what is."""
        versions: dict[str, str] = {}
        for kernel in self._candidates.values():
            versions |= kernel.versions()
        return versions

    def choose(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> str:
        """Return the name of the fastest candidate. Raises what `bind` raises."""
        key = _key(workload, l2_state)
        if key not in self._chosen:
            self._chosen[key] = self._fastest(workload, device, l2_state=l2_state, seed=seed)
        return self._chosen[key]

    def _fastest(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> str:
        # Torch comes with the check, and a simulated sweep does without.
        from moeprof.kernel.check.quick import quick_check  # noqa: PLC0415

        programs: dict[str, Program] = {}
        reasons: dict[str, str] = {}
        failed = False
        try:
            for name, kernel in self._candidates.items():
                if (reason := kernel.refusal(workload, device.identity)) is not None:
                    reasons[name] = reason
                    continue
                try:
                    with device.translating_errors(f"trying {name}"):
                        work = kernel.bind(workload, device, l2_state=l2_state, seed=seed)
                        verdict = quick_check(kernel, device, workload, choice=choice_of(work))
                        if verdict.passed:
                            programs[name] = device.prepare(work)
                            continue
                    failed = failed or verdict.fault is not None
                    words = verdict.refused or f"failed its check: {verdict.fault}"
                    reasons[name] = words
                except DeviceLost:
                    raise
                except MoeprofError as error:
                    reasons[name] = error.message
                except Exception as error:  # noqa: BLE001 - a candidate may fail; the choice may not
                    reasons[name] = f"{type(error).__name__}: {error}"
            if not programs and failed:
                raise CheckFailed(_no_kernel(reasons))
            if not programs:
                raise KernelUnsupported(_no_kernel(reasons), hint="Name a kernel instead of auto.")
            return _fastest_program(programs)
        finally:
            for program in programs.values():
                program.close()


class ChosenWork:
    """The fastest kernel's work, which says whose it is; a launch is the kernel's own."""

    def __init__(self, work: Work, name: str) -> None:
        self._work = work
        self.launch = work.launch
        inner = choice_of(work)
        self.choice = Choice(
            kernel=name if inner.kernel is None else f"{name}/{inner.kernel}",
            version=inner.version,
            config_file=inner.config_file,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


class SimulatedAuto(SimulatedKernel):
    """On a simulated device, which prices names, `auto` stands for moeprof's tuned kernel."""

    def __init__(self) -> None:
        super().__init__(_STAND_IN)
        self._priced = self.name
        self.name = AUTO

    def bind(self, workload: Workload, device: Device, *, l2_state: L2State, seed: int) -> Work:
        """Return what the device prices. Raises KernelUnsupported."""
        del seed
        if (reason := self.refusal(workload, device.identity)) is not None:
            raise KernelUnsupported(f"{self.name}: {reason}", hint="Choose another workload.")
        return cast("Work", SimulatedChoice(workload, self._priced, l2_state))


class SimulatedChoice(SimulatedWork):
    """Simulated work that says which kernel's price it is."""

    __slots__ = ()

    @property
    def choice(self) -> Choice:
        """The kernel that is priced."""
        return Choice(kernel=self.kernel)


def _key(workload: Workload, l2_state: str) -> _Key:
    layer = workload.layer
    return (
        (layer.hidden_size, workload.local_expert_size, layer.top_k, workload.batch_size),
        (workload.weight_dtype, workload.activation_dtype),
        workload.rows_per_expert,
        l2_state,
    )


def _fastest_program(programs: Mapping[str, Program]) -> str:
    """Return the name with the smallest median; samples of all are taken in turn."""
    samples: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(_NUM_ROUNDS if len(programs) > 1 else 0):
        for name, program in programs.items():
            samples[name].append(program.sample())
    return min(programs, key=lambda name: median(samples[name] or [0.0]))


def _no_kernel(reasons: Mapping[str, str]) -> str:
    """Return every reason once, with the kernels that have it."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    told = (f"{', '.join(those)}: {reason}" for reason, those in names.items())
    return f"no kernel takes it; {'; '.join(told)}"
