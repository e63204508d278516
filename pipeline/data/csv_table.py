"""A table of ids and labels beside a folder of images."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.config.data import DataConfig
from pipeline.data.files import ImageFile, Tree, open_tree
from pipeline.data.records import Listing, Record, Skipped, Split, record_id
from pipeline.data.tables import read_text_table
from pipeline.errors import UserError, listed, nearest


def list_csv(config: DataConfig, *, stack: ExitStack) -> Listing:
    """Records below `data.path`: `train_csv` with id, label (and group), images by id with or without suffix.

    Test rows are those of `test_csv`, or else the images that the training table does not name. `images` is a
    folder, or a zip of it. A row without an image is a bad row; a row without a label is a problem.
    """
    base = Path(config.path)
    listing = Listing()
    train = _table(listing, base, config.train_csv, [config.id_column, config.label_column, config.group_column])
    test = _table(listing, base, config.test_csv, [config.id_column])
    try:
        tree = open_tree(base, config.images, stack=stack)
        if tree is None or not tree.files:
            listing.problems.append(f"{base / config.images}: no images there (data.images); "
                                    f"fix: put the images, or a zip of them, in place")
    except UserError as error:
        tree = None
        listing.problems.append(str(error))
    if train is None or tree is None:
        return listing

    listing.ignored_files = tree.ignored_files
    images = _Index(tree)
    used = _add_rows(listing, train, "train", images, config)
    if test is not None:
        _check_test_classes(listing, train, test, config)
        _add_rows(listing, test, "test", images, config)
    elif config.test_csv is None:
        listing.records += [Record(record_id(f.path, config.ids), None, "test", f.name, f.read)
                            for f in tree.files if f.path not in used]
        if not any(r.split == "test" for r in listing.records):
            listing.problems.append(f"{tree.name}: every image is named in {base / str(config.train_csv)}, so no test "
                                    f"row is left; fix: add the test images, or name data.test_csv")
    return listing


class _Index:
    """Finds an image by path or name, with or without its suffix."""

    def __init__(self, tree: Tree) -> None:
        self.by_path: dict[str, list[ImageFile]] = defaultdict(list)
        self.by_name: dict[str, list[ImageFile]] = defaultdict(list)
        for file in tree.files:
            for index, text in ((self.by_path, str(file.path)), (self.by_path, record_id(file.path, "path")),
                                (self.by_name, file.path.name), (self.by_name, record_id(file.path, "stem"))):
                index[text].append(file)

    def find(self, name: str) -> list[ImageFile]:
        return self.by_path.get(name) or self.by_name.get(name) or []


def _table(listing: Listing, base: Path, name: str | None, columns: list[str | None]) -> pd.DataFrame | None:
    """The table, or None after noting what is wrong with it."""
    if name is None:
        return None
    path = base / name
    try:
        table = read_text_table(path)
    except UserError as error:
        listing.problems.append(f"{error}; fix: put it there, or change data.train_csv and data.test_csv")
        return None
    missing = [c for c in columns if c is not None and c not in table.columns]
    if missing:
        listing.problems.append(f"{path}: no column {listed(missing)}; it has {listed(table.columns)}"
                                f"{nearest(missing[0], table.columns)}")
    elif table.empty:
        listing.problems.append(f"{path}: the table has no rows")
    return None if missing or table.empty else table


def _add_rows(
    listing: Listing, table: pd.DataFrame, split: Split, images: _Index, config: DataConfig
) -> set[PurePosixPath]:
    """Adds a record or a bad row for each row; returns the paths of the images that were named."""
    used: set[PurePosixPath] = set()
    unlabelled = []
    for written, label, group in _rows(table, config):
        name = record_id(PurePosixPath(written), config.ids)
        found = images.find(written)
        used.update(f.path for f in found)
        if split == "train" and not label:
            unlabelled.append(written)
        elif len(found) == 1:
            train = split == "train"
            listing.records.append(Record(name, label if train else None, split, found[0].name, found[0].read,
                                          group if train else None))
        else:
            reason = "several images match" if found else "no such image"
            listing.bad.append(Skipped(name, label or None, split, f"{split} id '{written}'", reason,
                                       listed((f.name for f in found), limit=3)))
    if unlabelled:
        listing.problems.append(f"{config.train_csv}: {len(unlabelled)} rows without a label: {listed(unlabelled)}; "
                                f"fix: fill column '{config.label_column}' or remove the rows")
    return used


def _rows(table: pd.DataFrame, config: DataConfig) -> Iterator[tuple[str, str, str | None]]:
    ids = table[config.id_column].tolist()
    labels = table[config.label_column].tolist() if config.label_column in table.columns else [""] * len(ids)
    grouped = config.group_column is not None and config.group_column in table.columns
    groups = table[config.group_column].tolist() if grouped else [None] * len(ids)
    return zip(ids, labels, groups, strict=True)


def _check_test_classes(listing: Listing, train: pd.DataFrame, test: pd.DataFrame, config: DataConfig) -> None:
    if config.label_column not in test.columns:
        return
    known = set(train[config.label_column])
    foreign = sorted({label for label in test[config.label_column] if label} - known)
    if foreign:
        listing.problems.append(
            f"{config.test_csv}: {len(foreign)} classes are in test only: {listed(foreign)}"
            f"{nearest(foreign[0], known)}; fix: add rows of them to {config.train_csv}, or drop the column")
