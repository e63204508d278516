"""Stage `predict@<model>`: weights -> the member's out-of-fold and test probabilities, and penultimate features."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artefacts import FEATURES, MODELS, OOF, PACKED, PARAMS, atomic_directory
from pipeline.augment.views import view_matrices
from pipeline.cells import Cell
from pipeline.config.base import read_params
from pipeline.config.model import ModelConfig, parse_model
from pipeline.data.store import open_packed
from pipeline.errors import UserError
from pipeline.members import Member, write_member
from pipeline.stages.competition import load_competition
from pipeline.training.executors import device_for, run_jobs, slots
from pipeline.training.predict import embed_rows, predict_and_embed
from pipeline.training.weights import load_weights

BATCH = 256


@dataclass(frozen=True)
class PredictJob:
    """One network, the rows that it never saw, and where its features go."""

    weights: Path
    fold_digest: str
    classes: list[str]
    config: ModelConfig
    cell: Cell
    features: Path
    device: str


def run(name: str) -> None:
    """Predicts every held row with the network of its fold, the test rows with all networks; raises UserError."""
    raw = read_params(PARAMS)
    config = parse_model(name, raw["models"] or {}, raw["defaults"])
    competition = load_competition()
    n_classes, n_test = len(competition.packed.classes), competition.packed.n_test
    oof = np.zeros((competition.packed.n_train, n_classes), dtype=np.float64)
    test = np.zeros((n_test, n_classes), dtype=np.float64)
    with atomic_directory(FEATURES / name) as features:
        jobs = [
            PredictJob(MODELS / name / f"fold{cell.index}.safetensors", competition.roster.fold_digest,
                       competition.packed.classes, config, cell, features, device_for(cell.index))
            for cell in competition.cells
        ]
        for cell, (held, unseen) in zip(competition.cells, run_jobs(_predict, jobs, slots=slots()), strict=True):
            oof[cell.held_rows] += held / len(competition.folds)
            test += unseen / len(competition.cells)
    write_member(OOF / name, Member(name, oof, test), competition.roster)
    print(f"{OOF / name}: {len(oof)} out-of-fold and {n_test} test rows")


def _predict(job: PredictJob) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the cell's held rows (H, C) and the test rows (T, C); writes the features of all rows."""
    net, meta = load_weights(job.weights)
    if meta.fold_digest != job.fold_digest or list(meta.classes) != job.classes:
        raise UserError(f"{job.weights}: trained on other folds or classes; fix: dvc repro")
    packed = open_packed(PACKED)
    matrices = view_matrices(job.config.tta, augment=job.config.augment, canvas=job.config.canvas)     # (V, 3, 3)
    test_rows = np.arange(packed.n_train, packed.n_train + packed.n_test)
    common: dict[str, Any] = {"batch": BATCH, "device": job.device, "precision": meta.precision}
    unseen = np.concatenate([job.cell.held_rows, test_rows])                                          # held, then test
    probabilities, features = predict_and_embed(                                            # the identity view
        net, meta, packed, unseen, matrices=matrices, average=job.config.tta.average, **common)
    held = len(job.cell.held_rows)
    train = np.empty((packed.n_train, net.feature_width), np.float16)                                 # (N, D)
    train[job.cell.fit_rows] = embed_rows(net, meta, packed, job.cell.fit_rows, **common)
    train[job.cell.held_rows] = features[:held]
    np.save(job.features / f"fold{job.cell.index}.train.npy", train)
    np.save(job.features / f"fold{job.cell.index}.test.npy", features[held:].astype(np.float16))
    return probabilities[:held], probabilities[held:]
