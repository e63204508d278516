"""Repeated folds: every repeat has its own networks, and a row's prediction is the mean over the repeats."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.artefacts import FEATURES, OOF
from pipeline.closure import ROOT
from pipeline.members import read_member
from pipeline.stages import check, collect, ensemble, folds, predict, prepare, stack, submit, train
from pipeline.stages.competition import load_competition


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """Logistic regression and its SVM over two repeats of two folds, from images to submissions."""
    root = tmp_path_factory.mktemp("repeated")
    tree = YAML(typ="safe").load((ROOT / "presets/smoke.yaml").read_text())
    tree["folds"] = {"k": 2, "repeats": 2}
    tree["models"] = {"logistic": tree["models"]["logistic"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        shutil.copytree(ROOT / "data/digits", root / "data/digits")
        with Path("params.yaml").open("w") as handle:
            YAML(typ="safe").dump(tree, handle)
        check.run()
        prepare.run()
        folds.run()
        train.run("logistic")
        predict.run("logistic")
        stack.run("logistic", "svm")
        collect.run()
        ensemble.run()
        submit.run()
        yield load_competition()


def test_four_cells_in_two_partitions(repeated):
    assert repeated.folds.shape == (2, 1437)
    assert (repeated.folds[0] != repeated.folds[1]).any()
    assert [(c.index, c.repeat, c.fold) for c in repeated.cells] == [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
    names = sorted(p.name for p in Path("models/logistic").iterdir())
    assert names == ["curves.csv", *[f"fold{k}.safetensors" for k in range(4)]]


def test_out_of_fold_rows_are_the_mean_of_the_repeats(repeated):
    """Recomputed from the weights of the two networks that never saw the row."""
    from pipeline.training.feed import Images
    from pipeline.training.predict import predict_rows
    from pipeline.training.weights import load_weights

    member = read_member(OOF / "logistic", repeated.roster)
    for row in (0, 700, 1436):
        mean = np.zeros(10)
        for cell in repeated.cells:
            if row in cell.held_rows:
                net, meta = load_weights(Path(f"models/logistic/fold{cell.index}.safetensors"))
                mean += predict_rows(net, meta, Images(repeated.packed, meta.config), np.array([row]), batch=1,
                                     average="arithmetic", device="cpu", precision="fp32")[0] / 2
        np.testing.assert_allclose(member.oof[row], mean, atol=1e-5)


def test_every_cell_has_features_of_all_rows(repeated):
    for cell in repeated.cells:
        assert np.load(FEATURES / "logistic" / f"fold{cell.index}.train.npy").shape == (1437, 144)
        assert np.load(FEATURES / "logistic" / f"fold{cell.index}.test.npy").shape == (360, 144)


def test_the_whole_way(repeated):
    read_member(OOF / "logistic.svm", repeated.roster)
    assert Path("submissions/final.csv").exists()
