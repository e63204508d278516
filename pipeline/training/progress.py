"""Progress of the folds on the parent's terminal: bars, or plain lines where there is no terminal."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pipeline.training.job import FoldJob
from pipeline.training.report import Look, read_look

POLL = 0.5          # seconds between looks
LINE_EVERY = 20.0   # seconds between plain lines about running folds


@contextmanager
def watch(jobs: Sequence[FoldJob], title: str, *, console: Console | None = None) -> Iterator[None]:
    """Shows how far `jobs` are while the block runs: epoch, loss, images/s and time left of each fold.

    Folds that are finished when it begins are not shown. `console` is standard error by default.
    """
    console = console or Console(stderr=True)
    open_jobs = [job for job in jobs if not (job.scratch / "done.json").exists()]
    stop = threading.Event()
    show = partial(_bars, title=title) if console.is_terminal else _lines
    thread = threading.Thread(target=show, args=(open_jobs, console, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def described(look: Look) -> str:
    """`epoch 3/30, step 12/284, loss 1.204, 290 images/s, 0:01:10 left`, of what is known."""
    parts = [look.note or f"epoch {look.epoch}/{look.epochs}"]
    if look.step is not None:
        parts.append(f"step {look.step}/{look.steps}")
    if look.loss is not None:
        parts.append(f"loss {look.loss:.3f}")
    if look.images_per_second is not None:
        parts.append(f"{look.images_per_second:.0f} images/s")
    if look.seconds_left is not None and look.state == "training":
        parts.append(f"{timedelta(seconds=round(look.seconds_left))} left")
    return ", ".join(parts)


def _looks(jobs: Sequence[FoldJob], since: float) -> Iterator[tuple[FoldJob, Look]]:
    """The jobs that have said something since `since` (an earlier, killed run may have left its last word)."""
    for job in jobs:
        path = job.scratch / "progress.json"
        look = read_look(path) if path.exists() and path.stat().st_mtime >= since else None
        if look is not None:
            yield job, look


def _bars(jobs: Sequence[FoldJob], console: Console, stop: threading.Event, *, title: str) -> None:
    since = time.time() - 1
    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        everything = progress.add_task(title, total=max(1, len(jobs)), text="")
        while True:
            last = stop.wait(POLL)
            share = done = 0.0
            for job, look in _looks(jobs, since):
                name = f"{job.model} {job.label}"
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=1.0, text="")
                finished = look.state == "done"
                progress.update(tasks[name], completed=look.share, text=described(look), visible=not finished)
                share, done = share + look.share, done + finished
            progress.update(everything, completed=share, text=f"{done:.0f} of {len(jobs)} networks")
            if last:
                return


def _lines(jobs: Sequence[FoldJob], console: Console, stop: threading.Event) -> None:
    since = time.time() - 1
    told: dict[str, float] = {}
    while True:
        last = stop.wait(POLL)
        now = time.monotonic()
        for job, look in _looks(jobs, since):
            name = f"{job.model} {job.label}"
            due = now - told.setdefault(name, now) >= LINE_EVERY
            if (look.state == "done" or due) and told[name] < float("inf"):
                told[name] = float("inf") if look.state == "done" else now
                end = "done, " if look.state == "done" else ""
                console.print(f"{name}: {end}{described(look)}", highlight=False, soft_wrap=True)
        if last:
            return
