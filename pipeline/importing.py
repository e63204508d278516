"""`pipeline import-member` and `pipeline export-member`: predictions from and for other tools."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from pipeline.artefacts import BLENDS, FOREIGN, OOF, PARAMS, atomic, atomic_directory, file_digest, write_json
from pipeline.config.base import read_params
from pipeline.config.foreign import Kind, parse_foreign
from pipeline.config.params import load_params
from pipeline.data.predictions import check_suffix, read_predictions, write_predictions
from pipeline.data.tables import read_text_table
from pipeline.errors import UserError, listed, nearest
from pipeline.foreign import Spelling, class_map, joined
from pipeline.members import Member, Roster, read_member, write_member
from pipeline.metrics import all_scores
from pipeline.params_text import with_entry
from pipeline.stages.competition import load_competition

Value = TypeVar("Value")


def import_member(
    name: str, *, oof: Path, test: Path, classes: Path | None, normalise: bool, hard: bool, same_folds: bool
) -> None:
    """Writes foreign/<name>/ and its entry in params.yaml, or, with a line for every fault (UserError), nothing.

    A member of the same name that was imported before is replaced.
    """
    kind: Kind = "votes" if hard else "probabilities"
    if hard and normalise:
        raise UserError("--hard with --normalise: a vote has nothing to normalise; fix: leave --normalise out")
    params = load_params(PARAMS)
    parse_foreign(name, {"kind": kind}, params.networks)
    text = PARAMS.read_bytes().decode()
    changed = with_entry(text, "foreign", name=name, entry={"kind": kind})
    competition = load_competition()
    roster = competition.roster
    names = {} if classes is None else class_map(read_text_table(classes), roster.classes, name=str(classes))
    spelling = Spelling(kind, names, normalise)
    problems: list[str] = []
    oof_rows = _attempt(problems, lambda: joined(
        read_predictions(oof), roster.train_ids, classes=roster.classes, spelling=spelling, folds=roster.folds,
        same_folds=same_folds, name=str(oof)))                                                        # (N, C)
    test_rows = _attempt(problems, lambda: joined(
        read_predictions(test), roster.test_ids, classes=roster.classes, spelling=spelling, name=str(test)))
    if oof_rows is None or test_rows is None:
        raise UserError("\n".join(problems))
    with atomic_directory(FOREIGN / name) as directory:
        write_member(directory, Member(name, oof_rows, test_rows), roster)
        write_json(directory / "meta.json", {
            "kind": kind, "fold_digest": roster.fold_digest, "folds": "stated" if same_folds else "compared",
            "normalised": normalise, "classes": spelling.classes,
            "oof": file_digest(directory / "oof.parquet"), "test": file_digest(directory / "test.parquet"),
            "sources": {option: {"file": path.name, "digest": file_digest(path)}
                        for option, path in (("oof", oof), ("test", test), ("map", classes)) if path is not None}})
    if changed != text:
        with atomic(PARAMS) as temporary:
            temporary.write_bytes(changed.encode())
    scores = all_scores(oof_rows, competition.packed.labels)
    said = f"accuracy {scores['accuracy']:.4f}" + ("" if hard else f", log loss {scores['log_loss']:.4f}")
    print(f"{FOREIGN / name}: {len(roster.train_ids)} out-of-fold rows ({said}) and {len(roster.test_ids)} test rows; "
          f"{PARAMS}: foreign.{name}: {kind}; next: dvc repro")


def export_member(name: str, *, oof: Path, test: Path) -> None:
    """Writes a member's rows, or those of `blends/<method>`, as tables that `import_member` takes; raises UserError.

    Probabilities come back bit for bit; a member of votes is written as labels, for `--hard`.
    """
    for path in (oof, test):
        check_suffix(path)
    if oof.resolve() == test.resolve():
        raise UserError(f"--oof and --test both name {oof}; fix: two files")
    directory = Path(name) if name.startswith(f"{BLENDS}/") else OOF / name
    known = [p.parent for parent in (OOF, BLENDS) for p in sorted(parent.glob("*/oof.parquet"))]
    if directory not in known:
        allowed = [p.name if p.parent == OOF else str(p) for p in known]
        raise UserError(f"no member '{name}'; allowed: {listed(allowed, limit=30) or 'none yet; fix: dvc repro'}"
                        f"{nearest(name, allowed)}")
    entry = (read_params(PARAMS)["foreign"] or {}).get(name) or {}
    hard = entry.get("kind") == "votes"
    roster = load_competition().roster
    member = read_member(directory, roster)
    write_predictions(oof, _table(member.oof, roster.train_ids, roster, folds=roster.folds, hard=hard))
    write_predictions(test, _table(member.test, roster.test_ids, roster, folds=None, hard=hard))
    print(f"{oof}: {len(member.oof)} out-of-fold rows; {test}: {len(member.test)} test rows; elsewhere: "
          f"pipeline import-member NAME --oof {oof.name} --test {test.name}{' --hard' * hard}")


def _attempt(problems: list[str], make: Callable[[], Value]) -> Value | None:
    try:
        return make()
    except UserError as error:
        problems.extend(str(error).splitlines())
        return None


def _table(
    values: np.ndarray, ids: list[str], roster: Roster, *, folds: np.ndarray | None, hard: bool
) -> pd.DataFrame:
    """id, fold (out of fold), and a column per class or the label that a vote names."""
    keys: dict[str, Any] = {"id": ids} if folds is None else {"id": ids, "fold": folds}
    if hard:
        return pd.DataFrame({**keys, "label": [roster.classes[c] for c in values.argmax(axis=1)]})
    return pd.concat([pd.DataFrame(keys), pd.DataFrame(values, columns=roster.classes)], axis=1)
