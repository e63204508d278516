"""Images that need no download: grey flowers whose class is their number of petals, packed like any other data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.artefacts import digest
from pipeline.data.store import PIXELS, Row, write_packed

CLASSES, FEWEST_PETALS = 10, 2


def flower_store(directory: Path, *, rows: int, sides: tuple[int, int] = (64, 128)) -> Path:
    """`directory` with `rows` packed flowers, heights and widths drawn between `sides` px; the same for every run."""
    random = np.random.default_rng(0)
    labels = np.arange(rows) % CLASSES
    shapes = random.integers(*sides, size=(rows, 2), endpoint=True)
    images = [flower(random, tuple(shape), petals=FEWEST_PETALS + int(label))
              for shape, label in zip(shapes, labels, strict=True)]
    return pack_arrays(directory, images, labels)


def flower(random: np.random.Generator, shape: tuple[int, int], *, petals: int) -> np.ndarray:
    """One flower on dark ground with grey noise, turned at random, `(*shape, 1)` uint8."""
    y, x = (np.arange(side) - (side - 1) / 2 for side in shape)
    radius = np.hypot(y[:, None], x) / (0.5 * min(shape))                                               # (H, W)
    edge = 0.6 + 0.3 * np.cos(petals * (np.arctan2(y[:, None], x) + random.uniform(0, 2 * np.pi)))
    return ((radius < edge) * 200 + random.integers(0, 56, shape)).astype(np.uint8)[..., None]


def pack_arrays(directory: Path, images: Sequence[np.ndarray], labels: np.ndarray) -> Path:
    """`directory` as the packed store of training images `(h, w, C)` uint8 with these class indices."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / PIXELS).write_bytes(b"".join(image.tobytes() for image in images))
    ends = np.cumsum([image.size for image in images])
    rows = [Row(f"{i:06d}", f"class {label}", "train", image.shape[0], image.shape[1],
                int(end) - image.size, digest(image.tobytes()), None)
            for i, (image, label, end) in enumerate(zip(images, labels, ends, strict=True))]
    names = sorted({f"class {label}" for label in labels})
    write_packed(directory, rows, classes=names, channels=images[0].shape[2], facts={})
    return directory
