"""Small competitions on disk, for the tests that read data."""

import zipfile
from pathlib import Path

import cv2
import numpy as np


def image(seed: int, *, height: int = 7, width: int = 5, channels: int = 1) -> np.ndarray:
    """Noise `(H, W)` grey or `(H, W, 3)` RGB, uint8."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Lossless bytes of a grey or RGB image."""
    return cv2.imencode(".png", pixels if pixels.ndim == 2 else pixels[:, :, ::-1])[1].tobytes()


def two_classes() -> dict[str, bytes]:
    """Path to file: six training images of two classes and three test images, all different."""
    train = {f"train/{'cat' if i % 2 else 'dog'}/{i}.png": png(image(i, height=4 + i)) for i in range(6)}
    return train | {f"test/{i}.png": png(image(i, height=4 + i)) for i in range(10, 13)}


def write_folders(base: Path, files: dict[str, bytes]) -> Path:
    """Writes the files below `base`."""
    for name, data in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return base


def write_zips(base: Path, files: dict[str, bytes], *, leading_folder: bool) -> Path:
    """Writes `train.zip` and `test.zip`, with or without the leading folder, with the litter of a Mac."""
    base.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        with zipfile.ZipFile(base / f"{split}.zip", "w") as archive:
            archive.writestr(f"__MACOSX/{split}/._1.png", b"litter")
            for name, data in files.items():
                if name.startswith(f"{split}/"):
                    archive.writestr(name if leading_folder else name.removeprefix(f"{split}/"), data)
    return base
