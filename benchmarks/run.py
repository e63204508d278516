"""A whole run as a benchmark: `pipeline repro` in this directory, its stage times, peak memory, and leaderboard.

    cp presets/ndsb.yaml params.yaml && python benchmarks/run.py ndsb-cpu

Writes benchmarks/results/<name>.json. Memory is the proportional set size of all processes of the run, every 2 s.
`--finished`: what the run that lies in this directory has reached, without its costs.
"""

import argparse
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from report import write

from pipeline.artefacts import REPORTS, read_json

STAGE = re.compile(r"^\s*\d+/\d+ (\S+): (\d+) s$", re.MULTILINE)
EVERY = 2.0     # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--finished", action="store_true")
    options = parser.parse_args()
    if options.finished:
        write(options.name, {"n": 1, **reached(), "params": Path("params.yaml").read_text()})
        return
    command = [sys.executable, "-m", "pipeline", "repro", "--jobs", str(options.jobs)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = Peak(process.pid)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        sys.exit(process.returncode)
    seconds, params = time.perf_counter() - started, Path("params.yaml").read_text()
    write(options.name, summary("".join(lines), seconds=seconds, peak=peak.bytes, params=params))


def summary(log: str, *, seconds: float, peak: int, params: str) -> dict[str, Any]:
    """What the run cost and what it reached."""
    return {
        "n": 1, "seconds": round(seconds), "peak_memory_GiB": round(peak / 2**30, 2),
        "stage_seconds": {name: int(taken) for name, taken in STAGE.findall(log)}, **reached(), "params": params,
    }


def reached() -> dict[str, Any]:
    """Scores of methods and members, nested, and leave-one-out."""
    report = read_json(REPORTS / "ensemble.json")
    return {
        "rows": report["rows"], "classes": report["classes"], "folds": report["folds"],
        "final": report["final"], "why": report["why"], "left_out": report["excluded"],
        "leaderboard": [{"name": row["name"], "kind": row["kind"], **_rounded(row["nested"]),
                         **({"in_sample": _rounded(row["in_sample"]), "repeated": row["repeated"],
                             "standing": row["standing"]} if "in_sample" in row else {})}
                        for row in sorted(report["leaderboard"], key=lambda r: r["nested"]["log_loss"])],
        "leave_one_out_of": report["loo_method"], "leave_one_out": report["loo"], "paths": report["paths"],
    }


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in scores.items()}


class Peak:
    """The largest memory of a process and its descendants so far, in bytes; watched by a thread."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._root = psutil.Process(pid)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self._root.is_running() and self._root.status() != psutil.STATUS_ZOMBIE:
            self.bytes = max(self.bytes, sum(map(_share, [self._root, *self._root.children(recursive=True)])))
            time.sleep(EVERY)


def _share(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
