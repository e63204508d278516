"""Stage `train@<model>`: packed images and folds -> models/<model>, the networks of every fold and their curves.

Folds are trained in the scratch store, in a directory named after a fingerprint of everything that determines the
result, and copied to the stage's output when all are whole. So a killed run goes on where it stopped, and a change
that does not touch training (the views of test-time augmentation, say) trains nothing.
"""

import shutil

import pandas as pd

from pipeline.artefacts import MODELS, PACKED, PARAMS, SCRATCH, atomic_directory, digest
from pipeline.closure import closure_digest
from pipeline.config.base import read_params
from pipeline.config.model import ModelConfig, parse_model
from pipeline.nets.registry import module_of
from pipeline.stages.competition import Competition, load_competition
from pipeline.training.executors import device_for, run_jobs, slots
from pipeline.training.fold import FoldJob, train_fold
from pipeline.training.precision import resolve_precision
from pipeline.training.progress import watch
from pipeline.training.weights import library_versions


def run(name: str) -> None:
    """Trains every fold of one model that is not trained yet; raises UserError."""
    raw = read_params(PARAMS)
    config = parse_model(name, raw["models"] or {}, raw["defaults"])
    competition = load_competition()
    jobs = fold_jobs(name, config, raw["seed"], competition)
    with watch(jobs, name):
        run_jobs(train_fold, jobs, slots=slots())
    with atomic_directory(MODELS / name) as directory:
        for job in jobs:
            shutil.copyfile(job.scratch / "fold.safetensors", directory / f"fold{job.cell}.safetensors")
        curves = pd.concat([pd.read_csv(job.scratch / "curves.csv") for job in jobs])
        curves.to_csv(directory / "curves.csv", index=False)
    print(f"{MODELS / name}: {len(jobs)} folds")


def prune_scratch() -> None:
    """Deletes every scratch directory whose fingerprint no model in params.yaml has now."""
    raw = read_params(PARAMS)
    competition = load_competition()
    current = {fold_jobs(str(name), parse_model(str(name), raw["models"], raw["defaults"]), raw["seed"], competition)[0]
               .scratch.parent for name in raw["models"] or {}}
    for path in sorted(SCRATCH.glob("*/*/")):
        if path.parent.name != "logs" and path not in current:
            shutil.rmtree(path)
            print(f"{path}: deleted")


def fold_jobs(name: str, config: ModelConfig, seed: int, competition: Competition) -> list[FoldJob]:
    """One job per network of the model, in the order of the cells."""
    device = device_for(0)
    precision = resolve_precision(config.precision, device)
    scratch = SCRATCH / name / fingerprint(config, seed, competition, device.split(":")[0], precision)
    return [
        FoldJob(
            model=name, config=config, seed=seed, packed=PACKED, classes=competition.packed.classes,
            cell=cell.index, fit_rows=cell.fit_rows, held_rows=cell.held_rows,
            fold_digest=competition.roster.fold_digest, scratch=scratch / f"fold{cell.index}",
            device=device_for(cell.index), precision=precision,
        )
        for cell in competition.cells
    ]


def fingerprint(config: ModelConfig, seed: int, competition: Competition, device: str, precision: str) -> str:
    """Digest of everything that determines the weights: section, seed, data, folds, code, libraries, device."""
    section = config.model_dump_json(exclude={"tta"})
    code = closure_digest("pipeline.training.fold", module_of(config.net))
    versions = [f"{library} {version}" for library, version in library_versions().items()]
    return digest(section, str(seed), competition.packed.digest, competition.roster.fold_digest, code, *versions,
                  device, precision)
