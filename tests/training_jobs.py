"""Small real jobs for the training tests: scikit-learn's digits, a tiny LeNet, a few epochs."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.data import DataConfig
from pipeline.config.model import ModelConfig
from pipeline.data.pack import pack
from pipeline.data.store import PIXELS, Packed, Row, open_packed, write_packed
from pipeline.training.job import FoldJob

CONFIG: dict[str, Any] = {
    "net": "lenet5", "canvas": 16, "batch": 32, "epochs": 3, "ema": 0.9, "validate_every": 2,
    "augment": {"rotation": 20.0, "zoom": 1.2, "shear": 5.0, "translation": 0.1},
    "optimiser": {"lr": 0.05}, "precision": "fp32",
}


def pack_digits(directory: Path) -> Path:
    """The digits, packed."""
    pack(DataConfig(source="digits", path="."), directory)
    return directory


def model_config(**changes: Any) -> ModelConfig:
    """CONFIG with some keys replaced."""
    return ModelConfig.model_validate(CONFIG | changes)


def fold_job(packed: Path, scratch: Path, **changes: Any) -> FoldJob:
    """A job on 160 rows, with 40 held rows that follow them; `cell` is taken out of `changes`, the rest is config."""
    cell = changes.pop("cell", 0)
    return FoldJob(
        model="tiny", config=model_config(**changes), seed=7, packed=packed, classes=open_packed(packed).classes,
        cell=cell, fit_rows=np.arange(160), held_rows=np.arange(160, 200), fold_digest="digest", scratch=scratch,
        device="cpu", precision="fp32",
    )


def relabelled(packed: Path, directory: Path, rows: np.ndarray) -> Path:
    """A copy of the store in which every one of `rows` has the next class's label."""
    store: Packed = open_packed(packed)
    table = store.table.copy()
    following = {name: store.classes[(i + 1) % len(store.classes)] for i, name in enumerate(store.classes)}
    table.loc[rows, "label"] = [following[name] for name in table.loc[rows, "label"]]
    directory.mkdir()
    (directory / PIXELS).write_bytes((packed / PIXELS).read_bytes())
    columns = [table[f.name].tolist() for f in fields(Row)]
    write_packed(directory, [Row(*row) for row in zip(*columns, strict=True)], classes=store.classes,
                 channels=store.channels, facts={})
    return directory
