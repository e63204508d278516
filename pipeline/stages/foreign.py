"""Stages `foreign@<name>`: foreign/<name>/, which `pipeline import-member` wrote, -> a member, checked once more."""

from typing import Any

from pipeline.artefacts import FOREIGN, OOF, PLAN, file_digest, read_json
from pipeline.errors import UserError
from pipeline.members import Member, Roster, read_member, write_member
from pipeline.stages.competition import load_competition


def run(name: str) -> None:
    """Writes oof/<name>/; raises UserError when folds, rows or kind are no longer those of the import."""
    try:
        kind = read_json(PLAN / "foreign" / f"{name}.json")["kind"]
    except FileNotFoundError:
        raise UserError(f"params.yaml: foreign: no entry '{name}'; fix: pipeline import-member {name} "
                        "--oof their_oof.csv --test their_test.csv") from None
    roster = load_competition().roster
    member = _checked(name, kind, roster)
    write_member(OOF / name, member, roster)
    print(f"{OOF / name}: {len(member.oof)} out-of-fold and {len(member.test)} test rows, {kind}")


def _checked(name: str, kind: str, roster: Roster) -> Member:
    directory = FOREIGN / name
    again = f"import it again: pipeline import-member {name}"
    try:
        meta: dict[str, Any] = read_json(directory / "meta.json")
    except FileNotFoundError:
        raise UserError(f"{directory / 'meta.json'} is missing; fix: {again}, or remove foreign.{name} from "
                        "params.yaml") from None
    if meta["fold_digest"] != roster.fold_digest:
        raise UserError(f"{directory}: made on fold digest {meta['fold_digest']}, but folds/folds.csv has "
                        f"{roster.fold_digest}; fix: predict with the new folds and {again}")
    if meta["kind"] != kind:
        raise UserError(f"params.yaml: foreign.{name}.kind: {kind}, but {directory} holds {meta['kind']}; "
                        f"fix: kind: {meta['kind']}, or {again}")
    for part in ("oof", "test"):
        path = directory / f"{part}.parquet"
        if path.exists() and file_digest(path) != meta[part]:
            raise UserError(f"{path}: not the file that was imported; fix: {again}")
    try:
        return read_member(directory, roster)
    except UserError as error:
        raise UserError(f"{str(error).partition('; fix: ')[0]}; fix: {again}") from None
