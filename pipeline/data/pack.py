"""Reads a competition, whatever its layout, into the packed store; reports everything that is wrong at once."""

import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.artefacts import atomic_directory
from pipeline.config.data import DataConfig
from pipeline.data.decode import content_hash, decode
from pipeline.data.records import Listing, Record, Skipped, class_problems, without_duplicates
from pipeline.data.sample_submission import read_sample
from pipeline.data.store import PIXELS, SAMPLE, Packed, Row, open_packed, write_packed
from pipeline.errors import UserError, listed

SOURCES = {
    "digits": "pipeline.data.digits:list_digits",
    "folder": "pipeline.data.folder:list_folder",
    "csv": "pipeline.data.csv_table:list_csv",
}
CHUNK = 256                             # images read ahead: bounds memory
Progress = Callable[[int, int], None]   # called with images done and images in all


class Fault(NamedTuple):
    """Why an image cannot be used."""

    reason: str
    detail: str = ""


def pack(config: DataConfig, directory: Path, *, progress: Progress | None = None) -> Packed:
    """Packs the competition that `config` names into `directory`, whole or not at all, and opens it.

    The bytes depend on the images, ids and labels only, not on whether they came from folders or zips.
    Raises one UserError with a line for every mistake: missing inputs, files that are empty, broken or of a
    duplicated id (unless data.on_bad_image is skip), classes that are empty, in test only, or badly named,
    and a sample submission with other ids or classes.
    """
    with ExitStack() as stack, atomic_directory(directory) as temporary:
        listing = list_competition(config, stack=stack)
        bad = list(listing.bad)
        with (temporary / PIXELS).open("wb") as pixels, _quiet_opencv():
            rows = list(_packed_rows(listing.records, config, pixels.write, bad, progress))
        problems = listing.problems + (_bad_lines(bad) if config.on_bad_image == "error" else _lost_lines(rows, bad))
        classes = sorted({row.label for row in rows if row.label is not None})
        if config.sample_submission is not None:
            problems += _copy_sample(config, temporary / SAMPLE, rows, classes, check=not problems)
        if problems:
            raise UserError("\n".join(problems))
        facts = {
            "source": config.source,
            "invert": config.invert,
            "ignored_files": listing.ignored_files,
            "skipped": [{"id": b.id, "file": b.file, "reason": _with_detail(b.reason, b.detail)} for b in bad],
        }
        write_packed(temporary, rows, classes=classes, channels=config.n_channels, facts=facts)
    return open_packed(directory)


def list_competition(config: DataConfig, *, stack: ExitStack) -> Listing:
    """What the configured source holds: training records sorted by id, then test records; duplicates are bad rows.

    `stack` closes the files that the records read from.
    """
    base = Path(config.path)
    if config.source != "digits" and not base.is_dir():
        raise UserError(f"data.path: there is no folder '{base}'; fix: create it with {_layout(config)}, "
                        f"or correct data.path in params.yaml")
    module, function = SOURCES[config.source].split(":")
    listing: Listing = getattr(import_module(module), function)(config, stack=stack)
    if any(record.split == "train" for record in listing.records):
        listing.problems += class_problems(listing, str(base))
    unique, later = without_duplicates(listing.records)
    listing.records = sorted(unique, key=lambda r: (r.split != "train", r.id))
    listing.bad += later
    return listing


def _layout(config: DataConfig) -> str:
    if config.source == "folder":
        needed = ["train/<class>/<id>.jpg (or train.zip)", "test/<id>.jpg (or test.zip)"]
    else:
        needed = [f"{config.train_csv} ({config.id_column},{config.label_column})", f"images in {config.images}"]
        needed += [config.test_csv] if config.test_csv else []
    return ", ".join(needed + ([config.sample_submission] if config.sample_submission else []))


def _packed_rows(
    records: Sequence[Record],
    config: DataConfig,
    write: Callable[[bytes], object],
    bad: list[Skipped],
    progress: Progress | None,
) -> Iterator[Row]:
    """A row for each image that decodes, its pixels written in the same order; the others join `bad`."""
    def pixels_of(data: bytes | Fault) -> np.ndarray | Fault:
        try:
            return data if isinstance(data, Fault) else decode(data, channels=config.channels, invert=config.invert)
        except ValueError as error:
            return Fault(str(error))

    offset = 0
    with ThreadPoolExecutor(2) as pool:  # OpenCV decodes outside Python's lock
        for start in range(0, len(records), CHUNK):
            chunk = records[start:start + CHUNK]
            for record, pixels in zip(chunk, pool.map(pixels_of, [_read(r) for r in chunk]), strict=True):
                if isinstance(pixels, Fault):
                    bad.append(Skipped(record.id, record.label, record.split, record.file, pixels.reason,
                                       pixels.detail))
                    continue
                write(pixels.tobytes())
                height, width, _ = pixels.shape
                yield Row(record.id, record.label, record.split, height, width, offset, content_hash(pixels),
                          record.group)
                offset += pixels.size
            if progress is not None:
                progress(start + len(chunk), len(records))


def _read(record: Record) -> bytes | Fault:
    """The encoded file, or why it cannot be read."""
    try:
        return record.read()
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        return Fault("cannot be read", " ".join(str(error).split()))


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Broken images are reported by us, by name; OpenCV's own lines name none."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _bad_lines(bad: list[Skipped]) -> list[str]:
    """One line for each kind of bad row."""
    kinds = defaultdict(list)
    for row in bad:
        kinds[row.reason].append(_with_detail(row.file, row.detail))
    fixes = {"duplicated id": "remove or rename them, or set data.ids: path where names repeat between folders"}
    return [f"{len(files)} x {kind}: {listed(files)}; fix: {fixes.get(kind, 'repair or remove them')}, "
            f"or set data.on_bad_image: skip" for kind, files in sorted(kinds.items())]


def _lost_lines(rows: list[Row], bad: list[Skipped]) -> list[str]:
    """What skipping may not take away: the last image of a class, the last test image."""
    lost = sorted({b.label for b in bad if b.label is not None} - {row.label for row in rows})
    lines = [f"{len(lost)} classes have only images that must be skipped: {listed(lost)}; "
             f"fix: repair the images or remove the classes"] if lost else []
    if any(b.split == "test" for b in bad) and not any(row.split == "test" for row in rows):
        lines.append("every test image must be skipped; fix: repair them")
    return lines


def _with_detail(text: str, detail: str) -> str:
    return f"{text} ({detail})" if detail else text


def _copy_sample(config: DataConfig, target: Path, rows: list[Row], classes: list[str], *, check: bool) -> list[str]:
    """Writes the sample submission in canonical form; returns the lines about what is wrong with it."""
    source = Path(config.path) / str(config.sample_submission)
    if not check:
        return [] if source.is_file() else [f"{source} is missing (data.sample_submission)"]
    try:
        sample = read_sample(source, test_ids=[r.id for r in rows if r.split == "test"], classes=classes)
    except UserError as error:
        return str(error).splitlines()
    sample.to_csv(target, index=False, lineterminator="\n")
    return []
