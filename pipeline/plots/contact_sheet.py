"""Many small pictures on one page."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

CELL, LINE = 1.9, 0.11      # inches: the square that a picture is fitted into, a line of its caption
GAP = 0.08                  # of a cell, between pictures
LETTER = 0.095              # inches: a letter of the title
WIDEST = 44                 # characters of a caption's line that fit under a picture


def draw_contact_sheet(
    images: Sequence[np.ndarray], captions: Sequence[str], *, columns: int = 6, title: str
) -> Figure:
    """A grid of images, `(h, w, 1 or 3)` uint8 of any sizes, each in a square of one size over its caption.

    Row by row, the sides' ratio kept; small images are enlarged without smoothing. Captions may have several lines;
    the middle of a line beyond 44 characters is left out.
    """
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    pitch = 1 + GAP + lines * LINE / CELL                       # of a row, in cells
    width = max(LETTER * len(title), CELL * columns * (1 + GAP)) + 0.2
    figure = Figure(figsize=(width, CELL * rows * pitch + 0.6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(i, columns)
        left, top = column * (1 + GAP), row * pitch
        height, width = (side / max(image.shape[:2]) for side in image.shape[:2])
        x, y = left + (1 - width) / 2, top + (1 - height) / 2
        axes.imshow(np.broadcast_to(image, (*image.shape[:2], 3)), extent=(x, x + width, y + height, y),
                    interpolation="nearest")
        axes.text(left + 0.5, top + 1.02, "\n".join(map(_fitted, caption.split("\n"))), ha="center", va="top",
                  fontsize=6, linespacing=1.1)
    axes.set(xlim=(-GAP, columns * (1 + GAP)), ylim=(rows * pitch, -GAP), aspect="equal")
    axes.axis("off")
    figure.suptitle(title)
    return figure


def _fitted(line: str) -> str:
    half = (WIDEST - 1) // 2
    return line if len(line) <= WIDEST else f"{line[:half]}…{line[-half:]}"
