"""One writer per scratch directory: a lock that dies with its process."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError

WAIT_SECONDS = 60.0


@contextmanager
def hold_lock(
    path: Path, on_wait: Callable[[str], None], *, wait: float = WAIT_SECONDS, poll: float = 0.5,
    work: str = "training this fold",
) -> Iterator[None]:
    """Holds an exclusive flock on `path` and writes this process's id into it.

    Where another process holds it (a killed run's worker that has not noticed yet), `on_wait` is told who, and after
    `wait` seconds a UserError names it. `work` is what it is said to be doing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        deadline = time.monotonic() + wait
        while not _taken(handle.fileno()):
            holder = path.read_text().strip() or "unknown"
            if time.monotonic() > deadline:
                raise UserError(f"{path.parent}: process {holder} is {work} (it has held {path.name} for "
                                f"{wait:g} s); fix: wait for it, or end it (kill {holder}), and run again")
            on_wait(f"waiting for process {holder}, which is {work}")
            time.sleep(poll)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
