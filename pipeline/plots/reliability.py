"""The picture of whether confidences are true."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from pipeline.ensemble.reliability import Reliability, calibration_error
from pipeline.plots.palette import BLUE, GREEN, GREY, ORANGE

COLOURS = (BLUE, ORANGE, GREEN, "#7b3f98", "#b3261e")


def draw_reliability(curves: Mapping[str, Reliability], *, title: str) -> Figure:
    """Accuracy over confidence, with intervals, above accuracy minus confidence: zero is calibrated, below is too sure.

    One curve per name, five at most; the legend says each curve's calibration error.
    """
    figure = Figure(figsize=(6, 7.5), dpi=120, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    below.axhline(0, color=GREY, linestyle="--", linewidth=1)
    for (name, curve), colour in zip(curves.items(), COLOURS[: len(curves)], strict=True):
        label = f"{name}: calibration error {calibration_error(curve):.4f}"
        for axes, base in ((above, 0), (below, curve.confidence)):
            reach = np.maximum([curve.accuracy - curve.low, curve.high - curve.accuracy], 0)     # (2, B)
            axes.errorbar(curve.confidence, curve.accuracy - base, yerr=reach, color=colour, marker="o", markersize=4,
                          linewidth=1.5, elinewidth=0.9, label=label)
    left = min(float(min(curve.confidence.min(), curve.low.min())) for curve in curves.values())
    above.set(ylabel="accuracy", xlim=(max(0.0, left - 0.03), 1.01), ylim=(max(0.0, left - 0.03), 1.01))
    below.set(xlabel="confidence: probability of the most probable class", ylabel="accuracy - confidence")
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    above.legend(loc="upper left", frameon=False, fontsize=8)
    figure.suptitle(title)
    return figure
