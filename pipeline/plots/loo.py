"""The picture of leave-one-out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline.plots.palette import BLUE, GREEN, GREY, ORANGE

RED = "#b3261e"
COLOURS = {"helps": GREEN, "hurts": RED}


def draw_loo(
    names: Sequence[str], nested: np.ndarray, *, low: np.ndarray, high: np.ndarray, verdicts: Sequence[str],
    kept: np.ndarray, refitted: np.ndarray, title: str,
) -> Figure:
    """Loss without each member minus loss with it, `(M,)` each, the most useful member on top.

    Bars: nested, with their interval, green where the member helps, red where it hurts, else grey; circles: in sample
    with the other weights kept; diamonds: in sample, fitted again.
    """
    order = np.argsort(nested, kind="stable")                                    # the axis grows upwards
    rows = np.arange(len(order))
    colours = [COLOURS.get(verdicts[m], GREY) for m in order]
    figure = Figure(figsize=(9, 1.9 + 0.26 * len(order)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(rows, nested[order], color=colours, alpha=0.55, height=0.7)
    axes.hlines(rows, low[order], high[order], colors=colours, linewidth=1.6)
    axes.plot(kept[order], rows, linestyle="", marker="o", markersize=4.5, color=BLUE, fillstyle="none")
    axes.plot(refitted[order], rows, linestyle="", marker="D", markersize=3.5, color=ORANGE)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(rows, [names[m] for m in order], fontsize=8)
    axes.set(xlabel="loss without the member minus loss with it", ylim=(-0.7, len(order) - 0.3))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.suptitle(title)
    figure.legend(handles=_handles(verdicts), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def _handles(verdicts: Sequence[str]) -> list[Patch | Line2D]:
    bars = [Patch(color=COLOURS.get(verdict, GREY), alpha=0.55, label=f"nested: {verdict}")
            for verdict in ("helps", "hurts", "not distinguishable") if verdict in verdicts]
    marks = [Line2D([], [], linestyle="", marker="o", markersize=4.5, color=BLUE, fillstyle="none",
                    label="in sample, weights kept"),
             Line2D([], [], linestyle="", marker="D", markersize=3.5, color=ORANGE, label="in sample, refitted")]
    return [*bars, *marks]
