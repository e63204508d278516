"""What every benchmark writes beside its numbers: machine, versions, n and spread."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "albumentations", "torch", "scikit-learn")


def write(name: str, result: Mapping[str, Any]) -> None:
    """Writes benchmarks/results/<name>.json and prints it."""
    facts = {
        "commit": _commit(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version(),
                    "system": sys.platform},
        "versions": {library: _version(library) for library in LIBRARIES},
    }
    text = json.dumps({**facts, **result}, indent=2) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text)
    print(text)


def interleaved(contestants: Mapping[str, Callable[[], Any]], *, repeats: int) -> dict[str, list[float]]:
    """Seconds of each contestant, taken in turns within one run, after one warm-up each."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for _ in range(repeats):
        for name, run in contestants.items():
            started = perf_counter()
            run()
            seconds[name].append(perf_counter() - started)
    return seconds


def summary(seconds: list[float]) -> dict[str, float]:
    """Median and quartiles in seconds, and n."""
    low, middle, high = statistics.quantiles(seconds, n=4)
    return {"median": middle, "lower_quartile": low, "upper_quartile": high, "n": len(seconds)}


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    here = Path(__file__).parent            # a benchmark may have gone to a directory of its own
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
