"""After every step: quit when the parent is gone, report, and stop a training that diverged."""

import math
import os
import time
from collections.abc import Callable

import torch

from pipeline.errors import UserError
from pipeline.training.batches import EpochShape
from pipeline.training.job import FoldJob
from pipeline.training.report import Look, ticker, write_look

ORPHANED = 3  # exit status


def make_heartbeat(
    job: FoldJob, *, epoch: int, shape: EpochShape, parent: int
) -> Callable[[int, torch.Tensor], None]:
    """A function of (steps of this epoch so far, sum of their losses), to be called after every step of `epoch`.

    It ends the process at once when `parent` is no longer its parent; now and then it reports to
    `job.scratch / "progress.json"` and raises UserError when the loss is not finite.
    """
    due = ticker()
    started = time.perf_counter()
    steps, images = shape.steps, shape.batch * shape.accumulate       # images of a step
    total = steps * job.config.epochs

    def beat(count: int, loss_sum: torch.Tensor) -> None:
        if os.getppid() != parent:
            os._exit(ORPHANED)  # an exception would go to a parent that is no longer there
        if not due():
            return
        loss = float(loss_sum) / count
        require_finite(job, epoch, loss)
        rate = count / (time.perf_counter() - started)
        done = (epoch - 1) * steps + count
        report(job, Look("training", epoch, job.config.epochs, done / total, loss, rate * images,
                         (total - done) / rate, step=count, steps=steps))

    return beat


def require_finite(job: FoldJob, epoch: int, loss: float) -> None:
    """Raises UserError, naming model, fold, epoch, learning rate and the fix, unless `loss` is finite."""
    if not math.isfinite(loss):
        lr = job.config.optimiser.lr
        raise UserError(f"models.{job.model}: {job.label}: training diverged in epoch {epoch} (the loss is {loss}) "
                        f"at learning rate {lr:g}; fix: a lower models.{job.model}.optimiser.lr, such as {lr / 10:g}, "
                        "or optimiser.clip: 1.0")


def report(job: FoldJob, look: Look) -> None:
    """Writes one look at the fold for the parent process."""
    write_look(job.scratch / "progress.json", look)
