"""The picture of how alike the members err."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.cluster import hierarchy

from pipeline.ensemble.diversity import leaf_order, merge_tree
from pipeline.plots.palette import BLUE

CELL, MARGIN, TREE = 0.27, 2.6, 1.8     # inches: a member's row, names and colour bar, the dendrogram
WRITTEN = 15                            # members at most, for numbers in the cells


def draw_diversity(correlation: np.ndarray, names: Sequence[str], *, title: str) -> Figure:
    """Heat map of the correlation of errors `(M, M)`, members ordered by the dendrogram that stands beside it.

    Colours span the values off the diagonal; up to 15 members have them written in the cells.
    """
    tree = merge_tree(correlation)                                               # (M - 1, 4)
    order = leaf_order(tree)                                                     # (M,)
    shown = correlation[np.ix_(order, order)].astype(np.float64)                 # (M, M)
    np.fill_diagonal(shown, np.nan)
    side = CELL * max(len(names), 8)
    figure = Figure(figsize=(side + TREE + MARGIN, side + MARGIN - 0.8), dpi=120, layout="constrained")
    heat, merges = figure.subplots(1, 2, sharey=True, width_ratios=(side, TREE))
    image = heat.imshow(shown, cmap="viridis", norm=_span(shown), aspect="auto", interpolation="nearest")
    labels = [names[m] for m in order]
    heat.set_xticks(range(len(names)), labels, rotation=90, fontsize=8)
    heat.set_yticks(range(len(names)), labels, fontsize=8)
    heat.tick_params(length=0)
    if len(names) <= WRITTEN:
        _write(heat, shown, image.norm)
    _draw_tree(merges, tree)
    figure.colorbar(image, ax=merges, label="correlation of errors", shrink=0.8, pad=0.1)
    figure.suptitle(title)
    return figure


def _span(shown: np.ndarray) -> Normalize:
    """The values off the diagonal, at least a tenth wide."""
    values = shown[~np.isnan(shown)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return Normalize(low, max(high, low + 0.1))


def _write(axes: Axes, shown: np.ndarray, norm: Normalize) -> None:
    for i, j in np.argwhere(~np.isnan(shown)):
        axes.text(j, i, f"{shown[i, j]:.2f}".replace("0.", ".", 1), ha="center", va="center", fontsize=7,
                  color="black" if norm(shown[i, j]) > 0.6 else "white")


def _draw_tree(axes: Axes, tree: np.ndarray) -> None:
    """Merges at their height 1 - correlation, leaves at the rows of the heat map."""
    if len(tree):
        plan = hierarchy.dendrogram(tree, no_plot=True)
        for across, heights in zip(plan["icoord"], plan["dcoord"], strict=True):
            axes.plot(heights, (np.array(across) - 5) / 10, color=BLUE, linewidth=1.2)   # scipy's leaves: 5, 15, ...
    axes.set(xlabel="1 - correlation", xlim=(0, None))
    axes.tick_params(axis="y", labelleft=False, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
