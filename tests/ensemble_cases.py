"""Synthetic members for the tests of the ensemble floor."""

import numpy as np

from pipeline.ensemble.bootstrap import Sample
from pipeline.ensemble.contract import Method, Predictions, Settings, View
from pipeline.ensemble.methods import METHODS, find
from pipeline.ensemble.simplex import softmax
from pipeline.metrics import METRICS, Metric

SMALL = Settings(greedy_steps=8, greedy_bags=1)
NAMES = [*METHODS, "geometric+temperature", "rank+vector", "blend+temperature", "greedy+vector", "vote+dirichlet"]
CALIBRATED = [name for name in NAMES if "+" in name]
WEIGHTED = [name for name in NAMES if name != "stack_logistic"]         # those with a weight for each member


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


def view_of(stack: np.ndarray, labels: np.ndarray | None = None, *, threads: int = 1) -> View:
    """All members of a stack `(M, N, C)` on all rows."""
    return Predictions(stack, labels, threads).all()


def method(name: str) -> Method:
    """A method of the table, calibrated where its name says so."""
    return find(name, METHODS)


def sample(
    labels: np.ndarray, *, metric: Metric = METRICS["log_loss"], classes: int = 5, draws: int = 300,
    level: float = 0.95, seed: int = 0, clusters: np.ndarray | None = None,
) -> Sample:
    """Rows to resample."""
    return Sample(labels, classes, metric, draws, level, seed, clusters)
