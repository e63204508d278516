"""Stage `folds`: data/packed -> folds/folds.csv and folds/report.json."""

import pandas as pd

from pipeline.artefacts import FOLDS, FOLDS_REPORT, PACKED, PARAMS, atomic, write_json
from pipeline.cells import fold_digest
from pipeline.config.base import parse, read_params
from pipeline.config.data import FoldsConfig
from pipeline.data.store import open_packed
from pipeline.folds import assign_folds, groups_from_pattern


def run() -> None:
    """Assigns every training row to a fold and says what was unusual about the rows."""
    raw = read_params(PARAMS)
    config = parse(FoldsConfig, raw["folds"], "folds")
    packed = open_packed(PACKED)
    train = packed.table.iloc[: packed.n_train]
    ids = train["id"].tolist()
    groups = groups_from_pattern(ids, config.group_pattern) if config.group_pattern else _groups(train)
    assignment = assign_folds(packed.labels, config=config, seed=raw["seed"], classes=packed.classes, groups=groups,
                              hashes=train["content_hash"].tolist())
    table = pd.DataFrame({"id": ids, "label": train["label"].tolist()})
    for repeat, folds in enumerate(assignment.folds):
        table["fold" if repeat == 0 else f"fold_{repeat + 1}"] = folds
    if groups is not None:
        table["group"] = groups
    report = {"digest": fold_digest(ids, table["label"].tolist(), assignment.folds), **assignment.report}
    for sets in ("duplicate_sets", "conflicting_sets"):
        report[sets] = [[ids[row] for row in rows] for rows in report[sets]]
    with atomic(FOLDS) as temporary:
        table.to_csv(temporary, index=False)
    write_json(FOLDS_REPORT, report)
    for warning in assignment.report["warnings"]:
        print(f"folds: {warning}")
    print(f"{FOLDS}: {len(table)} rows, {config.k} folds x {config.repeats}, digest {report['digest']}")


def _groups(train: pd.DataFrame) -> list[str] | None:
    groups = train["group"]
    return None if groups.isna().all() else groups.fillna(train["id"]).astype(str).tolist()
