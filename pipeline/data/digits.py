"""Scikit-learn's handwritten digits as a competition: real images that need no download."""

from contextlib import ExitStack
from functools import partial

import cv2
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pipeline.config.data import DataConfig
from pipeline.data.records import Listing, Record
from pipeline.rng import derive

TEST_ROWS = 360


def list_digits(config: DataConfig, *, stack: ExitStack) -> Listing:
    """1437 labelled training images and 360 test images, 8x8, grey 0..255; the split never changes.

    Source: UCI optical recognition of handwritten digits, test part (1797 images, values 0..16), as shipped with
    scikit-learn. The test rows are a stratified draw and their labels are withheld.
    """
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)                    # (1797, 8, 8)
    rows = np.arange(len(images))
    _, test = train_test_split(rows, test_size=TEST_ROWS, stratify=digits.target,
                               random_state=derive(0, "digits", "test") % 2**32)
    held = set(test.tolist())
    return Listing([
        Record(f"digit_{row:04d}", None if row in held else str(digits.target[row]),
               "test" if row in held else "train", f"scikit-learn digits:{row}", partial(_png, images[row]))
        for row in rows.tolist()
    ])



def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()
