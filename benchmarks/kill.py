"""Training a fold in a child process that dies of signal 9, at a moment in time or at an event of its own.

The child appends a letter to a trace at every event, which outlives it and tells where it was hit.
"""

import os
import signal
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import cv2
import torch

from pipeline.training.fold import train_fold
from pipeline.training.job import FoldJob

BATCH, SAVE, START = "b", "s", "|"
RENAMES = {                              # before and after an artefact takes the place of the one before
    "checkpoint.pt": "kK", "fold.snapshot1.safetensors": "pP", "fold.safetensors": "fF", "curves.csv": "cC",
    "timing.csv": "tT", "done.json": "dD",
}
SAVED = RENAMES["checkpoint.pt"][1]
PRELOADED = (train_fold.__module__, "torch._dynamo", "torch.utils.tensorboard", "torchvision.models")   # once for all


class Event(NamedTuple):
    """The n-th time, from 1, that one process comes to what a letter stands for."""

    letter: str
    n: int


def train_until(job: FoldJob, trace: Path, *, seconds: float | None = None, event: Event | None = None) -> bool:
    """Trains `job` in a child, killed `seconds` after its start or at `event`; False when it was killed.

    True when it came to its end before; raises RuntimeError when it failed. Its events are appended to `trace`.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    child = context.Process(target=_train, args=(job, trace, event))
    child.start()
    child.join(seconds)
    child.kill()
    child.join()
    if child.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the training of {job.model} ended with exit status {child.exitcode}")
    return child.exitcode == 0


def results(job: FoldJob) -> dict[str, bytes]:
    """The files of a finished fold that every run of it must leave alike."""
    paths = [*job.scratch.glob("*.safetensors"), job.scratch / "curves.csv", job.scratch / "done.json"]
    return {path.name: path.read_bytes() for path in paths}


def place(trace: str, *, batches: int) -> str:
    """Where the last process of a trace was hit; an epoch has `batches`."""
    saved, last = trace.count(SAVED), trace[-1]
    taken = trace[max(trace.rfind(SAVED), trace.rfind(START)):].count(BATCH)
    if last == START:
        return f"before the first batch after epoch {saved}"
    if last == BATCH:
        hit = f"batch {taken} of {batches}" if taken < batches else "last batch or measuring"
        return f"epoch {saved + 1}, {hit}"
    if last == SAVE:
        return f"writing the checkpoint of epoch {saved + 1}"
    if last == SAVED:
        return f"after the checkpoint of epoch {saved}"
    name = next(name for name, letters in RENAMES.items() if last in letters)
    return f"{'after' if last.isupper() else 'before'} the renaming of {name}"


def _train(job: FoldJob, trace: Path, event: Event | None) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _mark_events(trace, event)
    train_fold(job)


def _mark_events(trace: Path, fatal: Event | None) -> None:
    """From now on, every event of this process is marked, and the fatal one kills it."""
    file = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    counts: Counter[str] = Counter()
    backward, save, replace = torch.Tensor.backward, torch.save, os.replace

    def mark(letter: str) -> None:
        os.write(file, letter.encode())
        counts[letter] += 1
        if fatal == (letter, counts[letter]):
            os.kill(os.getpid(), signal.SIGKILL)

    def marked_backward(*arguments: Any, **options: Any) -> None:
        mark(BATCH)
        backward(*arguments, **options)

    def marked_save(*arguments: Any, **options: Any) -> None:
        mark(SAVE)
        save(*arguments, **options)

    def marked_replace(source: Path, target: Path) -> None:
        letters = RENAMES.get(Path(target).name, "")
        for before in letters[:1]:
            mark(before)
        replace(source, target)
        for after in letters[1:]:
            mark(after)

    mark(START)
    patch.object(torch.Tensor, "backward", marked_backward).start()
    patch.object(torch, "save", marked_save).start()
    patch.object(os, "replace", marked_replace).start()
