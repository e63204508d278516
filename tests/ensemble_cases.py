"""Synthetic members for the tests of the ensemble floor."""

import numpy as np

from pipeline.ensemble.simplex import softmax


def members(
    *strengths: float, rows: int = 400, classes: int = 5, seed: int = 0, shared: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A stack `(M, N, C)` float32, labels `(N,)` and folds `(N,)` in 0..3; strength 0 knows nothing of the labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, size=rows)
    common = shared * random.normal(size=(rows, classes))
    stack = []
    for strength in strengths:
        scores = common + random.normal(size=(rows, classes))
        scores[np.arange(rows), labels] += strength
        stack.append(softmax(scores).astype(np.float32))
    return np.array(stack), labels, np.arange(rows) % 4
