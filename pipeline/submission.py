"""The file that is handed in: built in the competition's order and spelling, and refused when anything is off."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from pipeline.errors import UserError, listed, nearest

ROW_SUM_TOLERANCE = 1e-3


def submission_frame(
    probabilities: np.ndarray,
    *,
    test_ids: Sequence[str],
    classes: Sequence[str],
    sample: pd.DataFrame | None,
    id_column: str,
    clip: float,
) -> pd.DataFrame:
    """Rows `(T, C)` of `probabilities`, clipped to [clip, 1 - clip] and renormalised, as the competition wants them.

    With a sample submission: its id column, its ids as it spells them, its order of rows and classes. Without:
    `id_column`, `test_ids`, `classes`. Raises UserError when the sample does not fit (see `check_sample`).
    """
    if probabilities.shape != (len(test_ids), len(classes)):
        raise ValueError(f"probabilities are {probabilities.shape}, expected {(len(test_ids), len(classes))}")
    values = np.clip(probabilities.astype(np.float64), clip, 1 - clip)               # (T, C)
    values /= values.sum(axis=1, keepdims=True)
    if sample is None:
        return _frame(id_column, list(test_ids), list(classes), values)
    check_sample(sample, test_ids=test_ids, classes=classes)
    written = sample.iloc[:, 0].tolist()
    columns = list(sample.columns[1:])
    index = {name: i for i, name in enumerate(classes)}
    values = values[match_ids(written, test_ids)][:, [index[c] for c in columns]]
    return _frame(str(sample.columns[0]), written, columns, values)


def gate(
    frame: pd.DataFrame,
    *,
    test_ids: Sequence[str],
    classes: Sequence[str],
    sample: pd.DataFrame | None,
    id_column: str,
    name: str = "submission",
) -> None:
    """Raises UserError, a line for each fault, unless `frame` can be handed in.

    Checked: columns and their order; ids missing, foreign, duplicated or out of order; NaN, values outside
    [0, 1], and rows that do not sum to one within 1e-3. `name` says in the message what was refused.
    """
    expected_columns = [id_column, *classes] if sample is None else list(sample.columns)
    expected_ids = list(test_ids) if sample is None else sample.iloc[:, 0].tolist()
    faults = _set_faults(list(frame.columns), expected_columns, "columns")
    if faults:
        raise UserError("\n".join(f"{name}: {fault}" for fault in faults))
    ids = frame.iloc[:, 0].astype(str).tolist()
    faults = _set_faults(ids, expected_ids, "ids")
    try:
        values = frame.iloc[:, 1:].to_numpy(dtype=np.float64)                        # (T, C)
    except (TypeError, ValueError):
        raise UserError("\n".join(f"{name}: {f}" for f in [*faults, "a class column is not numeric"])) from None
    finite = np.isfinite(values)
    outside = finite & ((values < 0) | (values > 1))
    sums = np.where(finite, values, 0).sum(axis=1)
    off = finite.all(axis=1) & (np.abs(sums - 1) > ROW_SUM_TOLERANCE)
    for rows, what in ((~finite.all(axis=1), "NaN or infinite probabilities"),
                       (outside.any(axis=1), "probabilities outside [0, 1]"),
                       (off, f"probabilities that do not sum to one within {ROW_SUM_TOLERANCE:g}")):
        where = np.flatnonzero(rows)
        if len(where):
            faults.append(f"{len(where)} rows with {what}: {listed(ids[i] for i in where)}")
    if faults:
        raise UserError("\n".join(f"{name}: {fault}" for fault in faults))


def check_sample(sample: pd.DataFrame, *, test_ids: Sequence[str], classes: Sequence[str]) -> None:
    """Raises UserError unless the first column holds exactly the test ids and the others are exactly the classes."""
    faults = _set_faults(list(sample.columns[1:]), list(classes), "classes", ordered=False)
    written = sample.iloc[:, 0].tolist()
    positions = match_ids(written, test_ids)
    foreign = [name for name, p in zip(written, positions, strict=True) if p < 0]
    matched = Counter(positions[positions >= 0].tolist())
    twice = [test_ids[p] for p, count in matched.items() if count > 1]
    missing = [name for p, name in enumerate(test_ids) if p not in matched]
    if foreign:
        faults.append(f"{len(foreign)} ids are not among the test images: {listed(foreign)}"
                      f"{nearest(foreign[0], missing)}")
    if missing:
        faults.append(f"{len(missing)} test images are not in the sample: {listed(missing)}")
    if twice:
        faults.append(f"{len(twice)} duplicated ids: {listed(twice)}")
    if faults:
        raise UserError("\n".join(faults))


def match_ids(written: Sequence[str], test_ids: Sequence[str]) -> np.ndarray:
    """Position in `test_ids` of each id as a sample submission writes it, `(n,)` int64, -1 where there is none.

    Tried in this order: the id itself, without its file suffix, without its folders, without both.
    """
    position = {name: i for i, name in enumerate(test_ids)}

    def find(name: str) -> int:
        path = PurePosixPath(name)
        spellings = (name, str(path.with_suffix("")) if path.name else name, path.name, path.stem)
        return next((position[s] for s in spellings if s in position), -1)

    return np.array([find(name) for name in written], dtype=np.int64)


def _frame(id_column: str, ids: list[str], columns: list[str], values: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame(values, columns=columns)
    frame.insert(0, id_column, ids)
    return frame


def _set_faults(found: list[str], expected: list[str], what: str, *, ordered: bool = True) -> list[str]:
    """What distinguishes two lists of names: missing, foreign, duplicated, or (if that is all) their order."""
    missing = sorted(set(expected) - set(found))
    foreign = sorted(set(found) - set(expected))
    twice = [name for name, count in Counter(found).items() if count > 1]
    faults = []
    if missing:
        faults.append(f"{len(missing)} missing {what}: {listed(missing)}")
    if foreign:
        faults.append(f"{len(foreign)} foreign {what}: {listed(foreign)}{nearest(foreign[0], missing or expected)}")
    if twice:
        faults.append(f"{len(twice)} duplicated {what}: {listed(twice)}")
    if not faults and ordered and found != expected:
        first = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        faults.append(f"{what} are in another order; number {first + 1} is '{found[first]}', "
                      f"expected '{expected[first]}'")
    return faults
