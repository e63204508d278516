"""Another tool's table of predictions as rows of ours: ids joined, classes by name, everything else refused."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pipeline.config.foreign import Kind
from pipeline.errors import UserError, listed, nearest
from pipeline.members import ROW_SUM_TOLERANCE
from pipeline.submission import match_ids


@dataclass(frozen=True)
class Spelling:
    """What their tables hold, and what their classes are called here."""

    kind: Kind = "probabilities"                            # votes: the columns id and label
    classes: dict[str, str] = field(default_factory=dict)   # theirs -> ours; a class that is not named is spelt alike
    normalise: bool = False                                 # divide each row by its sum


def joined(
    table: pd.DataFrame,
    ids: Sequence[str],
    *,
    classes: Sequence[str],
    spelling: Spelling,
    folds: np.ndarray | None = None,
    same_folds: bool = False,
    name: str = "table",
) -> np.ndarray:
    """Probabilities `(N, C)` float32 in the order of `ids` and `classes`; votes are one-hot rows.

    The ids are in the column `id`, or else in the first; they match as those of a sample submission do. With `folds`
    `(N,)` the table is an out-of-fold one: its column `fold` must equal them, and may be missing only if `same_folds`
    states that they are the same. Raises UserError with a line for each fault, prefixed with `name`.
    """
    if not len(table.columns):
        raise UserError(f"{name}: the table has no columns; fix: export id and one column per class")
    id_column = "id" if "id" in table.columns else str(table.columns[0])
    found = [str(i) for i in table[id_column].tolist()]
    positions = match_ids(found, ids)                                                # (n,)
    faults = _id_faults(found, positions, ids)
    keys = [id_column]
    if folds is not None:
        keys += ["fold"] if "fold" in table.columns else []
        faults += _fold_faults(table, found, positions, folds, same_folds=same_folds)
    body = table.drop(columns=keys)
    values, more = _votes(body, found, classes, spelling) if spelling.kind == "votes" else \
        _probabilities(body, found, classes, spelling)                               # (n, C)
    if faults or more:
        raise UserError("\n".join(f"{name}: {fault}" for fault in [*faults, *more]))
    rows = np.empty((len(ids), len(classes)), np.float32)                            # (N, C)
    rows[positions] = values
    return rows


def class_map(table: pd.DataFrame, classes: Sequence[str], *, name: str = "table") -> dict[str, str]:
    """Their class names -> ours, from the columns `theirs` and `ours`, one to one; raises UserError."""
    if sorted(table.columns) != ["ours", "theirs"]:
        raise UserError(f"{name}: expected the two columns 'theirs', 'ours', found {listed(table.columns)}")
    faults = [f"{len(twice)} names twice under {column}: {listed(twice)}; fix: one row per class"
              for column in ("theirs", "ours") if (twice := _twice(table[column].tolist()))]
    unknown = [c for c in dict.fromkeys(table["ours"]) if c not in set(classes)]
    if unknown:
        faults.append(f"{len(unknown)} names under ours are no classes of data/packed: {listed(unknown)}"
                      f"{nearest(unknown[0], classes)}")
    if faults:
        raise UserError("\n".join(f"{name}: {fault}" for fault in faults))
    return dict(zip(table["theirs"], table["ours"], strict=True))


def _id_faults(found: list[str], positions: np.ndarray, ids: Sequence[str]) -> list[str]:
    matched = Counter(positions[positions >= 0].tolist())
    foreign = [name for name, p in zip(found, positions, strict=True) if p < 0]
    missing = [name for p, name in enumerate(ids) if p not in matched]
    twice = [ids[p] for p, count in matched.items() if count > 1]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(ids)} ids are missing: {listed(missing)}; fix: predict every row")
    if foreign:
        faults.append(f"{len(foreign)} ids are not among the {len(ids)} expected ones: {listed(foreign)}"
                      f"{nearest(foreign[0], missing[:1000])}")
    if twice:
        faults.append(f"{len(twice)} duplicated ids: {listed(twice)}; fix: one row per id")
    return faults


def _fold_faults(
    table: pd.DataFrame, found: list[str], positions: np.ndarray, folds: np.ndarray, *, same_folds: bool
) -> list[str]:
    if "fold" not in table.columns:
        return [] if same_folds else [
            "no column fold, so nothing says that each row was predicted without its own label; fix: add the column, "
            "or say --same-folds if the networks were trained on the folds of folds/folds.csv"]
    theirs = pd.to_numeric(table["fold"], errors="coerce").to_numpy(dtype=np.float64)
    known = np.flatnonzero(positions >= 0)
    off = known[theirs[known] != folds[positions[known]]]
    return [] if not len(off) else [
        f"{len(off)} rows are in another fold, first id '{found[off[0]]}': '{table['fold'].iloc[off[0]]}', but "
        f"folds/folds.csv says {folds[positions[off[0]]]}; fix: train their networks on the folds of folds/folds.csv"]


def _probabilities(
    body: pd.DataFrame, found: list[str], classes: Sequence[str], spelling: Spelling
) -> tuple[np.ndarray, list[str]]:
    """Values `(n, C)` float32 in the order of the rows, and what is wrong with them."""
    named = [spelling.classes.get(str(c), str(c)) for c in body.columns]
    missing = [c for c in classes if c not in set(named)]
    unknown = [c for c in named if c not in set(classes)]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(classes)} class columns are missing: {listed(missing)}; "
                      "fix: add them, or name them with --map")
    if unknown:
        faults.append(f"{len(unknown)} columns are no classes: {listed(unknown)}{nearest(unknown[0], missing)}")
    if twice := _twice(named):
        faults.append(f"{len(twice)} classes have two columns: {listed(twice)}; fix: one column per class")
    if faults:
        return np.empty((0, 0)), faults
    body = body.set_axis(named, axis=1)[list(classes)]
    values = _numbers(body)                                                          # (n, C) float64
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        cell = str(body.iat[row, column])
        return values, [f"{(~finite).any(axis=1).sum()} rows hold something else than finite numbers, first id "
                        f"'{found[row]}': '{cell}' in class '{classes[column]}'; fix: a probability in every cell"]
    negative = np.flatnonzero((values < 0).any(axis=1))
    if len(negative):
        return values, [f"{len(negative)} rows with negative values, first id '{found[negative[0]]}'; "
                        "fix: export probabilities: apply the softmax in the tool that made them"]
    sums = values.sum(axis=1)
    if spelling.normalise and (sums > 0).all():
        values = values / sums[:, None]
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    sums = values.sum(axis=1, dtype=np.float64)
    off = np.flatnonzero(~(np.abs(sums - 1) <= ROW_SUM_TOLERANCE))
    if len(off):
        fix = "a positive probability in every row" if spelling.normalise else "--normalise divides each row by its sum"
        return values, [f"{len(off)} rows do not sum to one within {ROW_SUM_TOLERANCE:g}, first id "
                        f"'{found[off[0]]}': {sums[off[0]]:.6g}; fix: {fix}"]
    return values, []


def _votes(
    body: pd.DataFrame, found: list[str], classes: Sequence[str], spelling: Spelling
) -> tuple[np.ndarray, list[str]]:
    """One-hot rows `(n, C)` float32 of the column `label`, and what is wrong with it."""
    if list(body.columns) != ["label"]:
        return np.empty((0, 0)), ["--hard takes the columns id and label (and fold, out of fold), but beside the ids "
                                  f"it found {listed(body.columns) or 'none'}"]
    index = {name: i for i, name in enumerate(classes)}
    labels = [spelling.classes.get(str(label), str(label)) for label in body["label"].tolist()]
    unknown = list(dict.fromkeys(label for label in labels if label not in index))
    if unknown:
        first = found[labels.index(unknown[0])]
        return np.empty((0, 0)), [f"{len(unknown)} labels are no classes: {listed(unknown)}, first at id '{first}'"
                                  f"{nearest(unknown[0], classes)}; fix: spell them so, or name them with --map"]
    return np.eye(len(classes), dtype=np.float32)[[index[label] for label in labels]], []


def _numbers(body: pd.DataFrame) -> np.ndarray:
    """Cells `(n, C)` as float64, text correctly rounded; NaN where a cell is no number."""
    try:
        return body.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        return body.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
