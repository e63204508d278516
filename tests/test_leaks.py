"""No row sees its own label, on any level: a run on shuffled labels, and a stacker that memorises."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.artefacts import FEATURES, OOF, PACKED
from pipeline.closure import ROOT
from pipeline.config.stacker import SvmConfig
from pipeline.data.store import Row, open_packed, write_packed
from pipeline.ensemble.choose import no_better_than_prior
from pipeline.ensemble.contract import Predictions, Settings, View
from pipeline.ensemble.methods import METHODS
from pipeline.ensemble.nested import in_sample, nested_best_single, nested_predictions
from pipeline.errors import UserError
from pipeline.members import read_member
from pipeline.metrics import METRICS, accuracy, log_loss
from pipeline.rng import generator
from pipeline.stackers.second_level import SECOND_LEVEL
from pipeline.stages import check, collect, ensemble, folds, predict, prepare, stack, train
from pipeline.stages.competition import load_competition
from pipeline.stages.stack import StackJob

MEMBERS = ("logistic", "logistic.svm", "lenet", "lenet.svm")
CHANCE = 0.1
NOISE = 4 * np.sqrt(CHANCE * (1 - CHANCE) / 1437)      # four standard errors of an accuracy over the digits


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory):
    """The smoke run up to `collect` on digits whose labels were dealt anew, in the working directory."""
    root = tmp_path_factory.mktemp("shuffled")
    shutil.copyfile(ROOT / "presets/smoke.yaml", root / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        Path("data/digits").mkdir(parents=True)
        check.run()
        prepare.run()
        shuffle_labels()
        folds.run()
        for model in ("logistic", "lenet"):
            train.run(model)
            predict.run(model)
            stack.run(model, "svm")
        collect.run()
        yield load_competition()


def shuffle_labels() -> None:
    packed = open_packed(PACKED)
    rows = [Row(**record) for record in packed.table.to_dict("records")]
    dealt = generator(0, "shuffle").permutation([row.label for row in rows[: packed.n_train]])
    rows[: packed.n_train] = [replace(row, label=str(new)) for row, new in zip(rows, dealt, strict=False)]
    write_packed(PACKED, rows, classes=packed.classes, channels=packed.channels, facts={})


def view_of(shuffled, *more: np.ndarray) -> View:
    """The members' out-of-fold predictions, and those of `more`, with their labels."""
    members = [read_member(OOF / name, shuffled.roster).oof for name in MEMBERS]
    return Predictions(np.stack([*members, *more]), shuffled.packed.labels).all()


def test_every_member_is_at_chance(shuffled):
    for name in MEMBERS:
        member, labels = read_member(OOF / name, shuffled.roster), shuffled.packed.labels
        assert accuracy(member.oof, labels) == pytest.approx(CHANCE, abs=NOISE), name
        assert log_loss(member.oof, labels) > np.log(10) - 0.01, name


def test_every_blend_is_at_chance(shuffled):
    view, assignment = view_of(shuffled), shuffled.folds[0]
    for name, method in {**METHODS, **SECOND_LEVEL}.items():
        nested = nested_predictions(method, view, folds=assignment, settings=Settings())
        assert accuracy(nested, view.labels) == pytest.approx(CHANCE, abs=NOISE), name
        assert log_loss(nested, view.labels) > np.log(10) - 0.01, name
    best = nested_best_single(view, folds=assignment, settings=Settings(METRICS["accuracy"]))
    assert accuracy(best, view.labels) == pytest.approx(CHANCE, abs=NOISE)


def test_the_ensemble_stage_refuses_members_that_know_nothing(shuffled):
    assert all(no_better_than_prior(view_of(shuffled), folds=shuffled.folds[0]))
    with pytest.raises(UserError, match="no member's log loss is clearly better than the class prior's"):
        ensemble.run()


def test_the_alarm_rings_for_a_member_that_leaks(shuffled):
    """The counter-example: one member that has seen its labels is found, in its own score and in every blend's."""
    labels = shuffled.packed.labels
    leak = np.full((len(labels), 10), 0.05, dtype=np.float32)
    leak[np.arange(len(labels)), labels] = 0.55
    view = view_of(shuffled, leak)
    _, blended = in_sample(METHODS["blend"], view, settings=Settings())
    nested = nested_predictions(METHODS["blend"], view, folds=shuffled.folds[0], settings=Settings())
    for predictions in (leak, blended, nested):
        assert accuracy(predictions, labels) > CHANCE + NOISE


def memoriser(features, labels, *, n_classes, config, seed):
    """A stacker that knows every row it was fitted on by heart and nothing else."""
    seen = {row.tobytes(): label for row, label in zip(features, labels, strict=True)}

    def scores(rows):
        answers = np.zeros((len(rows), n_classes))
        for i, row in enumerate(rows):
            if row.tobytes() in seen:
                answers[i, seen[row.tobytes()]] = 50.0
        return answers

    return scores


def test_a_memorising_stacker_learns_nothing_about_its_own_rows(shuffled, monkeypatch):
    """Only a row that was fitted on could be recalled; out of fold, every score must be the blank answer."""
    jobs: list[StackJob] = []

    def here(function, given, *, slots):
        jobs.extend(given)
        return [function(job) for job in given]

    monkeypatch.setattr(stack, "run_jobs", here)
    monkeypatch.setattr(stack, "load", lambda kind: memoriser)
    written = {}
    monkeypatch.setattr(stack, "write_member", lambda path, member, roster: written.update(member=member))
    stack.run("logistic", "svm")       # on pixels, where no two rows are equal
    labels = shuffled.packed.labels
    features = [np.load(FEATURES / "logistic" / f"fold{job.cell.index}.train.npy") for job in jobs]
    for job, feature in zip(jobs, features, strict=True):
        np.testing.assert_array_equal(job.fit_labels, labels[job.cell.fit_rows])
        assert not set(job.cell.fit_rows) & set(job.cell.held_rows)
        recalled = memoriser(feature[job.cell.fit_rows], job.fit_labels, n_classes=10, config=None, seed=0)
        assert accuracy(recalled(feature[job.cell.fit_rows]), job.fit_labels) > 0.99      # the spy works
    for fold in range(3):       # one blank answer for all, up to the class shares of the other folds
        rows = written["member"].oof[shuffled.folds[0] == fold]
        assert np.ptp(rows, axis=0).max() < 1e-9
        np.testing.assert_allclose(rows[0], 0.1, atol=0.01)


def test_labels_of_a_fold_do_not_reach_its_scores(shuffled):
    """Raw scores of fold 0 stay the same to the byte when the labels of fold 0 change."""
    cell, labels = shuffled.cells[0], shuffled.packed.labels
    changed = labels.copy()
    changed[cell.held_rows] = (changed[cell.held_rows] + 1) % 10
    svm = SvmConfig(kind="svm")
    features = FEATURES / "lenet" / f"fold{cell.index}"
    jobs = [StackJob(features, None, svm, cell, given[cell.fit_rows], 10, 0) for given in (labels, changed)]
    (held, test), (held_again, test_again) = map(stack._fit, jobs)
    assert held.tobytes() == held_again.tobytes()
    assert test.tobytes() == test_again.tobytes()
