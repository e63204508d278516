"""The picture of how many members are enough."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.plots.palette import BLUE, ORANGE

CURVES, COLUMN, LETTER = 4.2, 0.26, 0.065       # inches: the curves' height, a member's width, a letter of its name


@dataclass(frozen=True)
class Path:
    """Scores along a path of ensembles; `names[i]` is the member that the i-th step adds, or drops."""

    names: Sequence[str]
    in_sample: np.ndarray       # (S,)
    nested: np.ndarray          # (S,)


def draw_forward(added: Path, dropped: Path, *, score: str, title: str) -> Figure:
    """A score over the number of members, in sample (dashed) and nested: adding the next best, dropping the worst.

    Step i of `added` has i + 1 members, so it has M steps; `dropped` has M - 1: its step i has M - 1 - i members left.
    Names of those added stand below, of those dropped above, at the ensemble that results. Both paths meet in the
    ensemble of all members.
    """
    members = len(added.names)
    letters = sum(max(map(len, path.names), default=0) for path in (added, dropped))
    figure = Figure(figsize=(max(7.0, 2.2 + COLUMN * members), CURVES + LETTER * letters), dpi=120,
                    layout="constrained")
    axes = figure.add_subplot()
    grown, shrunk = np.arange(1, members + 1), members - 1 - np.arange(len(dropped.names))
    whole = Path([], np.append(added.in_sample[-1], dropped.in_sample), np.append(added.nested[-1], dropped.nested))
    _draw(axes, grown, added, BLUE, label="adding the next best")
    _draw(axes, np.append(members, shrunk), whole, ORANGE, label="dropping the worst")
    axes.set(xlabel="number of members, and the member added", ylabel=score, xlim=(0.5, members + 0.5))
    axes.set_xticks(grown, [f"{name}  {n}" for n, name in zip(grown, added.names, strict=True)], rotation=90,
                    fontsize=8, color=BLUE)
    above = axes.secondary_xaxis("top")
    above.set_xticks(shrunk, list(dropped.names), rotation=90, fontsize=8, color=ORANGE)
    above.set_xlabel("member dropped")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    return figure


def _draw(axes: Axes, members: np.ndarray, path: Path, colour: str, *, label: str) -> None:
    axes.plot(members, path.nested, color=colour, marker="o", markersize=3.5, linewidth=1.8, label=f"{label}, nested")
    axes.plot(members, path.in_sample, color=colour, linestyle="--", linewidth=1.2, label=f"{label}, in sample")
