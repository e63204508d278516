"""One composed warp per image against a bare cv2.warpAffine loop and against a chain of albumentations transforms.

Writes benchmarks/results/warp.json. One thread; ratios are taken turn by turn within one run. "the training feed" is
the real path from the packed store: draws, fit, one warp straight into the batch's array; and then as tensors.
"""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"    # before the import: it would look for updates over the network

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from report import interleaved, summary, write
from synthetic import pack_arrays

from pipeline.augment.affine import draw_matrices, fit_matrices
from pipeline.augment.transform import ComposedAffine
from pipeline.augment.warp import warp_batch
from pipeline.config.model import AugmentConfig, ModelConfig
from pipeline.data.store import open_packed
from pipeline.training.batches import to_tensors
from pipeline.training.feed import Images

IMAGES, BATCH, REPEATS, FILL = 256, 128, 25, 0.9
VISITS = 8                                      # of each image in an epoch of the feed, which has costs of its own
DEEP_SEA = AugmentConfig(rotation=180, translation=10 / 95, zoom=1.6, shear=20, stretch=1.3, flip=0.5)
CASES = {                                       # side of the images, channels, side of the canvas
    "grey 64 px": (64, 1, 64), "grey 96 px on 96 px": (96, 1, 96), "grey 128 px": (128, 1, 64),
    "RGB 128 px": (128, 3, 64),
}
BARE, CHAIN = "bare warpAffine loop", "chain of albumentations transforms"


def measure(side: int, channels: int, canvas: int) -> dict[str, object]:
    """Images per second of each way from images in memory to a batch, its share of the bare loop, and quartiles."""
    random = np.random.default_rng(0)
    images = list(random.integers(0, 256, (IMAGES, side, side, channels), dtype=np.uint8))
    with TemporaryDirectory() as directory:
        ways = {**loops(random, images, canvas), **feeds(random, images, canvas, Path(directory))}
        seconds = {name: np.array(taken) / (VISITS if name.startswith("the training feed") else 1)
                   for name, taken in interleaved(ways, repeats=REPEATS).items()}
    return {name: {"images_per_second": IMAGES / float(np.median(taken)),
                   "share_of_bare": float(np.median(seconds[BARE] / taken)),
                   "times_the_chain": float(np.median(seconds[CHAIN] / taken)), **summary(taken.tolist())}
            for name, taken in seconds.items()}


def loops(random: np.random.Generator, images: list[np.ndarray], canvas: int) -> dict[str, Callable[[], Any]]:
    """The bare limit, our warp without the feed around it, and albumentations."""
    shapes = np.array([image.shape[:2] for image in images])

    def maps() -> np.ndarray:
        drawn = draw_matrices(random, IMAGES, augment=DEEP_SEA, canvas=canvas)
        return drawn @ fit_matrices(shapes, canvas, fit="longest", fill=FILL)                             # (N, 3, 3)

    plain = [np.ascontiguousarray(m[:2]) for m in maps()]
    out = np.empty((IMAGES, canvas, canvas, images[0].shape[2]), np.uint8)
    one = A.Compose([ComposedAffine(canvas=canvas, fill=FILL, **DEEP_SEA.model_dump())], seed=0)
    chain = A.Compose([
        A.LongestMaxSize(canvas), A.PadIfNeeded(canvas, canvas, border_mode=cv2.BORDER_CONSTANT),
        A.HorizontalFlip(p=0.5), A.Rotate((-180, 180), p=1),
        A.Affine(shear=(-20, 20), p=1), A.Affine(scale=(1 / 1.6, 1.6), p=1),
        A.Affine(scale={"x": (1 / 1.3, 1.3), "y": (1 / 1.3, 1.3)}, p=1),
        A.Affine(translate_percent=(-10 / 95, 10 / 95), p=1),
    ], seed=0)
    return {
        BARE: lambda: [cv2.warpAffine(image, m, (canvas, canvas)) for image, m in zip(images, plain, strict=True)],
        "draws and warp_batch": lambda: warp_batch(images, maps(), canvas=canvas, out=out),
        "ComposedAffine in a Compose": lambda: [one(image=image) for image in images],
        CHAIN: lambda: [chain(image=image) for image in images],
    }


def feeds(
    random: np.random.Generator, images: list[np.ndarray], canvas: int, directory: Path
) -> dict[str, Callable[[], Any]]:
    """What training does: shuffled rows of the packed store, in batches, without and with normalised tensors."""
    packed = open_packed(pack_arrays(directory, images, np.zeros(IMAGES, int)))
    feed = Images(packed, ModelConfig(net="lenet5", canvas=canvas, fill=FILL, augment=DEEP_SEA))
    mean, std = (torch.full((packed.channels, 1, 1), value) for value in (0.5, 0.25))
    rows = random.permutation(np.repeat(np.arange(IMAGES), VISITS))

    def images_of_an_epoch() -> None:
        for _ in feed.drawn(rows, random, batch=BATCH, buffers=2):
            pass

    def tensors_of_an_epoch() -> None:
        for inputs in feed.drawn(rows, random, batch=BATCH, buffers=2):
            to_tensors(inputs, mean=mean, std=std)

    return {
        "the training feed": images_of_an_epoch,
        "the training feed, as tensors": tensors_of_an_epoch,
    }


if __name__ == "__main__":
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    write("warp", {"images": IMAGES, "batch": BATCH, "cases": {name: measure(*case) for name, case in CASES.items()}})
