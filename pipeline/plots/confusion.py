"""The picture of which classes are taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.cluster import hierarchy

CELL, MARGIN = 0.125, 3.2       # inches: a class's row, names and colour bar
LARGEST = 24.0                  # inches: the side of the matrix; of very many classes the names shrink
WRITTEN = 25                    # classes at most, for numbers in the cells
FAINTEST = 1e-3                 # share of a class's rows where the colours end


def draw_confusion(matrix: np.ndarray, classes: Sequence[str], *, title: str) -> Figure:
    """Each class's rows by predicted class, `(C, C)` counts, in colour on a log scale; empty cells are white.

    Up to 25 classes keep their order and have the counts written in the cells; of more, those that are taken for each
    other stand side by side.
    """
    few = len(classes) <= WRITTEN
    order = np.arange(len(classes)) if few else class_order(matrix)
    counts = matrix[np.ix_(order, order)]                                        # (C, C)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = 0.36 if few else min(CELL, LARGEST / len(classes))
    size = 8.0 if few else 44 * cell                                             # points
    side = max(cell * len(classes), 2.5)
    figure = Figure(figsize=(side + MARGIN, side + MARGIN - 1.0), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(np.ma.masked_equal(share, 0), cmap="viridis_r", norm=LogNorm(FAINTEST, 1, clip=True),
                        interpolation="nearest")
    labels = [classes[int(c)] for c in order]
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(len(labels)), labels, fontsize=size)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="actual")
    if few:
        _write(axes, counts, share)
    else:
        axes.grid(linewidth=0.3, alpha=0.4)
        axes.set_axisbelow(True)
    figure.colorbar(image, ax=axes, label="share of the actual class's rows", shrink=0.6, format="%g")
    figure.suptitle(title)
    return figure


def class_order(matrix: np.ndarray) -> np.ndarray:
    """The classes `(C,)` by average linkage on one minus the mean share of either's rows that is taken for the other.

    `matrix (C, C)`: counts by actual and predicted class.
    """
    if len(matrix) < 3:
        return np.arange(len(matrix))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    either = (share + share.T) / 2
    distance = 1 - either[np.triu_indices(len(matrix), k=1)]
    return hierarchy.leaves_list(hierarchy.linkage(distance, method="average", optimal_ordering=True))


def _write(axes: Axes, counts: np.ndarray, share: np.ndarray) -> None:
    for i, j in np.argwhere(counts > 0):
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=7,
                  color="white" if share[i, j] > 0.05 else "black")
