"""What a source finds before any pixel is decoded: records that can be read, and everything wrong with the rest."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from pipeline.errors import listed

Split = Literal["train", "test"]
IMAGE_SUFFIXES = frozenset(
    (".bmp", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


@dataclass(frozen=True)
class Record:
    """One encoded image with what is known about it."""

    id: str
    label: str | None               # class name; None for test rows
    split: Split
    file: str                       # for messages, e.g. "data/train.zip:train/cat/1.jpg"
    read: Callable[[], bytes]       # the encoded file
    group: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A row that cannot be used: an error by default, skipped and recorded on request."""

    id: str
    label: str | None
    split: Split
    file: str
    reason: str                     # the kind of fault, the same words for every such row
    detail: str = ""


@dataclass
class Listing:
    """What a source holds; `problems` always stop the run, `bad` rows may be skipped."""

    records: list[Record] = field(default_factory=list)
    bad: list[Skipped] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)       # one clear line each
    ignored_files: int = 0                                  # files that are no images by their name


def record_id(path: PurePosixPath, ids: Literal["stem", "path"]) -> str:
    """`cat/1.jpg` -> `1` (stem) or `cat/1` (path); only a known image suffix is cut, so `a.b` stays `a.b`."""
    kept = path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path
    return kept.name if ids == "stem" else str(kept)


def without_duplicates(records: Iterable[Record]) -> tuple[list[Record], list[Skipped]]:
    """The first record of each (split, id), in the given order, and the later ones."""
    first: dict[tuple[str, str], Record] = {}
    later = []
    for record in records:
        kept = first.setdefault((record.split, record.id), record)
        if kept is not record:
            later.append(Skipped(record.id, record.label, record.split, record.file,
                                 "duplicated id", f"also {kept.file}"))
    return list(first.values()), later


def class_problems(listing: Listing, train: str) -> list[str]:
    """One line for each rule about classes that the training records break; `train` names where they come from."""
    classes = sorted({r.label for r in listing.records if r.split == "train" and r.label is not None})
    problems = []
    refused = [c for c in classes if c in ("id", "fold")]
    if refused:
        problems.append(f"{train}: {listed(refused)} cannot be a class name, because prediction files have columns "
                        f"'id' and 'fold'; fix: rename the class")
    if len(classes) < 2:
        problems.append(f"{train}: found {len(classes)} classes ({listed(classes) or 'none'}), at least 2 are needed")
    return problems
