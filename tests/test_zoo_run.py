"""Runs of the stages with what the zoo adds: replicas, frozen backbones, several scales, hand-made features, hinges."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML
from safetensors import safe_open

from pipeline import show
from pipeline.artefacts import FEATURES, OOF, PARAMS, SCRATCH
from pipeline.closure import ROOT
from pipeline.errors import UserError
from pipeline.members import read_member
from pipeline.metrics import accuracy, all_scores, log_loss
from pipeline.stages import check, collect, ensemble, folds, predict, prepare, stack, train
from pipeline.stages.competition import Competition, load_competition
from pipeline.training import bottleneck
from pipeline.training.feed import Features
from pipeline.training.weights import load_weights, save_weights

LENET = {"net": "lenet5", "epochs": 6}
MODELS: dict[str, dict[str, Any]] = {
    "one": LENET,
    "three": {**LENET, "seeds": 3},
    "hinge": {**LENET, "loss": {"name": "crammer_singer"}, "optimiser": {"lr": 0.003}},
    "much": {"net": "deepsea", "epochs": 4, "options": {"width": 4, "dense": 16, "branches": 2, "dropout": 0.0},
             "scales": [{"fit": "fixed", "fill": 1.0}], "handmade": ["dimensions", "moments"], "erase": {},
             "sampling": "balanced", "loss": {"name": "focal", "smoothing": 0.1, "class_weights": "sqrt"},
             "tta": {"kind": "crops"}},
    "white": {"net": "mlp", "epochs": 4, "canvas": 8, "options": {"width": 32}, "whiten": "pca",
              "mix": {"mixup": 0.2, "cutmix": 1.0, "probability": 0.5}, "optimiser": {"lr": 0.02}},
}
TURNED = {"augment": {"rotation": 5}, "tta": {"kind": "affine", "views": 4}}
HEADS: dict[str, dict[str, Any]] = {
    "linear": {**LENET, "pretrained": "pretrained/lenet.safetensors", "freeze": "all", **TURNED},
    "dense": {**LENET, "pretrained": "pretrained/lenet.safetensors", "freeze": "all", **TURNED,
              "head": {"name": "dense", "width": 24, "dropout": 0.1}},
}


def write(tree: dict[str, Any], models: dict[str, dict[str, Any]]) -> None:
    with PARAMS.open("w") as handle:
        YAML(typ="safe").dump({**tree, "models": models}, handle)


@pytest.fixture(scope="module")
def tree():
    """The smoke preset with an SVM on two of the models."""
    tree = YAML(typ="safe").load((ROOT / "presets/smoke.yaml").read_text())
    tree["folds"] = {"k": 3}
    tree["stackers"]["svm"]["models"] = ["one", "three"]
    tree["defaults"] |= {"batch": 32, "precision": "fp32", "tta": {"kind": "identity"}}
    return tree


@pytest.fixture(scope="module")
def built(tmp_path_factory, tree):
    """Every model of MODELS, trained and predicted, in the working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("zoo"))
        shutil.copytree(ROOT / "data/digits", "data/digits")
        Path("pretrained").mkdir()
        write(tree, MODELS)
        check.run()
        prepare.run()
        folds.run()
        for name in MODELS:
            train.run(name)
            predict.run(name)
        yield load_competition()


def oof(name: str, built: Competition) -> np.ndarray:
    return read_member(OOF / name, built.roster).oof


def test_a_member_of_seeds_is_the_mean_of_its_replicas(built):
    labels = built.packed.labels
    replicas = json.loads((OOF / "three/replicas.json").read_text())
    assert len(replicas) == 3
    assert len({r["log_loss"] for r in replicas}) == 3
    assert log_loss(oof("three", built), labels) < np.mean([r["log_loss"] for r in replicas])
    assert replicas[0]["log_loss"] == pytest.approx(all_scores(oof("one", built), labels)["log_loss"], abs=0.05)
    assert not (OOF / "one/replicas.json").exists()
    names = [entry["stem"] for entry in json.loads((FEATURES / "three/networks.json").read_text())]
    assert names == ["fold0", "fold1", "fold2", "fold0.replica1", "fold1.replica1", "fold2.replica1",
                     "fold0.replica2", "fold1.replica2", "fold2.replica2"]


def test_more_seeds_train_only_the_new_replicas(built, tree):
    def done() -> dict[str, int]:
        return {path.parent.name: path.stat().st_mtime_ns for path in (SCRATCH / "three").glob("*/*/done.json")}

    before = done()
    try:
        write(tree, MODELS | {"three": {**LENET, "seeds": 4}})
        train.run("three")
        after = done()
    finally:
        write(tree, MODELS)
        train.run("three")
    assert set(after) - set(before) == {"fold0.replica3", "fold1.replica3", "fold2.replica3"}
    assert {name: after[name] for name in before} == before


def test_a_stacker_on_seeds_takes_every_replica(built):
    stack.run("three", "svm")
    stack.run("one", "svm")
    labels = built.packed.labels
    assert log_loss(oof("three.svm", built), labels) < log_loss(oof("one.svm", built), labels)


def test_hinge_scores_become_probabilities_that_beat_guessing(built):
    """A margin of one says little about probability; the temperature is fitted on the other folds."""
    labels, member = built.packed.labels, oof("hinge", built)
    score = log_loss(member, labels)
    assert accuracy(member, labels) > 0.8
    refitted = min(log_loss(member ** (1 / t) / (member ** (1 / t)).sum(axis=1, keepdims=True), labels)
                   for t in np.geomspace(0.5, 2, 41))
    assert score < refitted + 0.01
    assert score < 1.0


@pytest.mark.parametrize("name", ["much", "white"])
def test_the_other_keys_train_together(built, name):
    assert accuracy(oof(name, built), built.packed.labels) > 0.5


def test_fused_features_and_whitening_are_in_the_weights(built):
    with safe_open("models/much/fold0.safetensors", framework="np") as handle:
        assert handle.get_tensor("side.1.weight").shape == (64, 21)
    with safe_open("models/white/fold0.safetensors", framework="np") as handle:
        matrix = handle.get_tensor("whiten.matrix")
    assert matrix.shape == (64, 64)
    assert np.abs(matrix - np.eye(64)).max() > 0.1


def test_the_leaderboard_shows_the_spread_of_seeds(built, capsys):
    collect.run()
    ensemble.run()
    capsys.readouterr()
    show.leaderboard(as_json=False, as_csv=False)
    shown = capsys.readouterr().out
    replicas = [r["log_loss"] for r in json.loads((OOF / "three/replicas.json").read_text())]
    assert f"3: {np.mean(replicas):.4f} ± {np.std(replicas, ddof=1):.4f}" in shown


def test_heads_on_a_frozen_backbone_run_it_once(built, tree, monkeypatch):
    """The backbone was trained on these digits, so scores say nothing here; the counts do."""
    net, meta = load_weights(Path("models/one/fold0.safetensors"))
    save_weights(Path("pretrained/lenet.safetensors"), net, replace(meta, data_digest="another store"))
    write(tree, MODELS | HEADS)
    check.run()
    calls: list[int] = []
    compute = bottleneck.cached_rows

    def counted(function, what, target, **options):
        calls.append(not target.exists())
        return compute(function, what, target, **options)

    monkeypatch.setattr(bottleneck, "cached_rows", counted)
    train.run("linear")
    assert calls == [True]
    predict.run("linear")
    assert calls == [True, False, False, True, True, True]     # plain, then four views, of which one is plain
    calls.clear()
    train.run("dense")
    predict.run("dense")
    assert calls
    assert not any(calls)
    assert np.load(FEATURES / "linear/fold0.train.npy").shape == (1437, 84)
    assert np.load(FEATURES / "dense/fold0.train.npy").shape == (1437, 24)
    assert accuracy(oof("dense", built), built.packed.labels) > 0.85
    train.prune_scratch()
    assert len(list((SCRATCH / "frozen.features").glob("*/*.npy"))) == 4
    write(tree, MODELS)
    train.prune_scratch()
    assert not list((SCRATCH / "frozen.features").glob("*/*.npy"))
    assert len(list((SCRATCH / "handmade.features").glob("*/features.npy"))) == 1


def test_layers_frozen_in_part_keep_their_weights(built, tree):
    net, meta = load_weights(Path("models/one/fold0.safetensors"))
    save_weights(Path("pretrained/part.safetensors"), net, replace(meta, data_digest="another store"))
    part = {**LENET, "epochs": 1, "pretrained": "pretrained/part.safetensors", "freeze": "until:0"}
    write(tree, MODELS | {"part": part})
    try:
        check.run()
        train.run("part")
    finally:
        write(tree, MODELS)
    for fold in range(3):
        tuned = load_weights(Path(f"models/part/fold{fold}.safetensors"))[0].state_dict()
        same = {name for name, tensor in net.state_dict().items() if torch.equal(tensor, tuned[name])}
        assert same == {"trunk.0.weight", "trunk.0.bias"}


def test_a_backbone_that_learnt_these_labels_is_refused(built, tree):
    """Its features would know the rows that they are scored on."""
    shutil.copyfile("models/one/fold0.safetensors", "pretrained/own.safetensors")
    write(tree, MODELS | {"leak": {**LENET, "pretrained": "pretrained/own.safetensors"}})
    try:
        check.run()
        with pytest.raises(UserError, match=r"pretrained/own\.safetensors: it was trained on the labels of these very "
                                            r"images, .* fix: weights that were trained on other images"):
            train.run("leak")
    finally:
        write(tree, MODELS)
    assert not Path("models/leak").exists()


def test_a_head_is_standardised_by_its_training_rows_alone():
    """The features' statistics are part of the head, and a feed of features never shows another row."""
    features = np.arange(12, dtype=np.float16).reshape(6, 2)
    feed = Features(features, (features,))
    seen = np.concatenate([batch for batch, in feed.drawn(np.array([4, 1, 0]), np.random.default_rng(0), batch=2,
                                                          buffers=1)])
    np.testing.assert_array_equal(seen, features[[4, 1, 0]])


def test_the_curves_name_the_replica(built):
    curves = pd.read_csv("models/three/curves.csv")
    assert curves.groupby(["fold", "replica"]).size().tolist() == [6] * 9


@pytest.mark.parametrize(("section", "said"), [
    ({"colour": {}}, "models.bad: colour: the images are grey (data.channels); fix: colour: null"),
    ({"whiten": "pca"}, "models.bad: whiten: pca leaves no image for the convolutions of 'lenet5'; fix: whiten: zca"),
    ({"whiten": "zca", "canvas": 96}, "fix: canvas: 64 or less"),
    ({"pretrained": True}, "models.bad: pretrained: true: net 'lenet5' has no published weights"),
    ({"pretrained": "pretrained/none.pt"}, "there is no file 'pretrained/none.pt'"),
    ({"freeze": "all"}, "freeze needs pretrained"),
    ({"freeze": "trunk", "pretrained": True}, "'trunk' is neither all nor until:<layer> nor null"),
    ({"head": {"name": "dense"}}, "head: only for freeze: all"),
    ({"mix": {}}, "neither mixup nor cutmix has an alpha"),
    ({"loss": {"name": "hinge"}}, "models.bad.loss.name: unknown value 'hinge'; allowed: 'cross_entropy', 'focal', "
                                  "'crammer_singer', 'weston_watkins'"),
    ({"handmade": ["haralik"]}, "did you mean 'haralick'?"),
    ({"mix": {"mixup": 0.2}, "handmade": ["moments"]}, "handmade"),
])
def test_mistakes_are_found_before_anything_is_trained(built, tree, section, said):
    write(tree, MODELS | {"bad": {**LENET, **section}})
    try:
        with pytest.raises(UserError) as caught:
            check.run()
    finally:
        write(tree, MODELS)
    assert said in str(caught.value)
