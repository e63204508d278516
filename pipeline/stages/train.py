"""Stages `train@<model>`, `train_student@<student>`: images, folds -> models/<model>: all networks and curves.

Folds are trained in the scratch store, in a directory named after a fingerprint of everything that determines the
result, and copied to the stage's output when all are whole. So a killed run goes on where it stopped, and a change
that does not touch training (the views of test-time augmentation, say) trains nothing.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline.artefacts import (
    MODELS,
    PACKED,
    PARAMS,
    PSEUDO,
    SCRATCH,
    atomic_directory,
    digest,
    file_digest,
    network_name,
    read_json,
)
from pipeline.closure import closure_digest
from pipeline.config.base import read_params
from pipeline.config.model import LATER, ModelConfig
from pipeline.config.students import entries, parse_entry
from pipeline.errors import UserError
from pipeline.nets.registry import module_of, target_of
from pipeline.stages.competition import Competition, load_competition
from pipeline.training.bottleneck import frozen_directory, frozen_features
from pipeline.training.executors import device_for, devices, run_jobs, slots
from pipeline.training.feed import IDENTITY
from pipeline.training.fold import FoldJob, train_fold
from pipeline.training.precision import resolve_precision
from pipeline.training.progress import watch
from pipeline.training.provenance import pretrained_digest
from pipeline.training.side import side_directory, side_file
from pipeline.training.transfer import require_other_data
from pipeline.training.weights import library_versions


def run(name: str) -> None:
    """Trains every fold of one model that is not trained yet; raises UserError."""
    raw = read_params(PARAMS)
    config = parse_entry(name, raw)
    competition = load_competition()
    require_other_data(config, data_digest=competition.packed.digest)
    jobs = fold_jobs(name, config, raw["seed"], competition)
    if any(not (job.scratch / "done.json").exists() for job in jobs):
        jobs = with_features(jobs, config)
    with watch(jobs, name):
        run_jobs(train_fold, jobs, slots=slots())
    with atomic_directory(MODELS / name) as directory:
        for job in jobs:
            for snapshot in range(config.snapshots):
                source = "fold" + (f".snapshot{snapshot}" if snapshot else "")
                shutil.copyfile(job.scratch / f"{source}.safetensors",
                                directory / f"{network_name(job.cell, job.replica, snapshot)}.safetensors")
        curves = pd.concat([pd.read_csv(job.scratch / "curves.csv") for job in jobs])
        curves.to_csv(directory / "curves.csv", index=False)
    print(f"{MODELS / name}: {len(jobs) * config.snapshots} networks")


def prune_scratch() -> None:
    """Deletes every scratch directory whose fingerprint no model or student in params.yaml has now.

    A student whose targets are not made yet has no fingerprint, and keeps all that it has.
    """
    raw = read_params(PARAMS)
    competition = load_competition()
    current = {side_directory(tuple(stacker.get("handmade") or ()), competition.packed)
               for stacker in (raw["stackers"] or {}).values()}
    for name in entries(raw):
        config = parse_entry(name, raw)
        if config.pseudo and not (PSEUDO / name).exists():
            current |= set((SCRATCH / name).glob("*"))
            continue
        job = fold_jobs(name, config, raw["seed"], competition)[0]
        current |= {job.scratch.parent, side_directory(config.handmade, competition.packed)}
        current |= {frozen_directory(config, competition.packed, device=job.device, precision=job.precision)}
    for path in sorted(SCRATCH.glob("*/*/")):
        if path.parent.name != "logs" and path not in current:
            shutil.rmtree(path)
            print(f"{path}: deleted")


def fold_jobs(name: str, config: ModelConfig, seed: int, competition: Competition) -> list[FoldJob]:
    """One job per network of the model: the first replica of every cell, in the order of the cells, then the next."""
    device = device_for(0)
    precision = resolve_precision(config.precision, device)
    targets = _targets(name, competition) if config.pseudo else []
    scratch = SCRATCH / name / fingerprint(config, seed, competition, device.split(":")[0], precision, targets)
    return [
        FoldJob(
            model=name, config=config, seed=seed, packed=PACKED, classes=competition.packed.classes,
            cell=cell.index, fit_rows=cell.fit_rows, held_rows=cell.held_rows,
            fold_digest=competition.roster.fold_digest, scratch=scratch / network_name(cell.index, replica),
            device=device_for(cell.index), precision=precision, replica=replica,
            pseudo=targets[cell.index] if targets else None,
        )
        for replica in range(config.seeds) for cell in competition.cells
    ]


def with_features(jobs: list[FoldJob], config: ModelConfig) -> list[FoldJob]:
    """The jobs with the files of what is computed once for all of them."""
    if config.frozen:
        features = frozen_features(config, PACKED, views=IDENTITY, devices=devices(), precision=jobs[0].precision,
                                   slots=slots())[0]
        return [replace(job, features=features) for job in jobs]
    side = side_file(config.handmade, PACKED, slots=slots())
    return [replace(job, side=side) for job in jobs]


def _targets(student: str, competition: Competition) -> list[Path]:
    """Files of what the test images are to be predicted as, one for each cell; raises UserError."""
    made = PSEUDO / student / "made.json"
    if not made.exists() or read_json(made)["fold_digest"] != competition.roster.fold_digest:
        raise UserError(f"{PSEUDO / student}: no targets on these folds; fix: dvc repro, or pipeline teach {student}")
    return [PSEUDO / student / f"{network_name(cell.index, 0)}.npy" for cell in competition.cells]


def fingerprint(
    config: ModelConfig, seed: int, competition: Competition, device: str, precision: str, targets: Sequence[Path] = ()
) -> str:
    """Digest of everything that determines the weights: section, seed, data, folds, code, libraries, device.

    A student's `targets` are part of it.
    """
    section = config.model_dump_json(exclude=LATER)
    code = closure_digest("pipeline.training.fold", module_of(config.net))
    versions = [f"{library} {version}" for library, version in library_versions(config.net).items()]
    return digest(section, target_of(config.net), pretrained_digest(config), str(seed), competition.packed.digest,
                  competition.roster.fold_digest, code, *versions, device, precision, *map(file_digest, targets))
