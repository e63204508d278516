"""What every stage after `folds` starts from: the packed images, the folds, and the roster that members agree with."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.artefacts import FOLDS, PACKED
from pipeline.cells import Cell, cells, fold_digest
from pipeline.data.store import Packed, open_packed
from pipeline.errors import UserError
from pipeline.members import Roster


@dataclass(frozen=True)
class Competition:
    """The packed store with its folds, rows in one order everywhere."""

    packed: Packed
    folds: np.ndarray      # (R, N) int: fold of each training row in each repeat
    cells: list[Cell]      # R * K networks per model
    roster: Roster
    clusters: np.ndarray   # (N,) int in 0 .. G - 1: rows of one group, or (without groups) of identical images


def load_competition() -> Competition:
    """Opens data/packed and folds/folds.csv; raises UserError when one is missing or they disagree."""
    packed = open_packed(PACKED)
    ids = packed.table["id"].tolist()
    train_ids, test_ids = ids[: packed.n_train], ids[packed.n_train:]
    try:
        table = pd.read_csv(FOLDS, dtype={"id": str, "label": str, "group": str}, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{FOLDS} is missing; fix: dvc repro folds") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{FOLDS} is not readable ({error}); fix: dvc repro folds") from None
    columns = [c for c in table.columns if c.startswith("fold")]
    if not {"id", "label", "fold"} <= set(table.columns) or table["id"].tolist() != train_ids \
            or table["label"].tolist() != packed.table["label"].iloc[: packed.n_train].tolist():
        raise UserError(f"{FOLDS}: ids and labels are not those of {PACKED}; fix: dvc repro folds")
    folds = table[columns].to_numpy(dtype=np.int64).T                                             # (R, N)
    digest = fold_digest(train_ids, table["label"].tolist(), folds)
    together = table["group"] if "group" in table else packed.table["content_hash"].iloc[: packed.n_train]
    clusters = pd.factorize(together)[0]
    return Competition(packed, folds, cells(folds), Roster(train_ids, test_ids, folds[0], packed.classes, digest),
                       clusters)
