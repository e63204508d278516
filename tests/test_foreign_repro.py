"""Real `dvc repro` runs with a member from another tool: what runs after its import, a new import, and its removal."""

import json
import shutil

import pandas as pd
import pytest
from workspace import Workspace, make_workspace

JOINS = ["check", "collect", "ensemble", "foreign@twin", "submit"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    """The smoke preset without stackers, built; its member lenet exported to lenet.oof.csv and lenet.test.csv."""
    workspace = make_workspace(tmp_path_factory.mktemp("built"))
    params = workspace.params()
    params["stackers"], params["defaults"]["epochs"] = {}, 2
    workspace.write_params(params)
    rerun(workspace)
    run = workspace.pipeline("export-member", "lenet", "--oof", "lenet.oof.csv", "--test", "lenet.test.csv")
    assert run.code == 0, run.output
    return workspace


def bring(workspace: Workspace, name: str, *files: str) -> None:
    """Imports an out-of-fold and a test table."""
    run = workspace.pipeline("import-member", name, "--oof", files[0], "--test", files[1])
    assert run.code == 0, run.output


def rerun(workspace: Workspace) -> list[str]:
    """Stages that run, sorted."""
    run = workspace.repro()
    assert run.code == 0, run.output
    return sorted(run.stages)


def same_rows(one: Workspace, ours: str, other: Workspace, theirs: str) -> None:
    for part in ("oof.parquet", "test.parquet"):
        found, expected = pd.read_parquet(one.root / ours / part), pd.read_parquet(other.root / theirs / part)
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_what_runs_after_an_import_a_new_import_and_a_removal(built):
    params, report = ((built.root / name).read_bytes() for name in ("params.yaml", "reports/ensemble.json"))
    bring(built, "twin", "lenet.oof.csv", "lenet.test.csv")
    assert rerun(built) == JOINS
    members = json.loads((built.root / "reports/members.json").read_text())["members"]
    assert {m["name"]: m["kind"] for m in members} == {"logistic": "model", "lenet": "model", "twin": "foreign"}
    same_rows(built, "oof/twin", built, "oof/lenet")

    table = pd.read_csv(built.root / "lenet.test.csv")
    table.assign(**dict.fromkeys(table.columns[1:], 0.1)).to_csv(built.root / "flat.csv", index=False)
    bring(built, "twin", "lenet.oof.csv", "flat.csv")
    assert rerun(built) == [name for name in JOINS if name != "check"]      # params.yaml is what it was

    (built.root / "params.yaml").write_bytes(params)
    assert rerun(built) == ["collect"]                                      # the others come from DVC's run-cache
    assert (built.root / "reports/ensemble.json").read_bytes() == report
    assert sorted(p.name for p in (built.root / "oof").iterdir() if p.is_dir()) == ["lenet", "logistic"]
    assert [p.name for p in (built.root / "foreign").iterdir()] == ["twin"]  # the user's own


def test_a_blend_of_one_project_is_a_member_of_its_copy(built, tmp_path):
    files = [str(tmp_path / "blend.oof.parquet"), str(tmp_path / "blend.test.csv")]
    run = built.pipeline("export-member", "blends/uniform", "--oof", files[0], "--test", files[1])
    assert run.code == 0, run.output
    copy = make_workspace(tmp_path / "copy")
    shutil.copytree(built.root / "data/packed", copy.root / "data/packed")
    shutil.copytree(built.root / "folds", copy.root / "folds")
    bring(copy, "uniform_of_theirs", *files)
    assert copy.params()["foreign"] == {"uniform_of_theirs": {"kind": "probabilities"}}
    same_rows(copy, "foreign/uniform_of_theirs", built, "blends/uniform")
