"""Batches for training, tensors from them, and a thread that prepares them ahead."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import torch

from pipeline.config.model import ModelConfig
from pipeline.training.feed import Feed, Inputs
from pipeline.training.sampling import Sampling, epoch_order, in_turns

Item = TypeVar("Item")


@dataclass(frozen=True)
class EpochShape:
    """How the rows of an epoch are dealt out."""

    steps: int              # of the optimiser
    accumulate: int         # batches in a step
    labelled: int           # rows of a batch
    unlabelled: int         # test rows of a batch, with pseudo-labels

    @property
    def batch(self) -> int:
        """Rows of a batch, B."""
        return self.labelled + self.unlabelled

    @property
    def batches(self) -> int:
        """Of the epoch."""
        return self.steps * self.accumulate


def epoch_shape(n_rows: int, config: ModelConfig) -> EpochShape:
    """One pass over `n_rows` labelled rows, less those that do not fill a last step (there is always one step)."""
    share = config.pseudo.fraction if config.pseudo else 0.0
    unlabelled = min(max(round(share * config.batch), 1), config.batch - 1) if share else 0
    labelled = min(config.batch - unlabelled, n_rows)
    accumulate = min(config.accumulate, n_rows // labelled)
    return EpochShape(n_rows // labelled // accumulate, accumulate, labelled, unlabelled)


def training_batches(
    feed: Feed, rows: np.ndarray, *, labels: np.ndarray, shape: EpochShape, sampling: Sampling,
    rng: np.random.Generator, unlabelled: np.ndarray | None = None, buffers: int = 1,
) -> Iterator[tuple[Inputs, np.ndarray]]:
    """One epoch, shuffled and augmented by `rng`: inputs of `feed`, and the rows `(B,)` that they are of.

    `labels` belong to `rows` one by one. With natural `sampling` every row comes at most once; the test rows in
    `unlabelled` take turns. An images array is overwritten `buffers` batches later.
    """
    n = shape.batches
    order = rows[epoch_order(labels, sampling=sampling, rng=rng)[:n * shape.labelled]].reshape(n, -1)
    if unlabelled is not None and shape.unlabelled:
        turns = in_turns(unlabelled, n * shape.unlabelled, rng=rng)
        order = np.concatenate([order, turns.reshape(n, -1)], axis=1)                                  # (batches, B)
    yield from zip(feed.drawn(order.ravel(), rng, batch=shape.batch, buffers=buffers), order, strict=True)


def to_tensors(
    inputs: Inputs, *, mean: torch.Tensor, std: torch.Tensor,
    recolour: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[torch.Tensor, ...]:
    """Inputs of a feed in float32 on the device of `mean`: images normalised, features as they are.

    Images `(B, H, W, C)` uint8 become `(recolour(x) / 255 - mean) / std`, `(B, C, H, W)` channels_last, with `mean`
    and `std` `(C, 1, 1)`. The permuted view keeps strides that convolutions recognise as channels_last also for one
    channel, where `Tensor.to(memory_format=...)` would leave NCHW strides.
    """
    first, *side = (torch.as_tensor(values, device=mean.device) for values in inputs)
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
