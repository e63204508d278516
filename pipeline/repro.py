"""`pipeline repro --jobs N`: independent DVC stages side by side, ending with a plain `dvc repro` that runs nothing.

DVC releases its repository lock while a stage's command runs, so several `dvc --wait-for-lock repro -s STAGE` in one
workspace are safe. This module walks the stage graph and starts each stage when those before it are done.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from pipeline.artefacts import PARAMS, SCRATCH
from pipeline.errors import UserError

LOGS = SCRATCH / "logs"
POLL = 0.1            # seconds
HEARTBEAT = 30.0      # seconds between lines that say what is running
DVC = (sys.executable, "-m", "dvc")


def reproduce(*, jobs: int) -> None:
    """Runs every stage that is not up to date, `jobs` at a time; raises UserError with the first failure's words.

    params.yaml is checked first, so that a mistake costs a second and not an hour. SIGTERM ends the stages that are
    running, as Ctrl-C does; what they have finished is kept.
    """
    from pipeline.stages.check import check_params

    check_params(PARAMS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    console = Console(stderr=False)
    LOGS.mkdir(parents=True, exist_ok=True)
    _finish(_start("check"), "check", console)
    before = _graph()
    ran = _walk(before, jobs, console)
    final = subprocess.run([*DVC, "repro"], env=_environment(1), capture_output=True, text=True, check=False)
    if final.returncode:
        raise UserError(f"dvc repro: {_last_words(final.stdout + final.stderr)}")
    executed = final.stdout.count("Running stage")
    console.print(f"{ran} stages ran in {time.monotonic() - started:.0f} s, {jobs} at a time; "
                  f"a plain dvc repro then ran {executed}")


def _graph() -> dict[str, set[str]]:
    """Stages that are not up to date or come after one that is not -> those of them that must run before.

    In the order of their distance from the raw data, so that the long stages (training) of all models come before
    the short ones that follow them, and short ones fill the cores at the end.
    """
    import networkx
    from dvc.repo import Repo

    with Repo() as repo:
        stale = set(repo.status())
        graph = repo.index.graph                                    # edges lead from a stage to what it depends on
        generations = networkx.topological_generations(graph.reverse())
        stages = [stage for generation in generations for stage in generation]
        affected = [s for s in stages if s.addressing in stale or
                    any(p.addressing in stale for p in networkx.descendants(graph, s))]
        names = {s.addressing for s in affected}
        return {s.addressing: {p.addressing for p in graph.successors(s)} & names for s in affected}


def _walk(waiting: dict[str, set[str]], jobs: int, console: Console) -> int:
    """Runs the stages in an order that respects the graph; returns how many had to. Stops all when one fails."""
    order = list(waiting)
    done: set[str] = set()
    executed = 0
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    last_line = time.monotonic()
    share = max(1, _cores() // jobs)
    try:
        while len(done) < len(order):
            for name in [n for n in order if n not in done and n not in running and waiting[n] <= done]:
                if len(running) < jobs:
                    running[name] = (_start(name, share=share), time.monotonic())
            time.sleep(POLL)
            for name, (process, began) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    executed += _finish(process, name, console, seconds=time.monotonic() - began,
                                        progress=f"{len(done) + 1}/{len(order)}")
                    done.add(name)
                    last_line = time.monotonic()
            if running and time.monotonic() - last_line > HEARTBEAT:
                now = ", ".join(f"{name} {time.monotonic() - began:.0f} s" for name, (_, began) in running.items())
                console.print(f"  running: {now}", style="dim", highlight=False)
                last_line = time.monotonic()
    finally:
        for process, _ in running.values():
            os.killpg(process.pid, signal.SIGTERM)
        for process, _ in running.values():
            process.wait()
    return executed


def _start(name: str, *, share: int = 1) -> subprocess.Popen[bytes]:
    with _log(name).open("wb") as log:
        return subprocess.Popen([*DVC, "--wait-for-lock", "repro", "-s", name], stdout=log, stderr=subprocess.STDOUT,
                                stdin=subprocess.DEVNULL, env=_environment(share), start_new_session=True)


def _finish(
    process: subprocess.Popen[bytes], name: str, console: Console, *, seconds: float = 0.0, progress: str = ""
) -> bool:
    """Whether the stage had to run; raises UserError with its last words when it failed."""
    process.wait()
    words = _log(name).read_text(errors="replace")
    if process.returncode:
        raise UserError(f"stage {name}: {_last_words(words)} (log: {_log(name)})")
    ran = "Running stage" in words
    if progress:
        console.print(f"  {progress} {name}: {f'{seconds:.0f} s' if ran else 'up to date'}", highlight=False)
    return ran


def _last_words(output: str) -> str:
    """The stage's own error lines if there are any, else the end of the output."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return "\n".join(own) if own else " | ".join(lines[-3:])


def _log(name: str) -> Path:
    return LOGS / f"{name}.log"


def _environment(share: int) -> dict[str, str]:
    return {**os.environ, "PIPELINE_SLOTS": str(share)}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
