from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from moeprof.kernel.engines import ENGINE_KERNELS
from moeprof.kernel.engines.importing import Need, Package, missing, version_of, versions_of

if TYPE_CHECKING:
    from collections.abc import Callable


def _package(need: Need) -> Package:
    return Package("engine", "engine-moe", "2.0", (need,))


def _fused(tokens: Any, weights: Any, *, scale: float = 1.0) -> None: ...


CALL = Need("engine_moe.ops", "fused", ("tokens", "weights"))


@pytest.mark.parametrize("name", ENGINE_KERNELS)
def test_every_kernel_opens_by_its_own_name(name: str) -> None:
    module, attribute = ENGINE_KERNELS[name]
    kernel = getattr(import_module(module), attribute)()

    assert kernel.name == name
    assert "torch" in kernel.versions()


def test_an_absent_package_names_what_to_install() -> None:
    assert missing(_package(CALL)) == "engine is not installed: pip install engine-moe"
    assert version_of("engine-moe") is None
    assert list(versions_of("engine-moe", "pytest")) == ["pytest"]


def test_a_package_that_fits_is_not_missing(install: Callable[..., None]) -> None:
    install("engine-moe", "1.5", {"engine_moe.ops": {"fused": _fused}})

    assert missing(_package(CALL)) is None


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        (
            Need("engine_moe.fast", "fused"),
            "engine 1.5 has no engine_moe.fast; 2.0 has",
        ),
        (
            Need("engine_moe.ops", "other"),
            "engine 1.5 has no engine_moe.ops.other; 2.0 has",
        ),
        (
            Need("engine_moe.ops", "fused", ("tokens", "weights", "ids")),
            "engine 1.5 is not the 2.0 that this adapter knows: fused takes no ids",
        ),
        (
            Need("engine_moe.ops", "fused", ("tokens",)),
            "engine 1.5 is not the 2.0 that this adapter knows: fused asks for weights",
        ),
    ],
)
def test_what_differs_is_named(install: Callable[..., None], need: Need, reason: str) -> None:
    install("engine-moe", "1.5", {"engine_moe.ops": {"fused": _fused}})

    assert missing(_package(need)) == reason


def test_a_package_that_breaks_on_import_says_why(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("engine-moe", "1.5", {"engine_moe.ops": {"fused": _fused}})

    def breaking(name: str) -> None:
        raise OSError(f"libcudart.so.13: cannot open\n(of {name})")

    monkeypatch.setattr("moeprof.kernel.engines.importing.import_module", breaking)

    assert missing(_package(CALL)) == (
        "engine 1.5 does not import here: libcudart.so.13: cannot open"
    )
