"""Training one fold of one model, in a scratch directory, so that it can be killed at any moment and run again.

Nothing carries random state from one epoch to the next: order, augmentation and dropout of an epoch are derived from
(seed, model, cell, replica, epoch). So an epoch that starts from its checkpoint equals the same epoch of an unbroken
run.
"""

import os
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.artefacts import write_json
from pipeline.metrics import accuracy, log_loss
from pipeline.rng import derive
from pipeline.training.averages import refresh_norms
from pipeline.training.compiled import maybe_compiled, refusing_compilers
from pipeline.training.curves import CURVES, TIMING, write_table
from pipeline.training.epoch import EpochScores, train_epoch
from pipeline.training.heartbeat import make_heartbeat, report, require_finite
from pipeline.training.job import FoldJob
from pipeline.training.lock import hold_lock
from pipeline.training.predict import predict_rows
from pipeline.training.report import Look
from pipeline.training.schedule import cycle_ends, factor, momentum_factor
from pipeline.training.setting import Setting, epoch_batches, plain_arguments, prepare_fold
from pipeline.training.state import FoldState, is_over, kept_net, note_holdout, note_plateau, restore, save_state, start
from pipeline.training.tensorboard import Board, open_board
from pipeline.training.weights import save_weights

CHECKPOINT = "checkpoint.pt"


def train_fold(job: FoldJob) -> Path:
    """Trains the fold, or what is left of it; returns `job.scratch` with fold.safetensors, curves.csv and timing.csv.

    A finished fold (one with done.json) returns at once. Raises UserError when training diverges, and when another
    process trains this fold. Ends its process when the parent process dies.
    """
    parent = os.getppid()
    done = job.scratch / "done.json"
    if done.exists():
        (job.scratch / CHECKPOINT).unlink(missing_ok=True)      # of a run that was killed just before it did so
        return job.scratch
    waiting = Look("waiting", 0, job.config.epochs, 0.0)
    with hold_lock(job.scratch / "lock", lambda note: report(job, replace(waiting, note=note))), \
            refusing_compilers(job):
        if not done.exists():  # whoever held the lock may have finished it
            _train(job, parent)
            write_json(done, {"model": job.model, "cell": job.cell, "fold_digest": job.fold_digest})
            (job.scratch / CHECKPOINT).unlink(missing_ok=True)
    return job.scratch


@dataclass(frozen=True)
class _Run:
    """What one process trains with."""

    setting: Setting
    net: nn.Module          # the state's, or a compiled form of it
    parent: int             # process id: without it there is nobody to train for
    board: Board | None


def _train(job: FoldJob, parent: int) -> None:
    setting, net = prepare_fold(job)
    checkpoint = job.scratch / CHECKPOINT
    state = start(net, job.config, precision=job.precision, device=torch.device(job.device))
    restore(checkpoint, state)
    board = open_board(job.scratch / "tensorboard", done=state.epoch)
    with closing(board) if board else nullcontext():
        run = _Run(setting, maybe_compiled(net, wanted=job.config.compile), parent, board)
        while not is_over(state, job.config):
            _advance(state, run)
            save_state(checkpoint, state)
    save_weights(job.scratch / "fold.safetensors", kept_net(state), setting.meta)
    write_table(job.scratch / "curves.csv", CURVES, state.curves)
    write_table(job.scratch / "timing.csv", TIMING, state.timing)
    report(job, Look("done", state.epoch, job.config.epochs, 1.0, state.curves[-1]["train_loss"]))


def _advance(state: FoldState, run: _Run) -> None:
    """Trains one epoch more, and measures it."""
    setting = run.setting
    job, config = setting.job, setting.job.config
    started = time.perf_counter()
    scores = _train_epoch(state, run)
    seconds = time.perf_counter() - started
    state.epoch += 1
    require_finite(job, state.epoch, scores.loss)
    state.after_epoch(state.epoch)
    if config.weights == "swa" and state.epoch == config.epochs:
        batches, prepare = epoch_batches(setting, "norms")
        refresh_norms(state.measured, (prepare(inputs, rows)[0] for inputs, rows in batches))
    row: dict[str, Any] = dict.fromkeys(CURVES) | {
        "model": job.model, "fold": job.cell, "replica": job.replica, "epoch": state.epoch, "lr": scores.lr,
        "train_loss": scores.loss, "train_accuracy": scores.accuracy,
    }
    if len(setting.watched):
        row["holdout_loss"], row["holdout_accuracy"] = _measure(state, setting, setting.watched)
        note_holdout(state, config, row["holdout_loss"])
    note_plateau(state, config, scores.loss if row["holdout_loss"] is None else row["holdout_loss"])
    looked = state.epoch % config.validate_every == 0 or is_over(state, config)
    if looked:
        row["valid_loss"], row["valid_accuracy"] = _measure(state, setting, job.held_rows)
    state.curves.append(row)
    rate = scores.images / seconds
    state.timing.append({"epoch": state.epoch, "seconds": round(seconds, 3), "images_per_second": round(rate, 1)})
    _keep_snapshot(state, setting)
    if run.board is not None:
        run.board.epoch(row | state.timing[-1], state.net if looked else None,
                        sample=plain_arguments(setting) if looked else ())


def _keep_snapshot(state: FoldState, setting: Setting) -> None:
    """Writes fold.snapshot<i>.safetensors after the cycle that is i before the last, where it is to be kept.

    Source: Huang et al. 2017, "Snapshot ensembles", section 3.
    """
    job, config = setting.job, setting.job.config
    ends = cycle_ends(config.schedule, epochs=config.epochs)
    age = len(ends) - 1 - ends.index(state.epoch) if state.epoch in ends else 0
    if 0 < age < config.snapshots:
        save_weights(job.scratch / f"fold.snapshot{age}.safetensors", state.measured, setting.meta)


def _train_epoch(state: FoldState, run: _Run) -> EpochScores:
    setting, job, config, shape = run.setting, run.setting.job, run.setting.job.config, run.setting.shape
    epoch = state.epoch + 1
    torch.manual_seed(derive(job.seed, *job.purpose, "torch", epoch))
    batches, prepare = epoch_batches(setting, epoch)

    def rates_of(step: int) -> tuple[float, float]:
        when = {"steps": shape.steps, "epochs": config.epochs}
        return (config.optimiser.lr * factor(step, config.schedule, drops=state.drops, **when),
                config.optimiser.momentum * momentum_factor(step, config.schedule, **when))

    return train_epoch(
        run.net, batches, config=config, optimiser=state.optimiser, scaler=state.scaler, accumulate=shape.accumulate,
        rates_of=rates_of, average=state.after_step, prepare=prepare, loss_of=setting.loss_of,
        device=torch.device(job.device), precision=job.precision, first_step=state.epoch * shape.steps,
        after_step=make_heartbeat(job, epoch=epoch, shape=shape, parent=run.parent),
    )


def _measure(state: FoldState, setting: Setting, rows: np.ndarray) -> tuple[float, float]:
    """Log loss and accuracy of the measured network on `rows`, without augmentation."""
    job = setting.job
    probabilities = predict_rows(state.measured, setting.meta, setting.feed, rows, average="arithmetic", batch=256,
                                 device=job.device, precision=job.precision)
    labels = setting.labels[rows]
    loss = log_loss(probabilities, labels)
    require_finite(job, state.epoch, loss)
    return loss, accuracy(probabilities, labels)
