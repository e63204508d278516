"""Hand-made features of every row of the store, computed once and kept by content in the scratch store."""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from pipeline.artefacts import SCRATCH, digest
from pipeline.closure import closure_digest
from pipeline.data.handmade import handmade_features
from pipeline.data.store import Packed, open_packed
from pipeline.training.cache import cached_rows

STORE = SCRATCH / "handmade.features"   # no model's directory: a model's name has no dot


def side_file(handmade: tuple[str, ...], packed: Path, *, slots: int) -> Path | None:
    """File of the features `(N, F)` float32 of these names, of all rows; None for no names."""
    if not handmade:
        return None
    store = open_packed(packed)
    return cached_rows(_features, [(packed, handmade)], side_directory(handmade, store) / "features.npy",
                       n_rows=len(store.table), slots=slots)


def side_directory(handmade: tuple[str, ...], packed: Packed) -> Path:
    """Named after all that determines the features: which ones, images, code, libraries."""
    versions = [version(library) for library in ("numpy", "opencv-python-headless", "scikit-image")]
    return STORE / digest(packed.digest, *handmade, "of", closure_digest("pipeline.data.handmade"), *versions)


def _features(what: tuple[Path, tuple[str, ...]], rows: np.ndarray) -> np.ndarray:
    packed, kinds = what
    return handmade_features(open_packed(packed), kinds, rows=rows)
