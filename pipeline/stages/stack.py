"""Stages `stack@<model>-<stacker>`, `stack_student@...`: penultimate features -> a member.

A stacker is fitted once per network, in that network's space. The scores of a fold's replicas (`seeds`) are averaged
before they become probabilities.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artefacts import FEATURES, OOF, PACKED, PARAMS, PLAN, read_json, write_json
from pipeline.cells import Cell
from pipeline.config.base import read_params
from pipeline.config.stacker import StackerConfig, parse_stacker
from pipeline.config.students import entries
from pipeline.errors import UserError, listed, nearest
from pipeline.members import Member, write_member
from pipeline.rng import derive
from pipeline.stackers.calibrate import calibrated
from pipeline.stackers.links import LINKS
from pipeline.stackers.registry import load
from pipeline.stages.competition import Competition, load_competition
from pipeline.training.executors import run_jobs, slots
from pipeline.training.side import side_file


@dataclass(frozen=True)
class StackJob:
    """One stacker on one network: its features, and the labels of the rows that the network was trained on."""

    features: Path              # stem of the network's feature files
    side: Path | None           # hand-made features of all rows
    config: StackerConfig
    cell: Cell
    fit_labels: np.ndarray
    n_classes: int
    seed: int


def run(model: str, stacker: str) -> None:
    """Fits and predicts one stacker on one model's features; raises UserError.

    A pair that params.yaml does not select leaves a note instead of a member, which `collect` passes over.
    """
    raw = read_params(PARAMS)
    models = entries(raw)
    if model not in models:
        raise UserError(f"params.yaml: models: no model '{model}'; allowed: {listed(models)}{nearest(model, models)}")
    parse_stacker(stacker, raw["stackers"] or {})
    member = f"{model}.{stacker}"
    if not read_json(PLAN / "stack" / f"{model}-{stacker}.json")["selected"]:
        write_json(OOF / member / "not_selected.json", {"model": model, "stacker": stacker})
        print(f"{member}: not selected by stackers.{stacker}.models")
        return
    competition = load_competition()
    made = fitted_member(model, stacker, competition, labels=competition.packed.labels)
    write_member(OOF / member, made, competition.roster)
    print(f"{OOF / member}: {len(made.oof)} out-of-fold and {len(made.test)} test rows")


def fitted_member(model: str, stacker: str, competition: Competition, *, labels: np.ndarray) -> Member:
    """The member that a stacker on a model's features makes, if the training rows have these labels `(N,)`."""
    raw = read_params(PARAMS)
    config, member = parse_stacker(stacker, raw["stackers"]), f"{model}.{stacker}"
    networks = read_json(FEATURES / model / "networks.json")
    cells = [competition.cells[network["cell"]] for network in networks]
    side = side_file(config.handmade, PACKED, slots=slots())
    jobs = [StackJob(FEATURES / model / network["stem"], side, config, cell, labels[cell.fit_rows],
                     len(competition.packed.classes), derive(raw["seed"], member, network["stem"]))
            for network, cell in zip(networks, cells, strict=True)]
    fitted = run_jobs(_fit, jobs, slots=slots())
    scores = [_mean([s for s, c in zip(fitted, cells, strict=True) if c is cell]) for cell in competition.cells]
    oof, test = calibrated(scores, competition.cells, labels, competition.folds, link=LINKS[config.kind])
    return Member(member, oof, test)


def _mean(scores: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean held (H, C) and test (T, C) scores over the replicas of one cell."""
    held, unseen = (np.mean(part, axis=0) for part in zip(*scores, strict=True))
    return held, unseen


def _fit(job: StackJob) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the cell's held rows (H, C) and of the test rows (T, C)."""
    train = np.load(f"{job.features}.train.npy", mmap_mode="r")                                       # (N, D) float16
    test = np.load(f"{job.features}.test.npy", mmap_mode="r")
    side = np.zeros((len(train) + len(test), 0)) if job.side is None else np.load(job.side, mmap_mode="r")  # (N + T, F)

    def joined(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.hstack([features, side[rows]], dtype=np.float32)                                    # (m, D + F)

    fit_rows, held_rows = job.cell.fit_rows, job.cell.held_rows
    scorer = load(job.config.kind)(joined(train[fit_rows], fit_rows), job.fit_labels, n_classes=job.n_classes,
                                   config=job.config, seed=job.seed)
    unseen = joined(test, len(train) + np.arange(len(test)))
    test_scores = scorer(unseen) if len(test) else np.zeros((0, job.n_classes), np.float32)  # no library takes no rows
    return scorer(joined(train[held_rows], held_rows)), test_scores
