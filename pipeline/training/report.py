"""What a worker reports of its fold while it trains: a small file that the parent process looks at."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.artefacts import read_json, write_json

INTERVAL = 0.5  # seconds


@dataclass(frozen=True)
class Look:
    """One look at a fold."""

    state: Literal["waiting", "training", "done"]
    epoch: int                       # the one that runs, 1-based; of a finished fold the last
    epochs: int
    share: float                     # of all steps that are done, in [0, 1]
    loss: float | None = None        # mean over the epoch so far
    images_per_second: float | None = None
    seconds_left: float | None = None
    note: str = ""
    step: int | None = None          # of the epoch, and of how many
    steps: int | None = None


def write_look(path: Path, look: Look) -> None:
    """Writes one look, atomically."""
    write_json(path, asdict(look))


def read_look(path: Path) -> Look | None:
    """The last look, or None where there is none that can be read."""
    try:
        raw: dict[str, Any] = read_json(path)
        return Look(**raw)
    except (OSError, json.JSONDecodeError, TypeError):
        return None


def ticker(interval: float = INTERVAL) -> Callable[[], bool]:
    """A function that is true at most once every `interval` seconds, and at its first call."""
    last = float("-inf")

    def due() -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last < interval:
            return False
        last = now
        return True

    return due
