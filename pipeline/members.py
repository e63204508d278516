"""The member contract: what an out-of-fold file is, and a loader that refuses anything else.

A member is a directory with `oof.parquet` (`id`, `fold`, one float32 column per class in the order of the
class list) and `test.parquet` (the same without `fold`). Name and fold digest travel in the schema's metadata.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artefacts import atomic
from pipeline.errors import UserError, listed

ROW_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Member:
    """Predictions of one member, rows already joined to the competition's order of ids."""

    name: str
    oof: np.ndarray     # (N, C) float32: row i was predicted by networks that never saw its label
    test: np.ndarray    # (T, C) float32


@dataclass(frozen=True)
class Roster:
    """What every member must agree with."""

    train_ids: list[str]     # N ids, the order of folds.csv
    test_ids: list[str]      # T ids
    folds: np.ndarray        # (N,) int: fold of each training row (the first repeat's)
    classes: list[str]       # C class names
    fold_digest: str


def write_member(directory: Path, member: Member, roster: Roster) -> None:
    """Writes both files of a member, each atomically; `member` rows are in the roster's order."""
    _write(directory / "oof.parquet", roster.train_ids, member.oof, member.name, roster, roster.folds)
    _write(directory / "test.parquet", roster.test_ids, member.test, member.name, roster, None)


def read_member(directory: Path, roster: Roster) -> Member:
    """Reads a member and joins it to the roster by id.

    Raises UserError, naming the file, what was expected, what was found and the fix, for: a missing or unreadable
    file, missing, duplicated or foreign ids, NaN or negative values, rows that do not sum to one (within 1e-3),
    another class list or order, another fold or fold digest.
    """
    return Member(
        directory.name,
        _read(directory / "oof.parquet", roster.train_ids, roster, roster.folds),
        _read(directory / "test.parquet", roster.test_ids, roster, None),
    )


def _write(
    path: Path, ids: list[str], probabilities: np.ndarray, name: str, roster: Roster, folds: np.ndarray | None
) -> None:
    columns: dict[str, pa.Array] = {"id": pa.array(ids, pa.string())}
    if folds is not None:
        columns["fold"] = pa.array(folds, pa.int32())
    values = np.ascontiguousarray(probabilities.T, dtype=np.float32)  # (C, N)
    columns.update({c: pa.array(values[i]) for i, c in enumerate(roster.classes)})
    table = pa.table(columns).replace_schema_metadata({"member": name, "fold_digest": roster.fold_digest})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="none", use_dictionary=False)


def _read(path: Path, ids: list[str], roster: Roster, folds: np.ndarray | None) -> np.ndarray:
    def refuse(what: str, fix: str = "rerun the stage that writes it: dvc repro") -> UserError:
        return UserError(f"{path}: {what}; fix: {fix}")

    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise refuse("the file is missing") from None
    except (pa.ArrowException, OSError) as error:
        raise refuse(f"not a readable parquet file ({str(error).splitlines()[0]})") from None

    keys = ["id"] if folds is None else ["id", "fold"]
    expected = keys + roster.classes
    if table.column_names != expected:
        if sorted(table.column_names) == sorted(expected):
            raise refuse("the class columns are in another order than the class list")
        missing = [c for c in expected if c not in table.column_names]
        foreign = [c for c in table.column_names if c not in expected]
        raise refuse(f"expected the columns id{', fold' * (folds is not None)} and {len(roster.classes)} classes; "
                     f"missing: {listed(missing) or 'none'}, not expected: {listed(foreign) or 'none'}")
    found_digest = (table.schema.metadata or {}).get(b"fold_digest", b"none").decode()
    if found_digest != roster.fold_digest:
        raise refuse(f"made on fold digest {found_digest}, but folds/folds.csv has {roster.fold_digest}",
                     "rerun with the same folds for every member: dvc repro")

    found_ids = [str(i) for i in table.column("id").to_pylist()]
    position = {name: i for i, name in enumerate(found_ids)}
    if len(position) != len(found_ids):
        twice = [i for i, count in Counter(found_ids).items() if count > 1]
        raise refuse(f"{len(twice)} duplicated ids: {listed(twice)}")
    missing = [i for i in ids if i not in position]
    known = set(ids)
    foreign = [i for i in found_ids if i not in known]
    if missing or foreign:
        raise refuse(f"expected {len(ids)} ids, found {len(found_ids)}; missing: {listed(missing) or 'none'}, "
                     f"foreign: {listed(foreign) or 'none'}")

    order = np.array([position[i] for i in ids], dtype=np.int64)
    try:
        values = np.stack([table.column(c).to_numpy() for c in roster.classes], axis=1).astype(np.float32)[order]
    except (ValueError, TypeError):
        raise refuse("a class column is not numeric") from None
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise refuse(f"NaN or infinite probability, first at id '{ids[row]}'")
    if (values < 0).any():
        row = int(np.flatnonzero((values < 0).any(axis=1))[0])
        raise refuse(f"negative probability, first at id '{ids[row]}'")
    sums = values.sum(axis=1, dtype=np.float64)
    if (np.abs(sums - 1) > ROW_SUM_TOLERANCE).any():
        row = int(np.argmax(np.abs(sums - 1)))
        raise refuse(f"rows must sum to one; id '{ids[row]}' sums to {sums[row]:.4f}")
    if folds is not None:
        found_folds = table.column("fold").to_numpy()[order]
        if (found_folds != folds).any():
            row = int(np.flatnonzero(found_folds != folds)[0])
            raise refuse(f"id '{ids[row]}' is in fold {found_folds[row]}, but folds/folds.csv says {folds[row]}")
    return values
