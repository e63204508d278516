"""A folder, or a zip of it, as one flat list of image files that are read in place."""

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from pipeline.data.records import IMAGE_SUFFIXES
from pipeline.errors import UserError


@dataclass(frozen=True)
class ImageFile:
    """One image file: its path below the tree's root, its name for messages, and how to read it."""

    path: PurePosixPath
    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Tree:
    """The image files below one folder, sorted by path."""

    name: str                       # for messages: the directory or the zip
    files: list[ImageFile]
    folders: list[str]              # names of the top-level folders, also of empty ones
    ignored_files: int              # files that are no images by their name


def open_tree(base: Path, name: str, *, stack: ExitStack) -> Tree | None:
    """The tree below the directory `base/name`, else in `base/name.zip`, else None; `stack` closes the zip.

    A lone top-level folder that repeats the name (`train.zip` holding `train/...`, or `train/train/...`) is
    unwrapped. `__MACOSX` and names that start with a dot are left out. Raises UserError for a broken zip.
    """
    directory, archive = base / name, base / f"{name.removesuffix('.zip')}.zip"
    if directory.is_dir():
        source, entries = directory, list(_walk(directory))
    elif archive.is_file():
        try:
            opened = stack.enter_context(zipfile.ZipFile(archive))
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{archive} is not a readable zip file ({error}); fix: download it again") from None
        source = archive
        entries = [(PurePosixPath(info.filename), f"{archive}:{info.filename}",
                    None if info.is_dir() else partial(opened.read, info)) for info in opened.infolist()]
    else:
        return None
    return _tree(source, [e for e in entries if not any(_hidden(part) for part in e[0].parts)])


Entry = tuple[PurePosixPath, str, Callable[[], bytes] | None]       # path, name for messages, reader (None: a folder)


def _walk(directory: Path) -> Iterator[Entry]:
    for parent, folders, names in os.walk(directory):
        here = Path(parent)
        for folder in folders:
            yield PurePosixPath((here / folder).relative_to(directory).as_posix()), str(here / folder), None
        for name in names:
            path = here / name
            yield PurePosixPath(path.relative_to(directory).as_posix()), str(path), path.read_bytes


def _tree(source: Path, entries: list[Entry]) -> Tree:
    if entries and all(path.parts[0] == source.stem for path, _, _ in entries) and \
            all(len(path.parts) > 1 or read is None for path, _, read in entries):
        entries = [(PurePosixPath(*path.parts[1:]), name, read) for path, name, read in entries if len(path.parts) > 1]
    folders = {path.parts[0] for path, _, read in entries if read is None or len(path.parts) > 1}
    found = [ImageFile(path, name, read) for path, name, read in entries if read is not None]
    images = [f for f in found if f.path.suffix.lower() in IMAGE_SUFFIXES]
    return Tree(str(source), sorted(images, key=lambda f: f.path), sorted(folders), len(found) - len(images))


def _hidden(part: str) -> bool:
    return part == "__MACOSX" or part.startswith(".")
