"""Stage `collect`: the one fan-in. Reads the members that params.yaml names, checks them, deletes all others.

Everything above depends on the manifest that it writes (names and digests of the members' files), never on a glob.
"""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.artefacts import (
    FEATURES,
    MODELS,
    OOF,
    PARAMS,
    PLAN,
    PSEUDO,
    REPORTS,
    TEACHERS,
    atomic,
    file_digest,
    read_json,
    write_json,
)
from pipeline.errors import UserError
from pipeline.members import read_member
from pipeline.stages.competition import load_competition


def run() -> None:
    """Writes reports/members.json and reports/curves.csv; raises UserError naming every member that is not right."""
    plan = read_json(PLAN / "members.json")
    networks = [*plan["models"], *plan["students"]]
    roster = load_competition().roster
    problems, members = [], []
    for name in plan["members"]:
        try:
            read_member(OOF / name, roster)
        except UserError as error:
            problems.append(str(error))
            continue
        members.append({"name": name, **_origin(name, plan["foreign"]), "oof": file_digest(OOF / name / "oof.parquet"),
                        "test": file_digest(OOF / name / "test.parquet")})
    if problems:
        raise UserError("\n".join(problems))
    kept = {OOF: {*networks, *(f"{name}.{stacker}" for name in networks for stacker in plan["stackers"]),
                  *plan["foreign"]},
            MODELS: set(networks), FEATURES: set(networks), TEACHERS: set(plan["models"]),
            PSEUDO: set(plan["students"])}
    for parent, names in kept.items():
        _prune(parent, names)
    curves = pd.concat([_long(pd.read_csv(MODELS / name / "curves.csv")) for name in networks])
    with atomic(REPORTS / "curves.csv") as temporary:
        curves.to_csv(temporary, index=False)
    write_json(REPORTS / "members.json", {"fold_digest": roster.fold_digest, "members": members})
    print(f"{REPORTS / 'members.json'}: {len(members)} members")


def _origin(name: str, foreign: dict[str, str]) -> dict[str, Any]:
    """What made a member; another tool's are of kind foreign, or votes where they are one-hot."""
    if name in foreign:
        return {"kind": "votes" if foreign[name] == "votes" else "foreign", "model": None, "stacker": None}
    model, _, stacker = name.partition(".")
    return {"kind": "stacker" if stacker else "model", "model": model, "stacker": stacker or None}


def _prune(parent: Path, kept: set[str]) -> None:
    """Deletes the directories below `parent` that no entry of params.yaml names."""
    for path in sorted(parent.iterdir()) if parent.exists() else []:
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path)
            print(f"{path}: deleted, not named in {PARAMS}")


def _long(curves: pd.DataFrame) -> pd.DataFrame:
    """Wide curves as rows of (model, fold, epoch, rows, loss, accuracy), where `rows` is train, holdout or valid."""
    parts = [
        curves[["model", "fold", "epoch", f"{rows}_loss", f"{rows}_accuracy"]]
        .rename(columns={f"{rows}_loss": "loss", f"{rows}_accuracy": "accuracy"}).assign(rows=rows).dropna()
        for rows in ("train", "holdout", "valid")
    ]
    return pd.concat(parts)[["model", "fold", "epoch", "rows", "loss", "accuracy"]]
