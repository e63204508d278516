"""Cutting rows into folds: scikit-learn's splitters, with byte-identical images always in one fold."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from pipeline.config.data import FoldsConfig
from pipeline.errors import UserError, listed
from pipeline.rng import derive


@dataclass(frozen=True)
class FoldAssignment:
    """The folds and what there is to say about them."""

    folds: np.ndarray           # (R, N) int64 in 0..k-1, one row per repeat
    report: dict[str, Any]      # ready for JSON; rows and classes by index, see `assign_folds`


def assign_folds(
    labels: np.ndarray,
    *,
    config: FoldsConfig,
    seed: int,
    groups: Sequence[str] | None,
    hashes: Sequence[str],
    classes: Sequence[str],
) -> FoldAssignment:
    """Folds of `(N,)` rows; rows of one content hash, and of one group in the group schemes, never part.

    stratified deals one representative of each set of identical images; the others follow it. The report holds
    rows, k, repeats, scheme, class_counts `(C,)`, rare_classes (fewer rows than folds), duplicate_sets and
    conflicting_sets (identical images, and those with different labels; lists of rows), and warnings.
    Raises UserError for fewer rows or groups than folds, no class with k rows, or a group scheme without groups.
    """
    n, k = len(labels), config.k
    grouped = config.scheme != "stratified"
    if grouped and groups is None:
        raise UserError(f"folds.scheme: {config.scheme} needs groups; fix: set data.group_column (source csv) or "
                        f"folds.group_pattern, or say scheme: stratified")
    units = _components([hashes, groups] if grouped and groups is not None else [hashes])     # (N,)
    first = np.unique(units, return_index=True)[1]                                   # (U,) row that stands for a unit
    what = "groups" if grouped else "different images"
    if len(first) < k:
        raise UserError(f"folds.k is {k}, but the training data has {n} rows with {len(first)} {what}; "
                        f"fix: set folds.k to at most {len(first)}, or add data")
    dealt = np.bincount(labels if grouped else labels[first], minlength=len(classes))
    if config.scheme != "group" and dealt.max() < k:
        raise UserError(f"folds.k is {k}, but no class has that many rows: the largest is "
                        f"'{classes[int(dealt.argmax())]}' with {dealt.max()}; fix: lower folds.k or add data")
    seeds = [derive(seed, "folds", repeat) % 2**32 for repeat in range(config.repeats)]
    folds = np.stack([_split(labels, units, first, config, s) for s in seeds])       # (R, N)
    return FoldAssignment(folds, _report(labels, hashes, config, classes))


def groups_from_pattern(ids: Sequence[str], pattern: str) -> list[str]:
    """The group of each id: what the first parenthesis of `pattern` matches in it; raises UserError."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"folds.group_pattern: '{pattern}' is not a regular expression ({error})") from None
    if compiled.groups < 1:
        raise UserError(f"folds.group_pattern: '{pattern}' has no group; fix: put parentheses around the part of the "
                        f"id that names the group, e.g. '^([^_]+)_'")
    matches = [compiled.search(name) for name in ids]
    misses = [name for name, match in zip(ids, matches, strict=True) if match is None or match.group(1) is None]
    if misses:
        raise UserError(f"folds.group_pattern: '{pattern}' does not match {len(misses)} of {len(ids)} ids: "
                        f"{listed(misses)}")
    return [str(match.group(1)) for match in matches if match is not None]


def _components(keys: Sequence[Sequence[str]]) -> np.ndarray:
    """Number of the connected component of each row, `(N,)`, where equal values of any key connect rows."""
    n = len(keys[0])
    starts, ends = [], []
    for key in keys:
        _, first, inverse = np.unique(np.asarray(key, dtype=object).astype(str), return_index=True, return_inverse=True)
        starts.append(np.arange(n))
        ends.append(first[inverse])
    start, end = np.concatenate(starts), np.concatenate(ends)
    return connected_components(coo_array((np.ones(len(start)), (start, end)), shape=(n, n)), directed=False)[1]


def _split(labels: np.ndarray, units: np.ndarray, first: np.ndarray, config: FoldsConfig, seed: int) -> np.ndarray:
    """Folds of one repeat, `(N,)`."""
    rows = first if config.scheme == "stratified" else np.arange(len(labels))
    splitter = {
        "stratified": StratifiedKFold(config.k, shuffle=True, random_state=seed),
        "group": GroupKFold(config.k, shuffle=True, random_state=seed),
        "stratified_group": StratifiedGroupKFold(config.k, shuffle=True, random_state=seed),
    }[config.scheme]
    by_unit = np.full(len(first), -1, dtype=np.int64)                                # (U,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)        # rare classes are said in the report, by name
        for fold, (_, held) in enumerate(splitter.split(np.zeros(len(rows)), labels[rows], units[rows])):
            by_unit[units[rows[held]]] = fold
    folds = by_unit[units]                                                           # (N,)
    empty = sorted(set(range(config.k)) - set(folds.tolist()))
    if empty:
        raise UserError(f"folds.scheme: {config.scheme} leaves fold {empty[0]} of {config.k} without rows, because the "
                        f"groups are too uneven; fix: lower folds.k or say scheme: group")
    return folds


def _report(labels: np.ndarray, hashes: Sequence[str], config: FoldsConfig, classes: Sequence[str]) -> dict[str, Any]:
    counts = np.bincount(labels, minlength=len(classes))
    rare = [{"class": classes[c], "rows": int(counts[c])} for c in np.argsort(counts, kind="stable").tolist()
            if counts[c] < config.k]
    rows_of: dict[str, list[int]] = {}
    for row, content in enumerate(hashes):
        rows_of.setdefault(content, []).append(row)
    duplicates = [rows for rows in rows_of.values() if len(rows) > 1]
    conflicting = [rows for rows in duplicates if len({int(labels[r]) for r in rows}) > 1]
    said = []
    if rare:
        names = [f"{r['class']} ({r['rows']})" for r in rare]
        said.append(f"{len(rare)} classes have fewer rows than the {config.k} folds, so some folds hold none of them: "
                    f"{listed(names)}")
    if duplicates:
        said.append(f"{sum(map(len, duplicates))} images are byte-identical to another one ({len(duplicates)} sets); "
                    f"each set stays in one fold")
    if conflicting:
        said.append(f"{len(conflicting)} sets of byte-identical images carry different labels; "
                    f"at most one label of each can be right")
    return {
        "scheme": config.scheme, "k": config.k, "repeats": config.repeats, "rows": len(labels),
        "class_counts": counts.tolist(), "rare_classes": rare, "duplicate_sets": duplicates,
        "conflicting_sets": conflicting, "warnings": said,
    }
