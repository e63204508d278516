"""The picture of a learning-rate range test."""

import numpy as np
from matplotlib.figure import Figure

from pipeline.plots.palette import BLUE, GREEN, GREY, ORANGE

HEADROOM = 1.15         # the axis of the loss ends at this times the smoothed loss of the start


def draw_lr_range(
    lrs: np.ndarray, losses: np.ndarray, *,
    smoothed: np.ndarray, suggested: float, bound: float, current: float, title: str,
) -> Figure:
    """Loss over log learning rate, `(T,)` each: batches faint, smoothed strong; three rates are marked.

    Divergence above the loss of the start is cut off. A marked rate that was not tried widens its axis.
    """
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(lrs, losses, color=GREY, alpha=0.5, linewidth=0.8, label="batch")
    axes.plot(lrs, smoothed, color=BLUE, linewidth=2, label="smoothed")
    axes.axvline(suggested, color=GREEN, linewidth=1.8, label=f"steepest descent: {suggested:.2g}")
    axes.axvline(bound, color=GREEN, linewidth=1.2, linestyle=":", label=f"a tenth of the minimum's: {bound:.2g}")
    axes.axvline(current, color=ORANGE, linewidth=1.5, linestyle="--", label=f"params.yaml: {current:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=title,
             ylim=(0.0, HEADROOM * float(smoothed[: max(1, len(smoothed) // 4)].max())))
    axes.grid(alpha=0.25)
    axes.legend(loc="lower left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
