"""Batches for training, tensors from them, and a thread that prepares them ahead."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar, cast

import numpy as np
import torch

from pipeline.training.feed import Feed, Inputs
from pipeline.training.sampling import Sampling, epoch_order

Item = TypeVar("Item")


def training_batches(
    feed: Feed, rows: np.ndarray, *, labels: np.ndarray, batch: int, sampling: Sampling, rng: np.random.Generator,
    buffers: int = 1,
) -> Iterator[tuple[Inputs, np.ndarray]]:
    """One epoch, shuffled and augmented by `rng`: inputs of `feed`, and their labels `(B,)`.

    `labels` belong to `rows` one by one. With natural `sampling` every row comes at most once. A last batch that is
    not full is dropped unless it is the only one. An images array is overwritten `buffers` batches later.
    """
    steps, size = epoch_shape(len(rows), batch)
    order = epoch_order(labels, sampling=sampling, rng=rng)[:steps * size]
    yield from zip(
        feed.drawn(rows[order], rng, batch=size, buffers=buffers),
        labels[order].reshape(steps, size),                                                             # (steps, B)
        strict=True,
    )


def epoch_shape(n_rows: int, batch: int) -> tuple[int, int]:
    """Number of batches of one epoch, and rows in each of them."""
    size = min(batch, n_rows)
    return n_rows // size, size


def to_tensors(
    inputs: Inputs, *, mean: torch.Tensor, std: torch.Tensor,
    recolour: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[torch.Tensor, ...]:
    """Inputs of a feed in float32 on the device of `mean`: images normalised, features as they are.

    Images `(B, H, W, C)` uint8 become `(recolour(x) / 255 - mean) / std`, `(B, C, H, W)` channels_last, with `mean`
    and `std` `(C, 1, 1)`. The permuted view keeps strides that convolutions recognise as channels_last also for one
    channel, where `Tensor.to(memory_format=...)` would leave NCHW strides.
    """
    first, *side = (torch.from_numpy(values).to(mean.device) for values in inputs)
    if first.ndim == 4:
        first = first.permute(0, 3, 1, 2).to(torch.float32)                                              # (B, C, H, W)
        first = first if recolour is None else recolour(first)
        first = first.sub_(mean * 255).div_(std * 255)
    return (first.float(), *(values.float() for values in side))


def prefetch(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The same items, made by a thread that is at most `depth` ahead; its error is raised here.

    Items in flight: `depth` waiting, one being made, one in use; so batches need `depth + 2` buffers.
    """
    waiting: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(depth)  # (is an item, it or the error)
    stopped = threading.Event()

    def put(more: bool, value: Item | BaseException | None) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                waiting.put((more, value), timeout=0.1)
                break

    def make() -> None:
        try:
            for item in items:
                put(True, item)
                if stopped.is_set():
                    return
            put(False, None)
        except BaseException as error:
            put(False, error)

    threading.Thread(target=make, daemon=True).start()
    try:
        while True:
            more, value = waiting.get()
            if more:
                yield cast(Item, value)
            elif value is None:
                return
            else:
                raise cast(BaseException, value)
    finally:
        stopped.set()
