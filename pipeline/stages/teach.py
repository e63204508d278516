"""Stage `teach@<student>`: the models' test predictions -> the targets that a student learns test images from.

Networks of cell k (a fold of a repeat) see targets from the teachers' networks of cell k and no others. All of these
were fitted on the same rows, so nothing that the student learns has seen a label of the fold that it is scored on,
and its out-of-fold score stays honest. One thing is not clean: rows that the student's early stopping watches are
rows that its teachers learnt, so it may stop too late; scores are not touched by that.
Source: Lee 2013, "Pseudo-label", with soft targets as in Dieleman et al. (Deep Sea, NDSB 2015).
"""

import shutil
from pathlib import Path

import numpy as np

from pipeline.artefacts import PLAN, PSEUDO, TEACHERS, atomic_directory, network_name, read_json, write_json
from pipeline.errors import UserError
from pipeline.stages.competition import Competition, load_competition


def run(name: str) -> None:
    """Writes pseudo/<student>/fold<cell>.npy `(T, C)` float32, the mean over the teachers; raises UserError.

    Deletes what models of former days left in teachers/, which this stage depends on as a whole.
    """
    plan = read_json(PLAN / "students" / f"{name}.json")
    competition = load_competition()
    if not competition.packed.n_test:
        raise UserError(f"students.{name}: there are no test images to learn from; fix: move it to models:, without "
                        "pseudo")
    for path in sorted(TEACHERS.iterdir()):
        if path.is_dir() and path.name not in plan["models"]:
            shutil.rmtree(path, ignore_errors=True)     # another student's stage may be at it
    with atomic_directory(PSEUDO / name) as directory:
        for cell in competition.cells:
            said = [_said(TEACHERS / teacher, cell.index, competition) for teacher in plan["teachers"]]
            np.save(directory / f"{network_name(cell.index, 0)}.npy",
                    np.mean(said, axis=0, dtype=np.float64).astype(np.float32))                           # (T, C)
        write_json(directory / "made.json", {"fold_digest": competition.roster.fold_digest,
                                             "teachers": plan["teachers"]})
    print(f"{PSEUDO / name}: targets of {competition.packed.n_test} test images for {len(competition.cells)} cells, "
          f"from {', '.join(plan['teachers'])}")


def _said(directory: Path, cell: int, competition: Competition) -> np.ndarray:
    """Probabilities `(T, C)` of one teacher's networks of one cell."""
    if read_json(directory / "made.json")["fold_digest"] != competition.roster.fold_digest:
        raise UserError(f"{directory}: made on other folds than {directory.name} has now; fix: dvc repro")
    return np.load(directory / f"{network_name(cell, 0)}.npy")
