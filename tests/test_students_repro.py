"""Real `dvc repro` runs with a student: which stages run after which change."""

import json

import numpy as np
import pandas as pd
import pytest
from workspace import Workspace, make_workspace

AFTER = ["collect", "ensemble", "submit"]


def chain(name: str, kind: str = "") -> list[str]:
    return [f"train{kind}@{name}", f"predict{kind}@{name}"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    """The smoke preset with a student in place of stackers, built by `pipeline repro`."""
    workspace = make_workspace(tmp_path_factory.mktemp("built"))
    params = workspace.params()
    params["stackers"] = {}
    params["students"] = {"pupil": {"net": "lenet5", "pseudo": {"teacher": ["logistic"]}}}
    workspace.write_params(params)
    run = workspace.pipeline("repro", "--jobs", "2")
    assert run.code == 0, run.output
    assert "a plain dvc repro then ran 0" in run.output
    return workspace


def rerun(workspace: Workspace, params) -> list[str]:
    """Stages that run after a change of params.yaml, sorted."""
    workspace.write_params(params)
    run = workspace.repro()
    assert run.code == 0, run.output
    return sorted(run.stages)


def test_what_runs_after_which_change(built):
    params = built.params()
    targets = {p.name: p.read_bytes() for p in (built.root / "pseudo/pupil").iterdir()}
    params["models"]["lenet"]["optimiser"] = {"lr": 0.005}          # not the student's teacher
    assert rerun(built, params) == sorted(["check", *chain("lenet"), "teach@pupil", *AFTER])
    assert {p.name: p.read_bytes() for p in (built.root / "pseudo/pupil").iterdir()} == targets

    params["models"]["logistic"]["optimiser"] = {"lr": 0.02}        # its teacher
    changed = ["check", *chain("logistic"), "teach@pupil", *chain("pupil", "_student"), *AFTER]
    assert rerun(built, params) == sorted(changed)
    assert {p.name: p.read_bytes() for p in (built.root / "pseudo/pupil").iterdir()} != targets


def test_out_of_fold_accuracy_of_the_student_is_that_on_withheld_digits(built):
    """The test labels are in nobody's reach during the run: they come from scikit-learn, by id."""
    from sklearn.datasets import load_digits

    test = pd.read_parquet(built.root / "oof/pupil/test.parquet")
    truth = load_digits().target[[int(name.split("_")[1]) for name in test["id"]]]
    withheld = (test.drop(columns="id").to_numpy().argmax(axis=1) == truth).mean()
    report = json.loads((built.root / "reports/ensemble.json").read_text())
    out_of_fold = next(row["nested"]["accuracy"] for row in report["leaderboard"] if row["name"] == "pupil")
    error = np.sqrt(withheld * (1 - withheld) / len(truth) + out_of_fold * (1 - out_of_fold) / report["rows"])
    assert out_of_fold > 0.85
    assert abs(withheld - out_of_fold) < 4 * error
