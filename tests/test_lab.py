"""The ensemble stage on members that are written by hand: whom it combines, how it scores, what it leaves behind."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ensemble_cases import members
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipeline.artefacts import BLENDS, FOLDS, OOF, PACKED, REPORTS, digest, file_digest, read_json, write_json
from pipeline.cells import fold_digest
from pipeline.cli import app
from pipeline.closure import ROOT
from pipeline.data.store import PIXELS, Row, write_packed
from pipeline.members import Member, Roster, read_member, write_member
from pipeline.metrics import log_loss
from pipeline.stages import ensemble
from pipeline.stages.competition import load_competition
from pipeline.stages.lab import open_lab

ROWS, TEST, CLASSES = 300, 40, 4
STRENGTHS = {"good": 2.5, "fair": 2.0, "poor": 1.0}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A packed store, folds in an order of their own, three members, one that knows nothing, and one that votes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_SLOTS", "2")
    stack, labels, _ = members(*STRENGTHS.values(), 0.0, 1.5, rows=ROWS + TEST, classes=CLASSES, shared=0.3)
    folds = np.random.default_rng(1).permutation(ROWS) % 3
    names = [f"{kind}{i:04d}" for kind, count in (("a", ROWS), ("z", TEST)) for i in range(count)]
    PACKED.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (len(names), 16), dtype=np.uint8)
    (PACKED / PIXELS).write_bytes(pixels.tobytes())
    write_packed(PACKED, [Row(name, f"c{label}" if i < ROWS else None, "train" if i < ROWS else "test", 4, 4, 16 * i,
                              digest(pixel.tobytes()), None)
                          for i, (name, label, pixel) in enumerate(zip(names, labels, pixels, strict=True))],
                 classes=[f"c{c}" for c in range(CLASSES)], channels=1, facts={})
    given = [f"c{label}" for label in labels[:ROWS]]
    FOLDS.parent.mkdir()
    pd.DataFrame({"id": names[:ROWS], "label": given, "fold": folds}).to_csv(FOLDS, index=False)
    roster = Roster(names[:ROWS], names[ROWS:], folds, [f"c{c}" for c in range(CLASSES)],
                    fold_digest(names[:ROWS], given, folds[None]))
    stack[3] = stack[3][np.random.default_rng(2).permutation(len(names))] ** 6          # sure, and wrong
    stack[3] /= stack[3].sum(axis=1, keepdims=True)
    stack[4] = np.eye(CLASSES, dtype=np.float32)[stack[4].argmax(axis=1)]
    kinds = {**dict.fromkeys(STRENGTHS, "model"), "clueless": "stacker", "voter": "votes"}
    for name, predictions in zip(kinds, stack, strict=True):
        write_member(OOF / name, Member(name, predictions[:ROWS], predictions[ROWS:]), roster)
    write_json(REPORTS / "members.json", {"members": [
        {"name": name, "kind": kind, **{part: file_digest(OOF / name / f"{part}.parquet") for part in ("oof", "test")}}
        for name, kind in kinds.items()]})
    set_ensemble()
    return tmp_path


def set_ensemble(**changes) -> None:
    tree = YAML(typ="safe").load((ROOT / "presets/smoke.yaml").read_text())
    tree["ensemble"] = {"metric": "log_loss", "bootstrap": 100, "repeats": 2, "greedy_steps": 5, "greedy_bags": 3,
                        **changes}
    with Path("params.yaml").open("w") as handle:
        YAML().dump(tree, handle)


def row(report, name):
    return next(r for r in report["leaderboard"] if r["name"] == name)


def test_rows_are_those_of_their_ids_although_the_lab_sorts_them_by_fold(project):
    ensemble.run()
    roster = load_competition().roster
    expected = [np.mean([getattr(read_member(OOF / name, roster), part) for name in STRENGTHS], axis=0)
                for part in ("oof", "test")]
    blend = read_member(BLENDS / "uniform", roster)
    np.testing.assert_allclose(blend.oof, expected[0], atol=1e-6)
    np.testing.assert_allclose(blend.test, expected[1], atol=1e-6)
    report = read_json(REPORTS / "ensemble.json")
    labels = load_competition().packed.labels
    assert row(report, "uniform")["nested"]["log_loss"] == pytest.approx(log_loss(expected[0], labels), abs=1e-6)
    assert row(report, "poor")["nested"]["log_loss"] == pytest.approx(
        log_loss(read_member(OOF / "poor", roster).oof, labels), abs=1e-6)


def test_one_hot_members_count_in_votes_only_and_the_clueless_nowhere(project):
    ensemble.run()
    report = read_json(REPORTS / "ensemble.json")
    assert report["excluded"] == ["clueless"]
    assert set(row(report, "vote")["weights"]) == {*STRENGTHS, "voter"}
    for name in ("uniform", "geometric", "greedy", "blend", "blend+temperature"):
        assert set(row(report, name)["weights"]) == set(STRENGTHS), name
    assert set(pd.read_csv(REPORTS / "diversity.csv")["a"]) == set(STRENGTHS)


def test_a_voter_below_the_commonest_class_is_left_out(project):
    roster = load_competition().roster
    labels = load_competition().packed.labels
    wrong = np.eye(CLASSES, dtype=np.float32)[(labels + 1) % CLASSES]
    write_member(OOF / "voter", Member("voter", wrong, read_member(OOF / "voter", roster).test), roster)
    manifest = read_json(REPORTS / "members.json")
    manifest["members"][-1]["oof"] = file_digest(OOF / "voter/oof.parquet")
    write_json(REPORTS / "members.json", manifest)
    assert open_lab().excluded == ["clueless", "voter"]


def test_the_report_says_how_sure_it_is_of_every_score(project):
    ensemble.run()
    report = read_json(REPORTS / "ensemble.json")
    for entry in report["leaderboard"]:
        assert entry["interval"]["low"] <= entry["nested"]["log_loss"] <= entry["interval"]["high"], entry["name"]
    learning = row(report, "blend")
    assert learning["repeated"]["partitions"] == 3
    assert learning["gap"] < 1e-6
    assert row(report, "uniform")["repeated"] is None
    assert learning["in_sample"]["log_loss"] <= learning["nested"]["log_loss"]
    for name in ("uniform", "best_single"):
        found = row(report, "blend")["standing"][name]
        pair = row(report, "blend")[f"vs_{name}"]
        assert found["high"] - found["low"] > 0
        assert found["low"] <= pair["difference"] <= found["high"]
    assert row(report, "poor")["vs_best_single"]["low"] > 0
    sizes = [s["members"] for s in report["paths"] if s["method"] == "blend" and s["order"] == "added"]
    assert sizes == [1, 2, 3]
    full = [s["in_sample"] for s in report["paths"] if s["method"] == "uniform" and s["members"] == 3]
    assert full == pytest.approx([row(report, "uniform")["in_sample"]["log_loss"]] * 2, abs=1e-6)
    for parts in report["ambiguity"].values():
        assert parts["mean_loss"] - parts["ambiguity"] == pytest.approx(parts["ensemble_loss"], abs=1e-6)
    assert report["ambiguity"]["log_loss"]["ensemble_loss"] == pytest.approx(
        row(report, "geometric")["nested"]["log_loss"], abs=1e-6)


def test_a_final_method_without_weights_shows_the_leave_one_out_of_the_best_that_has(project):
    set_ensemble(methods=["uniform", "blend", "stack_logistic"], final="stack_logistic")
    ensemble.run()
    report = read_json(REPORTS / "ensemble.json")
    assert report["final"] == "stack_logistic"
    assert row(report, "stack_logistic")["weights"] is None
    assert report["loo_method"] == min(("uniform", "blend"), key=lambda n: row(report, n)["nested"]["log_loss"])
    assert {r["member"] for r in report["loo"]} == set(STRENGTHS)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_a_metric_that_is_better_when_greater_turns_every_sign(project, metric):
    set_ensemble(metric=metric, methods=["uniform", "vote", "greedy", "blend"])
    ensemble.run()
    report = read_json(REPORTS / "ensemble.json")
    best = row(report, "best single")["nested"][metric]
    for name in ("uniform", "poor"):
        entry = row(report, name)
        assert entry["vs_best_single"]["difference"] == pytest.approx(best - entry["nested"][metric], abs=1e-9)
        assert entry["interval"]["low"] <= entry["nested"][metric] <= entry["interval"]["high"]


def test_doubtful_labels_name_the_images(project):
    roster, labels = load_competition().roster, load_competition().packed.labels
    sure = np.full((ROWS, CLASSES), 0.01, dtype=np.float32)
    told = labels.copy()
    told[7] = (labels[7] + 1) % CLASSES                                  # everyone is sure that row 7 is another class
    sure[np.arange(ROWS), told] = 0.97
    for name in STRENGTHS:
        write_member(OOF / name, Member(name, sure, read_member(OOF / name, roster).test), roster)
    manifest = read_json(REPORTS / "members.json")
    for entry in manifest["members"]:
        entry["oof"] = file_digest(OOF / entry["name"] / "oof.parquet")
    write_json(REPORTS / "members.json", manifest)
    set_ensemble(methods=["uniform"])
    ensemble.run()
    table = pd.read_csv(REPORTS / "label_errors.csv")
    assert table["id"].tolist() == ["a0007"]
    assert table["given"].tolist() == [f"c{labels[7]}"]
    assert table["suggested"].tolist() == [f"c{told[7]}"]
    assert table["image"].tolist() == [7]
    assert table["fold"].tolist() == [int(load_competition().folds[0][7])]
    assert {p.stem for p in (REPORTS / "figures").iterdir()} >= {"loo", "paths", "diversity", "label_errors"}


def run_cli(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_every_look_prints_a_table_json_and_csv(project):
    ensemble.run()
    for command, column in (("leaderboard", "name"), ("loo", "member"), ("paths", "method"), ("diversity", "q"),
                            ("calibration", "label"), ("label-errors", "suggested")):
        code, table = run_cli(command)
        assert code == 0, table
        code, printed = run_cli(command, "--json")
        assert code == 0
        json.loads(printed)
        code, printed = run_cli(command, "--csv")
        assert code == 0
        assert column in pd.read_csv(io.StringIO(printed)).columns
    assert "picture: reports/figures/loo.png" in run_cli("loo")[1]
    pairs = pd.read_csv(REPORTS / "confusion.csv")
    wrong = pairs[pairs["actual"] != pairs["predicted"]].value_counts()
    assert f"{wrong.iloc[0]} │" in run_cli("calibration")[1].split("Largest confusions")[1].splitlines()[4]
    table = run_cli("leaderboard")[1]
    assert "clueless (left out)" in table
    assert "beats" in table


def test_loo_check_is_an_exit_code_for_a_member_that_hurts(project):
    ensemble.run()
    report = read_json(REPORTS / "ensemble.json")
    for verdict, code in (("hurts", 1), ("helps", 0), ("not distinguishable", 0)):
        report["loo"] = [{**report["loo"][0], "verdict": verdict}]
        write_json(REPORTS / "ensemble.json", report)
        assert run_cli("loo", "--check")[0] == code
        assert run_cli("loo")[0] == 0
        assert run_cli("loo", "--check", "--json")[0] == code


def test_leave_one_out_of_a_method_that_takes_long_is_another_ones(project, monkeypatch):
    set_ensemble(methods=["uniform", "blend", "class_weights"], final="class_weights")
    ensemble.run()
    assert read_json(REPORTS / "ensemble.json")["loo_method"] == "class_weights"
    monkeypatch.setattr(ensemble, "REFIT_LIMIT", 0)
    ensemble.run()
    assert read_json(REPORTS / "ensemble.json")["loo_method"] in ("uniform", "blend")
