"""Every kernel beside float64, one after the other, with what is known kept after each.

Kernels that the file has already are skipped, so that after a hang or a lost GPU the same command
goes on with the next one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moeprof.device.registry import open_device
from moeprof.errors import DeviceLost
from moeprof.kernel.check.kernel import check_kernel
from moeprof.kernel.registry import kernel_names, loaded_or_absent

# What is most worth knowing, before time is spent.
FIRST = ("moeprof", "stream", "wgmma", "torch-grouped", "triton")
DTYPES = ("bf16", "fp8_block")
LOST = 75  # sysexits.h: EX_TEMPFAIL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", default="cuda:0")
    arguments = parser.parse_args()
    file = arguments.file
    known: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    kernels: dict[str, Any] = known.get("kernels", {})
    names = sorted(kernel_names(), key=lambda name: FIRST.index(name) if name in FIRST else 99)
    device = open_device(arguments.device, seed=0)
    for name in names:
        if name in kernels:
            continue
        keep(file, {"kernels": kernels, "running": {"kernel": name, "since": time.time()}})
        verdict = check_kernel(loaded_or_absent(name), device, dtypes=DTYPES)
        kernels[name] = {
            "passed": verdict.passed,
            "refused": verdict.refused,
            "fault": verdict.fault,
            "cases": [asdict(case) for case in verdict.cases],
        }
        keep(file, {"kernels": kernels, "running": None})
        words = "right" if verdict.passed else verdict.fault or f"refused: {verdict.refused}"
        sys.stderr.write(f"{name}: {words}\n")
        try:
            device.free_bytes()
        except DeviceLost:
            kernels[name]["lost"] = True
            keep(file, {"kernels": kernels, "running": None})
            return LOST
    return 10 if any(each["fault"] for each in kernels.values()) else 0


def keep(file: Path, document: dict[str, Any]) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(document), encoding="utf-8")
    os.replace(temporary, file)  # noqa: PTH105 - at once, or not at all


if __name__ == "__main__":
    sys.exit(main())
