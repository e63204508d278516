"""Training one fold of one model, in a scratch directory, so that it can be killed at any moment and run again.

Nothing carries random state from one epoch to the next: order, augmentation and dropout of an epoch are derived from
(seed, model, cell, replica, epoch). So an epoch that starts from its checkpoint equals the same epoch of an unbroken
run.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.artefacts import write_json
from pipeline.config.model import HeadConfig
from pipeline.data.store import Packed, open_packed
from pipeline.metrics import accuracy, log_loss
from pipeline.nets.heads import head_net
from pipeline.nets.net import Net
from pipeline.rng import derive, generator
from pipeline.training.averages import refresh_norms
from pipeline.training.batches import EpochShape, epoch_shape, prefetch, training_batches
from pipeline.training.compiled import maybe_compiled, refusing_compilers
from pipeline.training.curves import CURVES, TIMING, write_table
from pipeline.training.epoch import EpochScores, train_epoch
from pipeline.training.feed import Features, Feed, Images, Inputs
from pipeline.training.heartbeat import make_heartbeat, report, require_finite
from pipeline.training.holdout import split_holdout
from pipeline.training.job import FoldJob
from pipeline.training.lock import hold_lock
from pipeline.training.losses import Loss, make_loss
from pipeline.training.network import trunk_net
from pipeline.training.normalise import Numbers, column, fitted_whitening, mean_and_std
from pipeline.training.predict import AHEAD, predict_rows
from pipeline.training.prepare import Preparation, make_preparation
from pipeline.training.report import Look
from pipeline.training.schedule import cycle_ends, factor, momentum_factor
from pipeline.training.state import FoldState, is_over, kept_net, note_holdout, note_plateau, restore, save_state, start
from pipeline.training.targets import Targets, make_targets
from pipeline.training.transfer import freeze_until, load_pretrained
from pipeline.training.weights import WeightsMeta, library_versions, save_weights


@dataclass(frozen=True)
class _Setting:
    """What stays the same over the epochs of a fold."""

    job: FoldJob
    feed: Feed
    labels: np.ndarray      # of all training rows of the store
    targets_of: Targets
    unlabelled: np.ndarray | None   # test rows, where pseudo-labels are on
    shape: EpochShape
    learned: np.ndarray     # labelled rows that gradients come from
    watched: np.ndarray     # rows that early stopping watches; none without it
    loss_of: Loss
    meta: WeightsMeta
    parent: int             # process id: without it there is nobody to train for


def train_fold(job: FoldJob) -> Path:
    """Trains the fold, or what is left of it; returns `job.scratch` with fold.safetensors, curves.csv and timing.csv.

    A finished fold (one with done.json) returns at once. Raises UserError when training diverges, and when another
    process trains this fold. Ends its process when the parent process dies.
    """
    parent = os.getppid()
    done = job.scratch / "done.json"
    if done.exists():
        return job.scratch
    waiting = Look("waiting", 0, job.config.epochs, 0.0)
    with hold_lock(job.scratch / "lock", lambda note: report(job, replace(waiting, note=note))), \
            refusing_compilers(job):
        if not done.exists():  # whoever held the lock may have finished it
            setting, net = _prepared(job, parent)
            _train(setting, net, job.scratch / "checkpoint.pt")
            write_json(done, {"model": job.model, "cell": job.cell, "fold_digest": job.fold_digest})
            (job.scratch / "checkpoint.pt").unlink()
    return job.scratch


def _prepared(job: FoldJob, parent: int) -> tuple[_Setting, Net]:
    """The setting, and the network before its first epoch, on its device and channels_last."""
    config, packed = job.config, open_packed(job.packed)
    labels = packed.labels
    learned, watched = job.fit_rows, job.fit_rows[:0]
    if config.early_stopping is not None:
        learned, watched = split_holdout(
            job.fit_rows, labels[job.fit_rows], share=config.early_stopping.holdout,
            rng=generator(job.seed, *job.purpose, "holdout"), where=f"models.{job.model}",
        )
    feed = _feed(job, packed)
    net, mean, std = _fresh_net(job, feed, learned)
    meta = WeightsMeta(
        model=job.model, config=config, classes=tuple(job.classes), channels=packed.channels, mean=mean, std=std,
        cell=job.cell, fold_digest=job.fold_digest, data_digest=packed.digest, precision=job.precision,
        kept=config.weights, versions=library_versions(config.net),
    )
    counts, device = np.bincount(labels[learned], minlength=len(job.classes)), torch.device(job.device)
    loss_of = make_loss(config.loss, class_counts=counts, device=device)
    soft = None if job.pseudo is None else np.load(job.pseudo)                                              # (T, C)
    targets_of = make_targets(labels, n_classes=len(job.classes), soft=soft, device=device)
    unlabelled = None if soft is None else packed.n_train + np.arange(packed.n_test)
    net.to(job.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _Setting(job, feed, labels, targets_of, unlabelled, epoch_shape(len(learned), config), learned, watched,
                    loss_of, meta, parent), net


def _feed(job: FoldJob, packed: Packed) -> Images | Features:
    if job.features is not None:
        features = np.load(job.features, mmap_mode="r")                                                     # (N, D)
        return Features(features, (features,))
    return Images(packed, job.config, side=None if job.side is None else np.load(job.side, mmap_mode="r"))


def _fresh_net(job: FoldJob, feed: Images | Features, learned: np.ndarray) -> tuple[Net, Numbers, Numbers]:
    """The network with its first weights, on the CPU, and what its images are normalised by: mean and deviation."""
    config, n_classes = job.config, len(job.classes)
    torch.manual_seed(derive(job.seed, *job.purpose, "init"))
    if isinstance(feed, Features):
        head = head_net(config.head or HeadConfig(), n_features=feed.plain.shape[1], n_classes=n_classes)
        return head, (0.0,), (1.0,)
    channels = feed.packed.channels
    n_side = 0 if feed.side is None else feed.side.shape[1]
    net = trunk_net(config, n_classes=n_classes, channels=channels, n_side=n_side)
    mean, std = (load_pretrained(net, config, channels=channels * (1 + len(config.scales)))
                 or mean_and_std(feed, learned))
    if config.whiten is not None:
        fitted = fitted_whitening(feed, learned, kind=config.whiten, mean=column(mean), std=column(std))
        net.whiten.load_state_dict(dict(zip(("mean", "matrix"), fitted, strict=True)))
    if config.freeze is not None:
        freeze_until(net, config.freeze.removeprefix("until:"))
    return net, mean, std


def _train(setting: _Setting, net: Net, checkpoint: Path) -> None:
    job = setting.job
    state = start(net, job.config, precision=job.precision, device=torch.device(job.device))
    restore(checkpoint, state)
    trained = maybe_compiled(net, wanted=job.config.compile)
    while not is_over(state, job.config):
        _advance(state, trained, setting)
        save_state(checkpoint, state)
    save_weights(job.scratch / "fold.safetensors", kept_net(state), setting.meta)
    write_table(job.scratch / "curves.csv", CURVES, state.curves)
    write_table(job.scratch / "timing.csv", TIMING, state.timing)
    report(job, Look("done", state.epoch, job.config.epochs, 1.0, state.curves[-1]["train_loss"]))


def _advance(state: FoldState, net: nn.Module, setting: _Setting) -> None:
    """Trains one epoch more, and measures it; `net` is the state's, as it is trained (perhaps compiled)."""
    job, config = setting.job, setting.job.config
    started = time.perf_counter()
    scores = _train_epoch(state, net, setting)
    seconds = time.perf_counter() - started
    state.epoch += 1
    require_finite(job, state.epoch, scores.loss)
    state.after_epoch(state.epoch)
    if config.weights == "swa" and state.epoch == config.epochs:
        batches, prepare = _batches(setting, "norms")
        refresh_norms(state.measured, (prepare(inputs, rows)[0] for inputs, rows in batches))
    row: dict[str, Any] = dict.fromkeys(CURVES) | {
        "model": job.model, "fold": job.cell, "replica": job.replica, "epoch": state.epoch, "lr": scores.lr,
        "train_loss": scores.loss, "train_accuracy": scores.accuracy,
    }
    if len(setting.watched):
        row["holdout_loss"], row["holdout_accuracy"] = _measure(state, setting, setting.watched)
        note_holdout(state, config, row["holdout_loss"])
    note_plateau(state, config, scores.loss if row["holdout_loss"] is None else row["holdout_loss"])
    if state.epoch % config.validate_every == 0 or is_over(state, config):
        row["valid_loss"], row["valid_accuracy"] = _measure(state, setting, job.held_rows)
    state.curves.append(row)
    rate = scores.images / seconds
    state.timing.append({"epoch": state.epoch, "seconds": round(seconds, 3), "images_per_second": round(rate, 1)})
    _keep_snapshot(state, setting)


def _keep_snapshot(state: FoldState, setting: _Setting) -> None:
    """Writes fold.snapshot<i>.safetensors after the cycle that is i before the last, where it is to be kept.

    Source: Huang et al. 2017, "Snapshot ensembles", section 3.
    """
    job, config = setting.job, setting.job.config
    ends = cycle_ends(config.schedule, epochs=config.epochs)
    age = len(ends) - 1 - ends.index(state.epoch) if state.epoch in ends else 0
    if 0 < age < config.snapshots:
        save_weights(job.scratch / f"fold.snapshot{age}.safetensors", state.measured, setting.meta)


def _train_epoch(state: FoldState, net: nn.Module, setting: _Setting) -> EpochScores:
    job, config, shape = setting.job, setting.job.config, setting.shape
    epoch = state.epoch + 1
    torch.manual_seed(derive(job.seed, *job.purpose, "torch", epoch))
    batches, prepare = _batches(setting, epoch)

    def rates_of(step: int) -> tuple[float, float]:
        when = {"steps": shape.steps, "epochs": config.epochs}
        return (config.optimiser.lr * factor(step, config.schedule, drops=state.drops, **when),
                config.optimiser.momentum * momentum_factor(step, config.schedule, **when))

    return train_epoch(
        net, batches, config=config, optimiser=state.optimiser, scaler=state.scaler, accumulate=shape.accumulate,
        rates_of=rates_of, average=state.after_step, prepare=prepare, loss_of=setting.loss_of,
        device=torch.device(job.device), precision=job.precision, first_step=state.epoch * shape.steps,
        after_step=make_heartbeat(job, epoch=epoch, shape=shape, parent=setting.parent),
    )


def _batches(setting: _Setting, epoch: int | str) -> tuple[Iterator[tuple[Inputs, np.ndarray]], Preparation]:
    """The batches of an epoch, and what is done to each; all their random numbers are the epoch's own."""
    job, config, meta = setting.job, setting.job.config, setting.meta
    device = torch.device(job.device)
    ahead = AHEAD if device.type == "cuda" else 0
    batches = training_batches(
        setting.feed, setting.learned, labels=setting.labels[setting.learned], shape=setting.shape,
        sampling=config.sampling, rng=generator(job.seed, *job.purpose, "batches", epoch),
        unlabelled=setting.unlabelled, buffers=ahead + 2,
    )
    prepare = make_preparation(
        config, mean=column(meta.mean, device), std=column(meta.std, device), targets_of=setting.targets_of,
        rng=generator(job.seed, *job.purpose, "mix", epoch),
    )
    return prefetch(batches, ahead) if ahead else batches, prepare


def _measure(state: FoldState, setting: _Setting, rows: np.ndarray) -> tuple[float, float]:
    """Log loss and accuracy of the measured network on `rows`, without augmentation."""
    job = setting.job
    probabilities = predict_rows(state.measured, setting.meta, setting.feed, rows, average="arithmetic", batch=256,
                                 device=job.device, precision=job.precision)
    labels = setting.labels[rows]
    loss = log_loss(probabilities, labels)
    require_finite(job, state.epoch, loss)
    return loss, accuracy(probabilities, labels)
