"""Batches of warped images: one warp per image, straight from the store's memmap into a reused buffer."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar, cast

import numpy as np
import torch

from pipeline.augment.affine import draw_matrices, fit_matrices
from pipeline.augment.warp import warp_batch
from pipeline.config.model import ModelConfig
from pipeline.data.store import Packed

Item = TypeVar("Item")


def training_batches(
    packed: Packed, rows: np.ndarray, *, labels: np.ndarray, config: ModelConfig, rng: np.random.Generator,
    buffers: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch: every row at most once, shuffled and augmented by `rng`: uint8 images `(B, S, S, C)`, labels `(B,)`.

    `labels` belong to `rows` one by one. A last batch that is not full is dropped unless it is the only one. An
    images array is overwritten `buffers` batches later.
    """
    steps, size = epoch_shape(len(rows), config.batch)
    order = rng.permutation(len(rows))[:steps * size]
    drawn = draw_matrices(rng, len(order), augment=config.augment, canvas=config.canvas)
    yield from zip(
        _warped(packed, rows[order], drawn, config=config, batch=size, buffers=buffers),
        labels[order].reshape(steps, size),                                                             # (steps, B)
        strict=True,
    )


def epoch_shape(n_rows: int, batch: int) -> tuple[int, int]:
    """Number of batches of one epoch, and rows in each of them."""
    size = min(batch, n_rows)
    return n_rows // size, size


def view_batches(
    packed: Packed, rows: np.ndarray, *, config: ModelConfig, matrix: np.ndarray, batch: int, buffers: int = 1
) -> Iterator[np.ndarray]:
    """The rows in order under one view, `matrix (3, 3)` canvas to canvas, as `(B, S, S, C)` uint8; none is dropped.

    An array is overwritten `buffers` batches later.
    """
    drawn = np.broadcast_to(matrix, (len(rows), 3, 3))
    yield from _warped(packed, rows, drawn, config=config, batch=batch, buffers=buffers)


def to_input(batch: np.ndarray, *, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """`(B, H, W, C)` uint8 to `(x / 255 - mean) / std`, `(B, C, H, W)` float32 channels_last, on the device of `mean`.

    `mean` and `std` are `(C, 1, 1)`. The permuted view keeps strides that convolutions recognise as channels_last also
    for one channel, where `Tensor.to(memory_format=...)` would leave NCHW strides.
    """
    images = torch.from_numpy(batch).to(mean.device).permute(0, 3, 1, 2)                                  # (B, C, H, W)
    return images.to(torch.float32).sub_(mean * 255).div_(std * 255)


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


def _warped(
    packed: Packed, rows: np.ndarray, drawn: np.ndarray, *, config: ModelConfig, batch: int, buffers: int
) -> Iterator[np.ndarray]:
    shapes = packed.table[["height", "width"]].to_numpy()[rows]                                              # (N, 2)
    matrices = drawn @ fit_matrices(shapes, config.canvas, fit=config.fit, fill=config.fill)              # (N, 3, 3)
    ring = np.empty((buffers, min(batch, len(rows)), config.canvas, config.canvas, packed.channels), np.uint8)
    for index, start in enumerate(range(0, len(rows), batch)):
        part = slice(start, start + batch)
        images = [packed.image(row) for row in rows[part]]
        yield warp_batch(images, matrices[part], canvas=config.canvas, out=ring[index % buffers][:len(images)])
