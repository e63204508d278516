"""Students learn from test images, and their out-of-fold scores stay honest: noise with dealt labels tells.

The test images are near copies of the training images, so that whoever learnt a label can pass it on, and images that
no network was trained on, whose labels are known to these tests alone: the held-out split.
"""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from competition import png, write_folders
from ruamel.yaml import YAML

from pipeline.artefacts import FEATURES, MODELS, OOF, PSEUDO, SCRATCH, TEACHERS, read_json, write_json
from pipeline.config.base import read_params
from pipeline.config.students import parse_entry
from pipeline.errors import UserError
from pipeline.members import read_member
from pipeline.metrics import accuracy
from pipeline.rng import generator
from pipeline.stages import check, collect, folds, predict, prepare, stack, teach, train
from pipeline.stages.competition import load_competition
from pipeline.training.feed import Images
from pipeline.training.predict import predict_rows
from pipeline.training.weights import load_weights

CLASSES, TRAIN, HELD_OUT = 4, 240, 120
CHANCE = 1 / CLASSES
LEARNS = {"epochs": 30, "pseudo": {"teacher": ["twice", "plain"], "fraction": 0.5}}
PARAMS = {
    "seed": 0,
    "data": {"source": "folder", "path": "data/noise"},
    "folds": {"k": 3},
    "defaults": {
        "net": "mlp", "options": {"width": 128, "dropout": 0.0}, "canvas": 12, "epochs": 60, "batch": 40, "ema": None,
        "weights": "last", "precision": "fp32", "validate_every": 1000, "schedule": {"name": "cosine"},
        "optimiser": {"name": "adamw", "lr": 0.005, "weight_decay": 0.0},
    },
    "models": {
        "twice": {"seeds": 2}, "plain": {}, "other": {"epochs": 2},
        "cycles": {"epochs": 2, "schedule": {"name": "cosine", "cycles": 2}, "snapshots": 2},
    },
    "students": {"pupil": LEARNS, "cheat": LEARNS},
    "stackers": {"svm": {"kind": "svm", "models": ["pupil"]}},
    "ensemble": {"metric": "log_loss"},
    "submit": {},
}


def noise_competition() -> tuple[dict[str, bytes], dict[str, int]]:
    """Path to file, and id of every image to its label."""
    rng = generator(0, "noise")
    labels = rng.permutation(np.arange(TRAIN + HELD_OUT) % CLASSES)
    images = rng.integers(40, 216, (TRAIN + HELD_OUT, 12, 12))
    files, truth = {}, {}
    for i, (pixels, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        near = pixels + rng.integers(-4, 5, pixels.shape)
        if i < TRAIN:
            files[f"train/{'abcd'[label]}/seen{i}.png"] = png(pixels.astype(np.uint8))
            files[f"test/copy{i}.png"] = png(near.astype(np.uint8))
        else:
            files[f"test/held{i}.png"] = png(pixels.astype(np.uint8))
        truth |= {f"{kind}{i}": label for kind in ("seen", "copy", "held")}
    return files, truth


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Models and students trained and predicted in the working directory; the competition, and labels of test rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("noise"))
        for stage in (train, predict, stack):
            patch.setattr(stage, "run_jobs", lambda function, jobs, *, slots: [function(job) for job in jobs])
        files, truth = noise_competition()
        write_folders(Path("data/noise"), files)
        with Path("params.yaml").open("w") as handle:
            YAML(typ="safe").dump(PARAMS, handle)
        check.run()
        prepare.run()
        folds.run()
        for model in PARAMS["models"]:
            train.run(model)
            predict.run(model)
        for student in PARAMS["students"]:
            teach.run(student)
            if student == "cheat":
                leak()
            train.run(student)
            predict.run(student)
        competition = load_competition()
        yield competition, np.array([truth[name] for name in competition.roster.test_ids])


def leak() -> None:
    """Targets of every cell from the networks of all cells: what a pipeline does that forgets about folds."""
    files = sorted((PSEUDO / "cheat").glob("*.npy"))
    everybody = np.mean([np.load(path) for path in files], axis=0, dtype=np.float64).astype(np.float32)
    for path in files:
        np.save(path, everybody)


def within_noise(found: float, expected: float, *counts: int) -> bool:
    """Within four standard errors of the accuracies of guesses over rows of these counts."""
    return abs(found - expected) <= 4 * np.sqrt(sum(CHANCE * (1 - CHANCE) / n for n in counts))


def out_of_fold_and_held_out(name: str, noise) -> tuple[float, float]:
    competition, truth = noise
    member = read_member(OOF / name, competition.roster)
    held_out = np.array([name.startswith("held") for name in competition.roster.test_ids])
    assert held_out.sum() == HELD_OUT
    return accuracy(member.oof, competition.packed.labels), accuracy(member.test[held_out], truth[held_out])


def test_teachers_pass_on_the_labels_that_they_learnt(noise):
    """What makes the next tests sharp: targets of cell k know all labels but those of fold k."""
    competition, truth = noise
    row_of = {name: i for i, name in enumerate(competition.roster.train_ids)}
    rows = np.array([row_of.get(name.replace("copy", "seen"), -1) for name in competition.roster.test_ids])
    for cell in competition.cells:
        targets = np.load(PSEUDO / "pupil" / f"fold{cell.index}.npy")
        learnt, held = np.isin(rows, cell.fit_rows), np.isin(rows, cell.held_rows)
        assert (learnt.sum(), held.sum()) == (len(cell.fit_rows), len(cell.held_rows))
        assert accuracy(targets[learnt], truth[learnt]) > 0.95
        assert within_noise(accuracy(targets[held], truth[held]), CHANCE, int(held.sum()))
        assert accuracy(np.load(PSEUDO / "cheat" / f"fold{cell.index}.npy")[held], truth[held]) > 0.95


def test_out_of_fold_scores_of_a_student_are_honest(noise):
    out_of_fold, held_out = out_of_fold_and_held_out("pupil", noise)
    assert within_noise(out_of_fold, CHANCE, TRAIN)
    assert within_noise(held_out, CHANCE, HELD_OUT)
    assert within_noise(out_of_fold, held_out, TRAIN, HELD_OUT)


def test_with_leaking_teachers_they_are_not(noise):
    """The counter-example: out of fold it seems to know everything, on images that nobody has seen it knows nothing."""
    out_of_fold, held_out = out_of_fold_and_held_out("cheat", noise)
    assert out_of_fold > 0.9
    assert within_noise(held_out, CHANCE, HELD_OUT)
    assert not within_noise(out_of_fold, held_out, TRAIN, HELD_OUT)


def test_targets_are_the_mean_of_the_teachers_networks_of_the_same_cell(noise):
    """Recomputed from the weights: the mean over teachers of the mean over their replicas."""
    competition, _ = noise
    rows = np.arange(TRAIN, TRAIN + competition.packed.n_test)

    def said(stem: str) -> np.ndarray:
        net, meta = load_weights(MODELS / f"{stem}.safetensors")
        return predict_rows(net, meta, Images(competition.packed, meta.config), rows, batch=64, average="arithmetic",
                            device="cpu", precision="fp32").astype(np.float64)

    for k in range(3):
        expected = ((said(f"twice/fold{k}") + said(f"twice/fold{k}.replica1")) / 2 + said(f"plain/fold{k}")) / 2
        found = np.load(PSEUDO / "pupil" / f"fold{k}.npy")
        assert (found.dtype, found.shape) == (np.float32, (TRAIN + HELD_OUT, CLASSES))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert read_json(PSEUDO / "pupil/made.json") == {"fold_digest": competition.roster.fold_digest,
                                                     "teachers": ["plain", "twice"]}


def test_students_do_not_teach_and_other_models_change_nothing(noise):
    assert {path.name for path in TEACHERS.iterdir()} == set(PARAMS["models"])
    before = {path.name: path.read_bytes() for path in (PSEUDO / "pupil").iterdir()}
    (TEACHERS / "gone").mkdir()
    shutil.rmtree(TEACHERS / "other")
    try:
        teach.run("pupil")
    finally:
        predict.run("other")
    assert {path.name: path.read_bytes() for path in (PSEUDO / "pupil").iterdir()} == before
    assert {path.name for path in TEACHERS.iterdir()} == set(PARAMS["models"])


def test_each_job_gets_the_targets_of_its_own_cell_and_other_targets_are_other_work(noise):
    competition, _ = noise

    def jobs():
        raw = read_params(Path("params.yaml"))
        return train.fold_jobs("pupil", parse_entry("pupil", raw), raw["seed"], competition)

    before = jobs()
    assert [job.pseudo for job in before] == [PSEUDO / "pupil" / f"fold{k}.npy" for k in range(3)]
    assert all((job.scratch / "done.json").exists() for job in before)
    path = PSEUDO / "pupil/fold1.npy"
    original = path.read_bytes()
    try:
        np.save(path, np.roll(np.load(path), 1, axis=0))
        assert not {job.scratch.parent for job in jobs()} & {job.scratch.parent for job in before}
    finally:
        path.write_bytes(original)
    assert jobs()[0].scratch == before[0].scratch


def test_pruning_keeps_the_work_of_a_student_whose_targets_are_not_there(noise):
    stale = SCRATCH / "pupil/0123456789abcdef"
    kept = {path for path in SCRATCH.glob("*/*/") if path.parent.name != "logs"}
    stale.mkdir()
    (PSEUDO / "pupil").rename("aside")
    try:
        train.prune_scratch()
        assert stale.exists()
    finally:
        Path("aside").rename(PSEUDO / "pupil")
    train.prune_scratch()
    assert set(SCRATCH.glob("*/*/")) == kept


@pytest.mark.parametrize("made", [PSEUDO / "pupil/made.json", TEACHERS / "plain/made.json"])
def test_targets_on_other_folds_are_refused(noise, made):
    original = read_json(made)
    write_json(made, original | {"fold_digest": "another"})
    try:
        with pytest.raises(UserError, match=r"folds.*; fix: dvc repro"):
            (train if PSEUDO in made.parents else teach).run("pupil")
    finally:
        write_json(made, original)


def test_without_test_images_there_is_nothing_to_learn_from(noise, monkeypatch):
    monkeypatch.setattr(teach, "load_competition", lambda: SimpleNamespace(packed=SimpleNamespace(n_test=0)))
    with pytest.raises(UserError, match="pupil: there are no test images"):
        teach.run("pupil")


def test_a_student_is_a_member_like_any_other(noise):
    competition, _ = noise
    stack.run("pupil", "svm")
    for parent in (MODELS, FEATURES, TEACHERS, PSEUDO, OOF):
        (parent / "gone").mkdir()
    for model in [*PARAMS["models"], "cheat"]:
        stack.run(model, "svm")                                         # leaves a note: not selected
    collect.run()
    names = ["twice", "plain", "other", "cycles", "pupil", "pupil.svm", "cheat"]
    assert sorted(m["name"] for m in read_json(Path("reports/members.json"))["members"]) == sorted(names)
    assert not [parent for parent in (MODELS, FEATURES, TEACHERS, PSEUDO, OOF) if (parent / "gone").exists()]
    assert within_noise(accuracy(read_member(OOF / "pupil.svm", competition.roster).oof, competition.packed.labels),
                        CHANCE, TRAIN)


def test_snapshots_are_kept_beside_the_last_network(noise):
    for k in range(3):
        last, earlier = (MODELS / "cycles" / f"fold{k}{age}.safetensors" for age in ("", ".snapshot1"))
        assert last.read_bytes() != earlier.read_bytes()
        for path in (last, earlier):
            (scratch,) = SCRATCH.glob(f"cycles/*/fold{k}/{path.name.replace(f'fold{k}', 'fold')}")
            assert path.read_bytes() == scratch.read_bytes()


def test_a_network_is_averaged_with_its_snapshots_and_features_are_the_last_one_s(noise):
    """With weights of two other models as snapshots: the mean of these models' predictions."""
    competition, _ = noise
    before = {path: path.read_bytes() for path in (MODELS / "cycles").iterdir()}
    try:
        for k in range(3):
            shutil.copyfile(MODELS / f"other/fold{k}.safetensors", MODELS / f"cycles/fold{k}.safetensors")
            shutil.copyfile(MODELS / f"plain/fold{k}.safetensors", MODELS / f"cycles/fold{k}.snapshot1.safetensors")
        predict.run("cycles")
        found, last, earlier = (read_member(OOF / name, competition.roster) for name in ("cycles", "other", "plain"))
        np.testing.assert_allclose(found.oof, (last.oof + earlier.oof) / 2, atol=1e-6)
        np.testing.assert_allclose(found.test, (last.test + earlier.test) / 2, atol=1e-6)
        for k in range(3):
            said, theirs, others = (np.load(TEACHERS / name / f"fold{k}.npy") for name in ("cycles", "other", "plain"))
            np.testing.assert_allclose(said, (theirs + others) / 2, atol=1e-6)
            for rows in ("train", "test"):
                np.testing.assert_array_equal(np.load(FEATURES / f"cycles/fold{k}.{rows}.npy"),
                                              np.load(FEATURES / f"other/fold{k}.{rows}.npy"))
    finally:
        for path, data in before.items():
            path.write_bytes(data)
        predict.run("cycles")
