"""Stage `collect`: the one fan-in. Reads the members that params.yaml names, checks them, deletes all others.

Everything above depends on the manifest that it writes (names and digests of the members' files), never on a glob.
"""

import shutil
from pathlib import Path

import pandas as pd

from pipeline.artefacts import FEATURES, MODELS, OOF, PARAMS, REPORTS, atomic, file_digest, write_json
from pipeline.config.base import read_params
from pipeline.config.params import member_names
from pipeline.config.stacker import parse_stacker
from pipeline.errors import UserError
from pipeline.members import read_member
from pipeline.stages.competition import load_competition


def run() -> None:
    """Writes reports/members.json and reports/curves.csv; raises UserError naming every member that is not right."""
    raw = read_params(PARAMS)
    models = raw["models"] or {}
    stackers = {str(name): parse_stacker(str(name), raw["stackers"]) for name in raw["stackers"] or {}}
    names = member_names(models, stackers)
    roster = load_competition().roster
    problems, members = [], []
    for name in names:
        try:
            read_member(OOF / name, roster)
        except UserError as error:
            problems.append(str(error))
            continue
        model, _, stacker = name.partition(".")
        members.append({"name": name, "kind": "stacker" if stacker else "model", "model": model,
                        "stacker": stacker or None, "oof": file_digest(OOF / name / "oof.parquet"),
                        "test": file_digest(OOF / name / "test.parquet")})
    if problems:
        raise UserError("\n".join(problems))
    _prune(OOF, {f"{model}.{stacker}" for model in models for stacker in stackers} | set(models))
    _prune(MODELS, set(models))
    _prune(FEATURES, set(models))
    curves = pd.concat([_long(pd.read_csv(MODELS / name / "curves.csv")) for name in models])
    with atomic(REPORTS / "curves.csv") as temporary:
        curves.to_csv(temporary, index=False)
    write_json(REPORTS / "members.json", {"fold_digest": roster.fold_digest, "members": members})
    print(f"{REPORTS / 'members.json'}: {len(members)} members")


def _prune(parent: Path, kept: set[str]) -> None:
    """Deletes the directories below `parent` that no entry of params.yaml names."""
    for path in sorted(parent.iterdir()):
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
