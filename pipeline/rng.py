"""Randomness is an explicit argument, derived from what it is for; there is no global state."""

import hashlib

import numpy as np


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed that depends on every part of `purpose`, e.g. `derive(0, "resnet18", 3, "augment")`.

    Stable across processes, platforms and versions of Python (SHA-256 of the parts' text).
    """
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """A numpy generator for one purpose; see `derive`."""
    return np.random.default_rng(derive(seed, *purpose))
