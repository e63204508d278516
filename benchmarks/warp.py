"""One composed warp per image against a bare cv2.warpAffine loop and against a chain of albumentations transforms.

Writes benchmarks/results/warp.json. One thread; ratios are taken turn by turn within one run.
"""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"    # before the import: it would look for updates over the network

import albumentations as A
import cv2
import numpy as np
from report import interleaved, summary, write

from pipeline.augment.affine import draw_matrices, fit_matrices
from pipeline.augment.transform import ComposedAffine
from pipeline.augment.warp import warp_batch
from pipeline.config.model import AugmentConfig

IMAGES, CANVAS, REPEATS = 256, 64, 25
DEEP_SEA = AugmentConfig(rotation=180, translation=10 / 95, zoom=1.6, shear=20, stretch=1.3, flip=0.5)
CASES = {"grey 64 px": (64, 1), "grey 128 px": (128, 1), "RGB 128 px": (128, 3)}


def measure(side: int, channels: int) -> dict[str, object]:
    random = np.random.default_rng(0)
    images = list(random.integers(0, 256, (IMAGES, side, side, channels), dtype=np.uint8))
    shapes = np.array([image.shape[:2] for image in images])
    matrices = draw_matrices(random, IMAGES, augment=DEEP_SEA, canvas=CANVAS) @ fit_matrices(
        shapes, CANVAS, fit="longest", fill=0.9)
    plain = [np.ascontiguousarray(m[:2]) for m in matrices]
    out = np.empty((IMAGES, CANVAS, CANVAS, channels), np.uint8)
    one = A.Compose([ComposedAffine(canvas=CANVAS, fill=0.9, **DEEP_SEA.model_dump())], seed=0)
    chain = A.Compose([
        A.LongestMaxSize(CANVAS), A.PadIfNeeded(CANVAS, CANVAS, border_mode=cv2.BORDER_CONSTANT),
        A.HorizontalFlip(p=0.5), A.Rotate((-180, 180), p=1),
        A.Affine(shear=(-20, 20), p=1), A.Affine(scale=(1 / 1.6, 1.6), p=1),
        A.Affine(scale={"x": (1 / 1.3, 1.3), "y": (1 / 1.3, 1.3)}, p=1),
        A.Affine(translate_percent=(-10 / 95, 10 / 95), p=1),
    ], seed=0)

    def bare() -> None:
        for image, matrix in zip(images, plain, strict=True):
            cv2.warpAffine(image, matrix, (CANVAS, CANVAS))

    def drawn_and_warped() -> None:
        drawn = draw_matrices(random, IMAGES, augment=DEEP_SEA, canvas=CANVAS) @ fit_matrices(
            shapes, CANVAS, fit="longest", fill=0.9)
        warp_batch(images, drawn, canvas=CANVAS, out=out)

    seconds = interleaved({
        "bare warpAffine loop": bare,
        "draws and warp_batch": drawn_and_warped,
        "ComposedAffine in a Compose": lambda: [one(image=image) for image in images],
        "chain of albumentations transforms": lambda: [chain(image=image) for image in images],
    }, repeats=REPEATS)
    bare = np.array(seconds["bare warpAffine loop"])
    return {name: {"images_per_second": IMAGES / summary(times)["median"],
                   "share_of_bare": float(np.median(bare / np.array(times))), **summary(times)}
            for name, times in seconds.items()}


if __name__ == "__main__":
    cv2.setNumThreads(1)
    write("warp", {"canvas": CANVAS, "images": IMAGES,
                   "cases": {name: measure(*case) for name, case in CASES.items()}})
