"""The packed store: every image in one flat uint8 memmap, beside a table of what each row is."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artefacts import digest, read_json, write_json
from pipeline.errors import UserError

PIXELS = "pixels.bin"                       # flat uint8, image after image in the order of the table
TABLE = "images.parquet"                    # one row per image, the fields of Row
META = "meta.json"                          # classes, channels, digest, counts, skipped rows
SAMPLE = "sample_submission.csv"            # only when the competition has one


@dataclass(frozen=True)
class Row:
    """One packed image."""

    id: str
    label: str | None           # class name; None for test rows
    split: Literal["train", "test"]
    height: int                 # px
    width: int                  # px
    offset: int                 # first byte in pixels.bin
    content_hash: str           # of shape and pixels
    group: str | None


@dataclass(frozen=True)
class Packed:
    """An open store: the training rows first, sorted by id, then the test rows, sorted by id.

    Training row i is table row i, test row j is table row n_train + j. A process opens its own: pickling copies
    the pixels.
    """

    pixels: np.ndarray          # (bytes,) uint8, a read-only map of pixels.bin
    table: pd.DataFrame         # the fields of Row; a missing label or group is None
    classes: list[str]          # C names, sorted
    channels: int               # 1 grey, 3 RGB
    digest: str                 # of classes, channels and every row, pixels by their hash

    @cached_property
    def n_train(self) -> int:
        """Number of training rows."""
        return int((self.table["split"] == "train").sum())

    @property
    def n_test(self) -> int:
        """Number of test rows."""
        return len(self.table) - self.n_train

    @cached_property
    def labels(self) -> np.ndarray:
        """Class indices of the training rows, `(n_train,)` int64."""
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index[label] for label in self.table["label"][:self.n_train]], dtype=np.int64)

    def image(self, row: int) -> np.ndarray:
        """Pixels of one table row, `(H, W, channels)` uint8, a read-only view."""
        start, end, shape = self._extents[row]
        return self.pixels[start:end].reshape(shape)

    @cached_property
    def _extents(self) -> list[tuple[int, int, tuple[int, int, int]]]:
        columns = (self.table[name].tolist() for name in ("offset", "height", "width"))
        return [(o, o + h * w * self.channels, (h, w, self.channels)) for o, h, w in zip(*columns, strict=True)]


def open_packed(directory: Path) -> Packed:
    """Opens a store; raises UserError when a file is missing or unreadable or does not match the others."""
    def refuse(what: str) -> UserError:
        return UserError(f"{directory}: {what}; fix: dvc repro --force --single-item prepare")

    try:
        meta = read_json(directory / META)
        columns = pq.read_table(directory / TABLE).to_pydict()
        table = pd.DataFrame({f.name: pd.Series(columns[f.name], dtype=None if f.name in ("height", "width", "offset")
                                                else object) for f in fields(Row)})
        classes, channels, expected = meta["classes"], meta["channels"], meta["digest"]
        found_bytes = (directory / PIXELS).stat().st_size
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise refuse(f"not a complete packed store ({' '.join(str(error).split())})") from None
    expected_bytes = int((table["height"] * table["width"]).sum()) * channels
    if found_bytes != expected_bytes:
        raise refuse(f"{PIXELS} has {found_bytes} bytes, {TABLE} expects {expected_bytes}")
    found = _digest(table, classes, channels)
    if found != expected:
        raise refuse(f"{TABLE} has digest {found}, {META} expects {expected}")
    pixels = np.memmap(directory / PIXELS, dtype=np.uint8, mode="r").view(np.ndarray)
    return Packed(pixels, table, classes, channels, expected)


def write_packed(
    directory: Path, rows: Sequence[Row], *, classes: list[str], channels: int, facts: dict[str, Any]
) -> None:
    """Writes table and meta beside a `pixels.bin` that already lies in `directory`; `facts` join the meta."""
    names = [f.name for f in fields(Row)]
    kinds = {"height": pa.int32(), "width": pa.int32(), "offset": pa.int64()}
    columns = dict(zip(names, zip(*map(astuple, rows), strict=True), strict=True))
    pq.write_table(pa.table({n: pa.array(columns[n], kinds.get(n, pa.string())) for n in names}), directory / TABLE)
    table = pd.DataFrame({n: pd.Series(columns[n], dtype=None if n in kinds else object) for n in names})
    counts = {"classes": len(classes), "train": sum(r.split == "train" for r in rows),
              "test": sum(r.split == "test" for r in rows)}
    write_json(directory / META, {"digest": _digest(table, classes, channels), "classes": classes,
                                  "channels": channels, "counts": counts, **facts})


def _digest(table: pd.DataFrame, classes: list[str], channels: int) -> str:
    cells = (repr(cell) for name in ("id", "label", "split", "height", "width", "offset", "content_hash", "group")
             for cell in table[name].tolist())
    return digest(str(channels), str(len(classes)), *classes, *cells)
