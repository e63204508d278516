"""Stages `predict@<model>` and `predict_student@`: weights -> a member's probabilities, and penultimate features.

Networks are averaged arithmetically: each with its snapshots, a row's out-of-fold prediction over the replicas
(`seeds`) and repeats that never saw it, a test row's over all networks. What the networks of each cell alone say of the
test rows is kept for students to learn from (stage `teach`). Features are those of the last snapshot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artefacts import (
    FEATURES,
    MODELS,
    OOF,
    PACKED,
    PARAMS,
    TEACHERS,
    atomic_directory,
    network_name,
    write_json,
)
from pipeline.augment.views import view_matrices
from pipeline.cells import Cell
from pipeline.config.base import read_params
from pipeline.config.model import ModelConfig
from pipeline.config.students import parse_entry
from pipeline.data.store import Packed, open_packed
from pipeline.errors import UserError
from pipeline.members import Member, write_member
from pipeline.metrics import all_scores
from pipeline.nets.net import Net
from pipeline.stackers.calibrate import LOG_PROBABILITIES, calibrated
from pipeline.stages.competition import Competition, load_competition
from pipeline.training.bottleneck import frozen_features
from pipeline.training.executors import device_for, devices, run_jobs, slots
from pipeline.training.feed import IDENTITY, Features, Feed, Images
from pipeline.training.precision import resolve_precision
from pipeline.training.predict import embed_rows, predict_and_embed, predict_rows
from pipeline.training.resident import placed
from pipeline.training.side import side_file
from pipeline.training.weights import WeightsMeta, load_weights

BATCH = 256
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class PredictJob:
    """One network and its snapshots, the rows that they never saw, and where the features go."""

    weights: Sequence[Path]         # of the network, then of its earlier snapshots
    fold_digest: str
    classes: list[str]
    config: ModelConfig
    matrices: np.ndarray            # (V, 3, 3) views
    cell: Cell
    features: Path                  # stem of the files to write
    device: str
    side: Path | None               # hand-made features of all rows
    frozen: Sequence[Path]          # features of the frozen network: of the plain image, then of each view


def run(name: str) -> None:
    """Predicts every held row with the networks of its fold, the test rows with all networks; raises UserError."""
    raw = read_params(PARAMS)
    config = parse_entry(name, raw)
    competition = load_competition()
    pairs = [(cell, replica) for replica in range(config.seeds) for cell in competition.cells]
    with atomic_directory(FEATURES / name) as features:
        jobs = _jobs(name, config, competition, pairs, features)
        predicted = run_jobs(_predict, jobs, slots=slots())
        write_json(features / "networks.json", [
            {"cell": cell.index, "replica": replica, "stem": network_name(cell.index, replica)}
            for cell, replica in pairs])
    if config.pseudo is None:                                   # students do not teach
        _write_teachers(name, predicted, pairs, competition)
    by_replica = [_oof([p for p, (_, r) in zip(predicted, pairs, strict=True) if r == replica], competition)
                  for replica in range(config.seeds)]
    labels = competition.packed.labels
    if config.calibrated:
        oof, test = _calibrated(predicted, pairs, competition)
    else:
        oof = np.mean(by_replica, axis=0)                                                                 # (N, C)
        test = np.mean([unseen for _, unseen in predicted], axis=0)                                       # (T, C)
    write_member(OOF / name, Member(name, oof, test), competition.roster)
    if config.seeds > 1:
        write_json(OOF / name / "replicas.json", [all_scores(replica, labels) for replica in by_replica])
    print(f"{OOF / name}: {len(oof)} out-of-fold and {len(test)} test rows")


def _jobs(
    name: str, config: ModelConfig, competition: Competition, pairs: list[tuple[Cell, int]], features: Path
) -> list[PredictJob]:
    matrices = view_matrices(config.tta, augment=config.augment, canvas=config.canvas)                 # (V, 3, 3)
    frozen: Sequence[Path] = ()
    if config.frozen:
        frozen = frozen_features(config, PACKED, views=np.concatenate([IDENTITY, matrices]), devices=devices(),
                                 precision=resolve_precision(config.precision, device_for(0)), slots=slots())
    side = side_file(config.handmade, PACKED, slots=slots())
    return [
        PredictJob(
            weights=[MODELS / name / f"{network_name(cell.index, replica, snapshot)}.safetensors"
                     for snapshot in range(config.snapshots)],
            fold_digest=competition.roster.fold_digest, classes=competition.packed.classes, config=config,
            matrices=matrices, cell=cell, features=features / network_name(cell.index, replica),
            device=device_for(cell.index), side=side, frozen=frozen,
        )
        for cell, replica in pairs
    ]


def _write_teachers(
    name: str, predicted: list[tuple[np.ndarray, np.ndarray]], pairs: list[tuple[Cell, int]], competition: Competition
) -> None:
    """Writes teachers/<model>/fold<cell>.npy `(T, C)` float32: the mean over the cell's replicas, not calibrated."""
    with atomic_directory(TEACHERS / name) as directory:
        for cell in competition.cells:
            unseen = [test for (_, test), (c, _) in zip(predicted, pairs, strict=True) if c.index == cell.index]
            np.save(directory / f"{network_name(cell.index, 0)}.npy",
                    np.mean(unseen, axis=0, dtype=np.float64).astype(np.float32))                         # (T, C)
        write_json(directory / "made.json", {"fold_digest": competition.roster.fold_digest})


def _oof(predicted: list[tuple[np.ndarray, np.ndarray]], competition: Competition) -> np.ndarray:
    """Out-of-fold probabilities (N, C) of one replica, the mean over repeats."""
    oof = np.zeros((competition.packed.n_train, len(competition.packed.classes)))
    for cell, (held, _) in zip(competition.cells, predicted, strict=True):
        oof[cell.held_rows] += held / len(competition.folds)
    return oof


def _calibrated(
    predicted: list[tuple[np.ndarray, np.ndarray]], pairs: list[tuple[Cell, int]], competition: Competition
) -> tuple[np.ndarray, np.ndarray]:
    """Out-of-fold (N, C) and test (T, C) probabilities at a temperature that is fitted without the rows' own fold."""
    scores = []
    for cell in competition.cells:
        mine = [p for p, (c, _) in zip(predicted, pairs, strict=True) if c.index == cell.index]
        held, unseen = (np.log(np.maximum(np.mean([part[i] for part in mine], axis=0, dtype=np.float64), SMALLEST))
                        for i in (0, 1))
        scores.append((held, unseen))
    return calibrated(scores, competition.cells, competition.packed.labels, competition.folds, link=LOG_PROBABILITIES)


def _predict(job: PredictJob) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the cell's held rows (H, C) and the test rows (T, C); writes the features of all rows."""
    (net, meta), *snapshots = [_loaded(path, job) for path in job.weights]
    packed = open_packed(PACKED)
    feed = _feed(job, packed)
    test_rows = np.arange(packed.n_train, packed.n_train + packed.n_test)
    common: dict[str, Any] = {"batch": BATCH, "device": job.device, "precision": meta.precision}
    unseen = np.concatenate([job.cell.held_rows, test_rows])                                          # held, then test
    probabilities, features = predict_and_embed(net, meta, feed, unseen, average=job.config.tta.average, **common)
    earlier = [predict_rows(snapshot, its, feed, unseen, average=job.config.tta.average, **common)
               for snapshot, its in snapshots]
    probabilities = np.mean([probabilities, *earlier], axis=0)                                        # (H + T, C)
    held = len(job.cell.held_rows)
    train = np.empty((packed.n_train, net.feature_width), np.float16)                                 # (N, D)
    train[job.cell.fit_rows] = embed_rows(net, meta, feed, job.cell.fit_rows, **common)
    train[job.cell.held_rows] = features[:held]
    np.save(f"{job.features}.train.npy", train)
    np.save(f"{job.features}.test.npy", features[held:].astype(np.float16))
    return probabilities[:held], probabilities[held:]


def _loaded(path: Path, job: PredictJob) -> tuple[Net, WeightsMeta]:
    net, meta = load_weights(path)
    if meta.fold_digest != job.fold_digest or list(meta.classes) != job.classes:
        raise UserError(f"{path}: trained on other folds or classes; fix: dvc repro")
    return net, meta


def _feed(job: PredictJob, packed: Packed) -> Feed:
    if job.frozen:
        opened = {path: np.load(path, mmap_mode="r") for path in job.frozen}    # the first view may be the plain image
        plain, *views = (opened[path] for path in job.frozen)
        return Features(plain, views)
    side = None if job.side is None else np.load(job.side, mmap_mode="r")
    return placed(Images(packed, job.config, job.matrices, side), job.device)
