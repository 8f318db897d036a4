"""The GPU suite: tests, kernel checks, tuning, bench and a sweep, in ten minutes, as one table.

Runs straight from the source tree with any Python that has torch: nothing of moeprof need be
installed. Each stage is a process of its own with its own budget; one that fails, hangs or loses
the GPU does not stop the others. What it finds is in few files of one flat folder.

    python3 tests/gpu/run.py --out DIR [--device cpu] [--stages checks,bench] [--wheels FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Seconds; all stages together, with what starting and ending them takes, stay below ten minutes.
TOTAL_SECONDS = 585
GRACE_SECONDS = 8  # between being told to stop and being stopped
# Benches stop by themselves so much before their stage's budget ends: the last point, the files.
MARGIN_SECONDS = 25


@dataclass(frozen=True)
class Stage:
    """One part of the suite; what stages before it did not need of their seconds it may use."""

    name: str
    seconds: int
    words: tuple[str, ...]
    bounded: bool = False  # takes --seconds


@dataclass(frozen=True)
class Ended:
    """How a stage ended; `detail` is its last line where that was badly."""

    name: str
    outcome: str
    seconds: float
    detail: str


@dataclass(frozen=True)
class Suite:
    """Where stages run and what they share."""

    device: str
    out: Path
    scratch: Path
    environment: dict[str, str]
    log: Any


STAGES = (
    # They compile every variant, which the stages after them find in the cache.
    Stage("tests", 105, ()),
    Stage("checks", 90, ()),
    Stage("tune", 55, ("kernels", "tune", "--tokens", "1,4,16,64"), bounded=True),
    Stage("bench", 225, ("kernels", "bench", "--rounds", "20"), bounded=True),
    Stage("sweep", 105, ("sweep", "quickstart")),
)
# Without a GPU the suite is only tried: a layer of kilobytes.
CPU_BENCH = ("kernels", "bench", "--rounds", "10", "--model", "tiny", "--tokens", "1,4")
# moeprof.errors.ExitCode; the suite imports nothing of moeprof, whose imports may be what fails.
# 75 is the checks' own.
OUTCOMES = {0: "ok", 4: "refused", 10: "wrong", 75: "lost"}
OURS = ("moeprof", "stream", "wgmma")
CHECKS = "checks.json"
# The longest that a right kernel takes to be built and checked, thrice.
HANG_SECONDS = 45
# What is kept in one archive: the files of the bench that bench.json has all of, and the dataset.
PACKED = ("bench.csv", "bench.md", "bench.parquet")
PACK = "rest.tar.gz"


def main() -> int:
    arguments = parsed()
    out = Path(arguments.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    wanted = arguments.stages.split(",") if arguments.stages else [each.name for each in STAGES]
    environment = environment_of(out, arguments.wheels)
    end = time.monotonic() + TOTAL_SECONDS
    # What a skipped or timed-out stage leaves must not be of an earlier run.
    for name in ("bench.json", CHECKS, "tuned.json", PACK, "suite.log"):
        (out / name).unlink(missing_ok=True)
    wanted_stages = [stage for stage in STAGES if stage.name in wanted]
    ended = []
    with (
        (out / "suite.log").open("a", encoding="utf-8") as log,
        tempfile.TemporaryDirectory(prefix="moeprof-gpu-") as scratch,
    ):
        suite = Suite(arguments.device, out, Path(scratch), environment, log)
        for place, stage in enumerate(wanted_stages):
            later = sum(each.seconds for each in wanted_stages[place + 1 :])
            ended.append(run_stage(stage, suite, end - later - time.monotonic()))
            say(f"{stage.name}: {ended[-1].outcome} after {ended[-1].seconds:.0f} s")
        pack(Path(scratch), out)
    lines = summary(ended, out)
    say("\n".join(lines))
    (out / "suite.md").write_text("```\n" + "\n".join(lines) + "\n```\n", encoding="utf-8")
    return 0 if all(each.outcome == "ok" for each in ended) else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.environ.get("OUT", "gpu-out"), help="a folder")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu to try the suite")
    parser.add_argument("--stages", help=f"some of {','.join(each.name for each in STAGES)}")
    parser.add_argument("--wheels", help="a folder of wheels or packages to import from")
    return parser.parse_args()


def environment_of(out: Path, wheels: str | None) -> dict[str, str]:
    """Return the environment of every stage: the tree and the wheels first on the path."""
    places = [str(ROOT)]
    if wheels is not None:
        folder = Path(wheels).absolute()
        # Pure wheels can be imported as they are; others must have been unpacked into the folder.
        places += [str(folder), *(str(each) for each in sorted(folder.glob("*.whl")))]
    if inherited := os.environ.get("PYTHONPATH"):
        places.append(inherited)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(places),
        "PYTHONDONTWRITEBYTECODE": "1",  # the tree may be read-only
        "PYTHONUNBUFFERED": "1",
    }


def run_stage(stage: Stage, suite: Suite, seconds: float) -> Ended:
    """Run one stage to its end or to its budget's, with all that it says in the log."""
    if seconds < MARGIN_SECONDS:
        return Ended(stage.name, "skipped", 0.0, "no time was left")
    if stage.name == "tune" and (broken := set(dangerous(suite.out)) & set(OURS)):
        return Ended(stage.name, "skipped", 0.0, f"{', '.join(sorted(broken))}: see the checks")
    command = command_of(stage, suite, seconds)
    suite.log.write(f"\n===== {stage.name}: {' '.join(command)}\n")
    suite.log.flush()
    begin, start = Path(suite.log.name).stat().st_size, time.monotonic()
    while True:
        left = seconds - (time.monotonic() - start)
        outcome = run_process(command, suite, left, watched=stage.name == "checks")
        if outcome not in {"hung", "lost"}:
            break  # else the same command goes on with the kernel after that
    detail = "" if outcome == "ok" else last_line(Path(suite.log.name), begin)
    return Ended(stage.name, outcome, time.monotonic() - start, detail)


def run_process(command: list[str], suite: Suite, seconds: float, *, watched: bool) -> str:
    """Run a command for at most `seconds`, and return how it ended.

    Where it is `watched`, it is also ended when one kernel's check takes too long.
    """
    tuned = suite.out / "tuned.json"
    environment = suite.environment | ({"MOEPROF_TUNED": str(tuned)} if tuned.is_file() else {})
    process = subprocess.Popen(
        command,
        cwd=suite.scratch,  # where nothing of the tree is found by chance
        env=environment,
        stdout=suite.log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    end = time.monotonic() + seconds
    try:
        while True:
            try:
                code = process.wait(1.0)
            except subprocess.TimeoutExpired:
                if watched and note_hang(suite.out / CHECKS):
                    stop(process)
                    return "hung"
                if time.monotonic() > end:
                    stop(process)
                    return "out of time"
            else:
                return OUTCOMES.get(code, f"exit {code}")
    except BaseException:
        stop(process)
        raise


def note_hang(file: Path) -> bool:
    """Note the kernel whose check has run for too long, and return whether there is one."""
    document = read_json(file) or {}
    running = document.get("running")
    if not running or time.time() - running["since"] < HANG_SECONDS:
        return False
    fault = f"hung: no result within {HANG_SECONDS} s"
    document["kernels"][running["kernel"]] = {"passed": False, "fault": fault, "lost": True}
    document["running"] = None
    file.write_text(json.dumps(document), encoding="utf-8")
    return True


def dangerous(out: Path) -> list[str]:
    """Return the kernels that hung, or after whose check the GPU was gone."""
    kernels = (read_json(out / CHECKS) or {}).get("kernels", {})
    return [name for name, each in kernels.items() if each.get("lost")]


def command_of(stage: Stage, suite: Suite, seconds: float) -> list[str]:
    if stage.name == "tests":
        # Only files with such tests: others may import what is not here.
        files = [
            str(path)
            for path in sorted((ROOT / "tests").rglob("test_*.py"))
            if "mark.gpu" in path.read_text(encoding="utf-8")
        ]
        # A library's warning is no fault of a kernel.
        options = ("-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", "--durations=5")
        rooted = ("--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"))
        return [sys.executable, "-m", "pytest", *rooted, *options, *files]
    if stage.name == "checks":
        script = str(Path(__file__).with_name("checks.py"))
        return [sys.executable, script, str(suite.out / CHECKS), "--device", suite.device]
    on_cpu = not suite.device.startswith("cuda")
    words = CPU_BENCH if on_cpu and stage.name == "bench" else stage.words
    places = {
        "bench": suite.out,
        "tune": suite.out / "tuned.json",
        "sweep": suite.scratch / "quickstart",
    }
    out = ("--out", str(places[stage.name])) if stage.name in places else ()
    if stage.name == "bench" and (broken := dangerous(suite.out)):
        # One kernel that hangs would take the others' time.
        checked = read_json(suite.out / CHECKS) or {}
        right = [name for name, each in checked["kernels"].items() if each["passed"]]
        words = (*words, *right, *(() if right else broken))
    until = ("--seconds", f"{seconds - MARGIN_SECONDS:.0f}") if stage.bounded else ()
    return [sys.executable, "-m", "moeprof", *words, "--device", suite.device, *out, *until]


def stop(process: subprocess.Popen[Any]) -> None:
    """Ask the stage to end, and end it with all that it started if it does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            return


def last_line(path: Path, begin: int) -> str:
    with path.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    told = [line for line in lines if line.startswith(("error:", "FAILED", "ERROR"))] or lines[-1:]
    return told[0][:150] if told else "it said nothing"


def pack(scratch: Path, out: Path) -> None:
    """Put what is many files, or is in others as well, into one."""
    found = [(out / name, name) for name in PACKED if (out / name).is_file()]
    if (scratch / "quickstart").is_dir():
        found.append((scratch / "quickstart", "quickstart"))
    if not found:
        return
    with tarfile.open(out / PACK, "w:gz") as archive:
        for path, name in found:
            archive.add(path, name)
    for name in PACKED:
        (out / name).unlink(missing_ok=True)


def summary(ended: list[Ended], out: Path) -> list[str]:
    """Return the one table: stages, checks, bandwidth by model, targets."""
    lines = ["", "stage    outcome       time"]
    lines += [f"{e.name:<8} {e.outcome:<12} {e.seconds:4.0f} s  {e.detail}".rstrip() for e in ended]
    bench = read_json(out / "bench.json")
    lines += check_lines(read_json(out / CHECKS)) + bench_lines(bench)
    rows = [
        (
            each["held"],
            each["name"],
            each["wanted"],
            "-" if each["achieved"] is None else f"{each['achieved']:.3f}",
            f"{each['num_points']} of {each['num_wanted']} points",
            each["where"] or "",
        )
        for each in (bench or {}).get("targets", [])
    ]
    lines += ["", "targets", *columns(rows or [("not measured", "the bench has left no file")])]
    return lines


def check_lines(checks: dict[str, Any] | None) -> list[str]:
    rows = []
    for name, each in (checks or {}).get("kernels", {}).items():
        told = "right" if each.get("passed") else "WRONG" if each.get("fault") else "refused"
        cases = [case for case in each.get("cases", []) if not case.get("refusal")]
        detail = each.get("fault") or each.get("refused") or ""
        rows.append((told, name, f"{len(cases)} cases", str(detail)[:110]))
    if running := (checks or {}).get("running"):
        rows.append(("unfinished", running["kernel"], "", "the time was spent"))
    return ["", "checks", *columns(rows)] if rows else []


def bench_lines(bench: dict[str, Any] | None) -> list[str]:
    """Return, for every point, each kernel's time and share of the ceiling."""
    rows = []
    for point in (bench or {}).get("points", []):
        megabytes = point["touched_bytes"] / 1e6
        what = f"{point['model']} {point['weight_dtype']} B={point['batch_size']}"
        timed = [row for row in point["rows"] if row["latency"] is not None]
        timed.sort(key=lambda row: row["latency"]["estimate"])
        told = "  ".join(f"{row['kernel']} {timing(row)}" for row in timed)
        rows.append((what, f"{megabytes:.0f} MB", told or "nothing ran"))
    return ["", "bench (fastest first; share of the read ceiling)", *columns(rows)] if rows else []


def timing(row: dict[str, Any]) -> str:
    microseconds = row["latency"]["estimate"] * 1e6
    fraction = row["bandwidth_fraction"]
    share = "" if fraction is None else f" {fraction['estimate']:.0%}"
    mark = "!" if row["status"] == "impossible" else ""
    return f"{microseconds:.1f}us{share}{mark}"


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths: dict[int, int] = {}
    for row in rows:
        for place, cell in enumerate(row):
            widths[place] = max(widths.get(place, 0), len(cell))
    return [
        "  ".join(cell.ljust(widths[place]) for place, cell in enumerate(row)).rstrip()
        for row in rows
    ]


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - the suite's report


if __name__ == "__main__":
    sys.exit(main())
