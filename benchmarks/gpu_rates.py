"""Rates of single parts on one device, for benchmarks/gpu.py: the peak, the bare step, the feed, prediction, a profile.

A GPU works behind the program: every clock here is read after it has finished.
"""

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from report import summary
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from pipeline.augment.views import view_matrices
from pipeline.data.store import open_packed
from pipeline.training.batches import to_tensors
from pipeline.training.feed import Feed, Images, Inputs
from pipeline.training.fold import train_fold
from pipeline.training.job import FoldJob
from pipeline.training.losses import make_loss, one_hot
from pipeline.training.network import trunk_net
from pipeline.training.optimiser import make_optimiser
from pipeline.training.precision import autocast
from pipeline.training.predict import predict_rows
from pipeline.training.resident import ResidentImages, placed
from pipeline.training.weights import load_weights

Row = dict[str, Any]
PRODUCTS, REPEATS, TERMS, BUFFERS, PREDICTED = 10, 7, 15, 5, 512


def matrix_peak(side: int, *, device: str) -> float:
    """FLOP/s of a square bf16 product of random matrices: the median of 7 times 10 products."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    one = 2 * side**3

    def products() -> None:
        for _ in range(PRODUCTS):
            a @ b

    products()
    return float(np.median([rate(products, PRODUCTS * one, device=device) for _ in range(REPEATS)]))


def rate(work: Callable[[], object], amount: float, *, device: str) -> float:
    """`amount` per second of `work`, from an idle device to an idle device."""
    synchronise(device)
    started = perf_counter()
    work()
    synchronise(device)
    return amount / (perf_counter() - started)


def synchronise(device: str) -> None:
    """Waits for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def bare_step(job: FoldJob, *, steps: int) -> Callable[[], float]:
    """A measurement of the images per second of `steps` steps, warm, on one batch in the device's memory.

    A step is forward, loss, backward and update, in the job's precision and channels_last; nothing is averaged.
    """
    store, config, device = open_packed(job.packed), job.config, torch.device(job.device)
    rows = job.fit_rows[:config.batch]
    feed = ResidentImages(Images(store, config), job.device)
    middle = torch.full((store.channels, 1, 1), 0.5, device=device)
    [images] = to_tensors(next(feed.drawn(rows, np.random.default_rng(0), batch=len(rows))), mean=middle, std=middle)
    targets = one_hot(torch.from_numpy(store.labels[rows]).to(device), len(job.classes))
    loss_of = make_loss(config.loss, class_counts=np.ones(len(job.classes)), device=device)
    net = trunk_net(config, n_classes=len(job.classes), channels=store.channels)
    net.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = make_optimiser(net, config.optimiser)

    def train() -> None:
        for _ in range(steps):
            with autocast(job.precision, device):
                logits = net(images)
            optimiser.zero_grad()
            loss_of(logits.float(), targets).backward()
            optimiser.step()

    train()
    return lambda: rate(train, steps * len(rows), device=job.device)


def feed_rates(job: FoldJob, *, repeats: int) -> Row:
    """Augmented batches alone, images per second: warped on the device, and by OpenCV on one core, in turns."""
    images = Images(open_packed(job.packed), job.config)
    feeds: dict[str, Feed] = {"on_device": ResidentImages(images, job.device), "opencv_one_core": images}
    rows, random = job.fit_rows, np.random.default_rng(0)

    def epoch(feed: Feed) -> float:
        def work() -> None:
            use_up(feed.drawn(rows, random, batch=job.config.batch, buffers=BUFFERS))
        return rate(work, len(rows), device=job.device)

    for feed in feeds.values():
        epoch(feed)
    taken = [{name: epoch(feed) for name, feed in feeds.items()} for _ in range(repeats)]
    return {name: summary([turn[name] for turn in taken]) for name in feeds}


def use_up(batches: Iterable[Inputs]) -> None:
    """Asks for every batch."""
    for _ in batches:
        pass


def prediction_rate(job: FoldJob, *, views: int) -> float:
    """Views of images per second that a trained job predicts of its held rows, once it is warm."""
    net, meta = load_weights(job.scratch / "fold.safetensors")
    config = job.config
    maps = view_matrices(config.tta, augment=config.augment, canvas=config.canvas)                         # (V, 3, 3)
    images = Images(open_packed(job.packed), config, maps)

    def predict(rows: np.ndarray) -> None:
        predict_rows(net, meta, placed(images, job.device), rows, average=config.tta.average, batch=PREDICTED,
                     device=job.device, precision=job.precision)

    predict(job.held_rows[:PREDICTED])
    return rate(lambda: predict(job.held_rows), views * len(job.held_rows), device=job.device)


def profiled(job: FoldJob) -> Row:
    """The operators that take most of the device's time in a training, and the share of its epochs that it is busy.

    On a CPU the time is the operators' own there. Times are seen by torch.profiler, which slows the program down.
    """
    on_gpu = job.device.startswith("cuda")
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    with profile(activities=activities) as profiler:
        train_fold(job)
    events = list(profiler.key_averages())
    operators = [(e.key, e.count, e.self_device_time_total if on_gpu else e.self_cpu_time_total)
                 for e in events if e.device_type == DeviceType.CPU]
    total = sum(micros for *_, micros in operators)
    kernels = sum(e.self_device_time_total for e in events
                  if e.device_type == DeviceType.CUDA and not e.is_user_annotation)
    seconds = float(pd.read_csv(job.scratch / "timing.csv")["seconds"].sum())
    top = sorted(operators, key=lambda row: -row[2])[:TERMS]
    return {
        "epoch_seconds": seconds, "device_busy": round(kernels / 1e6 / seconds, 3) if on_gpu else None,
        "terms": [{"operator": key, "calls": count, "ms": round(micros / 1e3, 2), "share": round(micros / total, 4)}
                  for key, count, micros in top],
    }


def device_facts(device: str) -> Row:
    """Which device, and what drives it."""
    if not device.startswith("cuda"):
        return {"name": device}
    properties = torch.cuda.get_device_properties(device)
    return {"name": properties.name, "memory_GiB": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count, "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version()}
