"""What stays the same over the epochs of a fold, and the batches of each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config.model import HeadConfig
from pipeline.data.store import Packed, open_packed
from pipeline.nets.heads import head_net
from pipeline.nets.net import Net
from pipeline.rng import derive, generator
from pipeline.training.batches import EpochShape, epoch_shape, prefetch, training_batches
from pipeline.training.feed import Features, Feed, Images, Inputs
from pipeline.training.holdout import split_holdout
from pipeline.training.job import FoldJob
from pipeline.training.losses import Loss, make_loss
from pipeline.training.network import trunk_net
from pipeline.training.normalise import Numbers, column, fitted_whitening, mean_and_std
from pipeline.training.prepare import Preparation, make_preparation
from pipeline.training.resident import batches_ahead, placed
from pipeline.training.targets import Targets, make_targets
from pipeline.training.tensorboard import plain_sample
from pipeline.training.transfer import freeze_until, load_pretrained
from pipeline.training.weights import WeightsMeta, library_versions


@dataclass(frozen=True)
class Setting:
    """Of one fold, or of one replica of it."""

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


def prepare_fold(job: FoldJob) -> tuple[Setting, Net]:
    """The setting, and the network before its first epoch, on its device and channels_last."""
    config, packed = job.config, open_packed(job.packed)
    labels = packed.labels
    learned, watched = job.fit_rows, job.fit_rows[:0]
    if config.early_stopping is not None:
        learned, watched = split_holdout(
            job.fit_rows, labels[job.fit_rows], share=config.early_stopping.holdout,
            rng=generator(job.seed, *job.purpose, "holdout"), where=f"models.{job.model}",
        )
    feed = host_feed(job, packed)
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
    resident = placed(feed, job.device) if isinstance(feed, Images) else feed
    return Setting(job, resident, labels, targets_of, unlabelled, epoch_shape(len(learned), config), learned, watched,
                   loss_of, meta), net


def epoch_batches(setting: Setting, epoch: int | str) -> tuple[Iterator[tuple[Inputs, np.ndarray]], Preparation]:
    """The batches of an epoch, and what is done to each; all their random numbers are the epoch's own."""
    job, config, meta = setting.job, setting.job.config, setting.meta
    device = torch.device(job.device)
    ahead = batches_ahead(setting.feed, job.device)
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


def plain_arguments(setting: Setting) -> tuple[torch.Tensor, ...]:
    """A network's arguments for a few of the rows that it learns from, not augmented."""
    device = torch.device(setting.job.device)
    return plain_sample(setting.feed, setting.learned, mean=column(setting.meta.mean, device),
                        std=column(setting.meta.std, device))


def host_feed(job: FoldJob, packed: Packed) -> Images | Features:
    """The job's images, or the features of its frozen network, in the host's memory."""
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
