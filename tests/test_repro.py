"""Real `dvc repro` runs: which stages run after which change, and that the result is whole."""

import copy
import json

import pandas as pd
import pytest
from workspace import Workspace, make_workspace

from pipeline.config.ensemble import DEFAULT

AFTER = ["collect", "ensemble", "submit"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    """The smoke preset, built by `pipeline repro`, two stages at a time."""
    workspace = make_workspace(tmp_path_factory.mktemp("built"))
    run = workspace.pipeline("repro", "--jobs", "2")
    assert run.code == 0, run.output
    assert "a plain dvc repro then ran 0" in run.output
    return workspace


@pytest.fixture
def params(built):
    """The tree of params.yaml to change; the unchanged file is back afterwards, and reproduced."""
    original = (built.root / "params.yaml").read_bytes()
    yield copy.deepcopy(built.params())
    (built.root / "params.yaml").write_bytes(original)
    run = built.repro()
    assert run.code == 0, run.output


def chain(model: str) -> list[str]:
    return [f"train@{model}", f"predict@{model}", f"stack@{model}-svm"]


def leaderboard(workspace) -> list[str]:
    return [row["name"] for row in json.loads((workspace.root / "reports/ensemble.json").read_text())["leaderboard"]]


def test_a_second_repro_runs_nothing(built):
    run = built.repro()
    assert run.code == 0
    assert run.stages == []


def test_the_submission_is_whole(built):
    final = pd.read_csv(built.root / "submissions/final.csv", dtype={"id": str})
    images = pd.read_parquet(built.root / "data/packed/images.parquet")
    assert final["id"].tolist() == images.loc[images["split"] == "test", "id"].tolist()
    assert list(final.columns) == ["id", *[str(d) for d in range(10)]]
    assert (final.iloc[:, 1:].sum(axis=1) - 1).abs().max() < 1e-6
    report = json.loads((built.root / "reports/ensemble.json").read_text())
    assert final.equals(pd.read_csv(built.root / f"submissions/{report['final']}.csv", dtype={"id": str}))
    methods = {row["name"] for row in report["leaderboard"] if row["kind"] == "method"}
    assert methods == set(DEFAULT)
    assert {path.stem for path in (built.root / "submissions").iterdir()} == {"final", *methods}


def test_the_final_ensemble_beats_every_single_member_and_guesses_most_withheld_digits(built):
    """The test labels are in nobody's reach during the run: they come from scikit-learn, by id."""
    from sklearn.datasets import load_digits

    final = pd.read_csv(built.root / "submissions/final.csv", dtype={"id": str})
    truth = load_digits().target[[int(name.split("_")[1]) for name in final["id"]]]
    nested = json.loads((built.root / "reports/metrics.json").read_text())["final"]["accuracy"]
    accuracy = (final.iloc[:, 1:].to_numpy().argmax(axis=1) == truth).mean()
    assert accuracy > 0.94
    assert abs(accuracy - nested) < 0.03            # 360 rows: a standard error of 0.01


def test_adding_changing_and_removing_a_model(built, params):
    """Point 3 of the promise: only what a change touches runs."""
    with_mlp = copy.deepcopy(params)
    with_mlp["models"]["mlp"] = {"net": "mlp", "options": {"width": 32}}
    built.write_params(with_mlp)
    added = built.repro()
    assert added.code == 0, added.output
    assert sorted(added.stages) == sorted(["check", *chain("mlp"), *AFTER])
    assert {"mlp", "mlp.svm"} <= set(leaderboard(built))

    with_mlp["models"]["mlp"]["optimiser"] = {"lr": 0.005}
    built.write_params(with_mlp)
    changed = built.repro()
    assert changed.code == 0, changed.output
    assert sorted(changed.stages) == sorted(["check", *chain("mlp"), *AFTER])

    built.write_params(params)
    removed = built.repro()
    assert removed.code == 0, removed.output
    assert set(removed.stages) <= {"check", *AFTER}                # or restored from DVC's run-cache
    assert not any("mlp" in name for name in leaderboard(built))
    for parent in ("oof", "models", "features"):
        assert not list((built.root / parent).glob("mlp*"))


def test_changing_the_ensemble_runs_no_model_feature_or_stacker_stage(built, params):
    params["ensemble"]["metric"] = "macro_f1"
    built.write_params(params)
    run = built.repro()
    assert run.code == 0, run.output
    assert run.stages == ["check", "ensemble", "submit"]
    rows = json.loads(built.pipeline("leaderboard", "--json").output)["leaderboard"]
    scores = [row["nested"]["macro_f1"] for row in rows]
    assert scores == sorted(scores, reverse=True)


def test_changing_the_views_predicts_again_but_trains_nothing(built, params):
    before = {p: p.read_bytes() for p in (built.root / "models/lenet").iterdir()}
    scratch = {p: p.stat().st_mtime_ns for p in (built.root / ".scratch/lenet").rglob("fold.safetensors")}
    params["models"]["lenet"]["tta"] = {"kind": "dihedral"}
    built.write_params(params)
    run = built.repro()
    assert run.code == 0, run.output
    assert sorted(run.stages) == sorted(["check", "train@lenet", "predict@lenet", *AFTER])
    assert {p: p.read_bytes() for p in (built.root / "models/lenet").iterdir()} == before
    assert {p: p.stat().st_mtime_ns for p in (built.root / ".scratch/lenet").rglob("fold.safetensors")} == scratch


def test_editing_one_family_of_nets_does_not_retrain_another(built):
    path = built.root / "pipeline/nets/densenet.py"
    original = path.read_bytes()
    path.write_bytes(original + b"\n# edited\n")
    try:
        run = built.repro()
        assert run.code == 0, run.output
        assert run.stages == ["check"]
    finally:
        path.write_bytes(original)
        built.repro()


def test_a_mistake_in_params_stops_dvc_before_anything_runs(built, params):
    params["ensemble"]["metric"] = "logloss"
    built.write_params(params)
    run = built.repro()
    assert run.code != 0
    assert run.stages == ["check"]
    assert "error: params.yaml: ensemble.metric: unknown value 'logloss'" in run.output
    assert "Traceback" not in run.output
    ours = built.pipeline("repro")
    assert ours.code == 2
    assert ours.output.count("\n") == 1


def test_hand_edited_member_is_refused_by_collect(built):
    path = built.root / "oof/lenet/oof.parquet"
    original = path.read_bytes()
    frame = pd.read_parquet(path)
    path.unlink()                                                   # DVC's cached file itself stays as it is
    frame.iloc[1:].to_parquet(path, index=False)
    try:
        run = built.pipeline("collect")
        assert run.code == 2
        assert run.output.startswith("error: oof/lenet/oof.parquet: ")
        assert run.output.count("\n") == 1
    finally:
        path.unlink()
        path.write_bytes(original)


@pytest.mark.parametrize("command", ["leaderboard", "loo", "diversity"])
def test_looking(built, command):
    table = built.pipeline(command)
    assert table.code == 0, table.output
    assert all(name in table.output for name in ("lenet", "lenet.svm", "logistic"))
    rows = json.loads(built.pipeline(command, "--json").output)
    assert rows


def test_dvc_metrics_and_plots(built):
    metrics = built.run("dvc", "metrics", "show", "--json")
    shown = json.loads(metrics.output)[""]["data"]["reports/metrics.json"]["data"]
    assert set(shown["members"]) == {"logistic", "logistic.svm", "lenet", "lenet.svm"}
    assert set(shown["loo"]) == set(shown["members"])
    plots = json.loads(built.run("dvc", "plots", "show", "--json").output)
    text = json.dumps(plots)
    assert all(name in text for name in ("learning curves", "leaderboard", "leave one out", "confusion",
                                         "correlation of errors"))
    dag = built.run("dvc", "dag")
    assert "train@lenet" in dag.output
