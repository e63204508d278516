"""Hand-made features of the images as they are stored: dimensions, moments of the shape, texture."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pipeline.data.store import Packed

ORDERS = ("20", "11", "02", "30", "21", "12", "03")
TEXTURES = ("contrast", "dissimilarity", "homogeneity", "ASM", "correlation", "entropy")
DISTANCES = (1, 2)       # px between the two pixels of a pair
LEVELS = 32              # grey levels that co-occurrence counts
KNEE = 1e-3              # below it a moment's signed logarithm turns linear: moments of either sign keep one peak

Features = Callable[[np.ndarray], list[float]]


def handmade_features(packed: Packed, kinds: Sequence[str], *, rows: np.ndarray | None = None) -> np.ndarray:
    """The features of `kinds` of table `rows`, `(n, F)` float32, finite; None is every row, training rows first.

    dimensions: log height, log width and log area in px, shorter over longer side.
    moments: of grey levels in [0, 1] as mass, so that the background is 0, channels averaged: seven normalised central
    moments of order 2 and 3, seven of Hu, each as arcsinh(1000 m), a signed logarithm; mean and standard deviation of
    the levels, share of pixels above their mean, all in [0, 1].
    haralick: co-occurrence of 32 grey levels at 1 and 2 px (diagonally 1 px along both axes at either), counted over
    eight directions, so that turns by 90 degrees and mirrors change nothing: contrast [0, 961], dissimilarity [0, 31],
    homogeneity and angular second moment (0, 1], correlation [-1, 1], entropy [0, ln 1024] nats; an image without a
    pair counts as constant.
    haralick takes nearly all of the time; callers keep the result.
    Source: Hu 1962, "Visual pattern recognition by moment invariants"; Haralick et al. 1973, "Textural features".
    """
    table: dict[str, Features] = {"dimensions": _dimensions, "moments": _moments, "haralick": _haralick}
    chosen = [table[kind] for kind in kinds]
    wanted: list[int] = (np.arange(len(packed.table)) if rows is None else rows).tolist()
    values = [[value for features in chosen for value in features(packed.image(row))] for row in wanted]
    return np.array(values, dtype=np.float32).reshape(len(values), len(handmade_names(kinds)))


def handmade_names(kinds: Sequence[str]) -> list[str]:
    """Names of the columns of `handmade_features`, `<kind>.<feature>`."""
    names = {
        "dimensions": ["log_height", "log_width", "log_area", "aspect"],
        "moments": [*(f"nu{order}" for order in ORDERS), *(f"hu{i}" for i in range(1, 8)), "mean", "std", "filled"],
        "haralick": [f"{texture.lower()}_{distance}" for texture in TEXTURES for distance in DISTANCES],
    }
    return [f"{kind}.{name}" for kind in kinds for name in names[kind]]


def _dimensions(image: np.ndarray) -> list[float]:
    height, width, _ = image.shape
    return [np.log(height), np.log(width), np.log(height * width), min(height, width) / max(height, width)]


def _moments(image: np.ndarray) -> list[float]:
    total = image.sum(axis=2, dtype=np.int64)                                 # (H, W), whole numbers: exact comparisons
    grey = total / (255 * image.shape[2])                                     # (H, W) in [0, 1]
    moments = cv2.moments(grey)
    shape = np.array([*(moments[f"nu{order}"] for order in ORDERS), *cv2.HuMoments(moments).ravel()])
    filled = (total * total.size > total.sum()).mean()
    return [*np.arcsinh(shape / KNEE), grey.mean(), grey.std(), filled]


def _haralick(image: np.ndarray) -> list[float]:
    from skimage.feature import graycomatrix, graycoprops  # only who asks for textures needs scikit-image, 0.3 s

    levels = (image.mean(axis=2) * (LEVELS / 256)).astype(np.uint8)           # (H, W) in 0 to LEVELS - 1
    angles = np.pi / 4 * np.arange(4)
    pairs = graycomatrix(levels, DISTANCES, angles, levels=LEVELS, symmetric=True)
    counts = pairs.sum(axis=3, keepdims=True, dtype=np.float64)               # (LEVELS, LEVELS, distances, 1)
    counts[0, 0] += counts.sum(axis=(0, 1)) == 0
    return [value for texture in TEXTURES for value in graycoprops(counts, texture)[:, 0]]
