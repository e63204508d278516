"""Learning curves: one row per epoch, the same bytes for the same run."""

import csv
from pathlib import Path
from typing import Any

from pipeline.artefacts import atomic

CURVES = (
    "model", "fold", "replica", "epoch", "lr", "train_loss", "train_accuracy",
    "holdout_loss", "holdout_accuracy", "valid_loss", "valid_accuracy",
)
TIMING = ("epoch", "seconds", "images_per_second")  # wall-clock: kept apart, since it differs from run to run


def write_table(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """Writes rows as CSV, atomically; a value that was not measured (None) is an empty field."""
    with atomic(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
