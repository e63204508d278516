"""Stage `stack@<model>-<stacker>`: penultimate features -> a member, fitted once per fold in that fold's space."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artefacts import FEATURES, OOF, PARAMS, PLAN, read_json, write_json
from pipeline.cells import Cell
from pipeline.config.base import read_params
from pipeline.config.stacker import StackerConfig, parse_stacker
from pipeline.errors import UserError, listed, nearest
from pipeline.members import Member, write_member
from pipeline.rng import derive
from pipeline.stackers.calibrate import LINKS, Link, hedged
from pipeline.stackers.registry import load
from pipeline.stages.competition import load_competition
from pipeline.training.executors import run_jobs, slots


@dataclass(frozen=True)
class StackJob:
    """One fold of one stacker: its features, and the labels of the rows that its network was trained on."""

    features: Path
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
    models = raw["models"] or {}
    if model not in models:
        raise UserError(f"params.yaml: models: no model '{model}'; allowed: {listed(models)}{nearest(model, models)}")
    config = parse_stacker(stacker, raw["stackers"] or {})
    member = f"{model}.{stacker}"
    if not read_json(PLAN / "stack" / f"{model}-{stacker}.json")["selected"]:
        write_json(OOF / member / "not_selected.json", {"model": model, "stacker": stacker})
        print(f"{member}: not selected by stackers.{stacker}.models")
        return
    competition = load_competition()
    labels, n_classes = competition.packed.labels, len(competition.packed.classes)
    jobs = [StackJob(FEATURES / model, config, cell, labels[cell.fit_rows], n_classes,
                     derive(raw["seed"], member, cell.index)) for cell in competition.cells]
    scores = run_jobs(_fit, jobs, slots=slots())
    oof, test = calibrated(scores, competition.cells, labels, competition.folds, link=LINKS[config.kind])
    write_member(OOF / member, Member(member, oof, test), competition.roster)
    print(f"{OOF / member}: {len(oof)} out-of-fold and {len(test)} test rows")


def calibrated(
    scores: list[tuple[np.ndarray, np.ndarray]], cells: list[Cell], labels: np.ndarray, folds: np.ndarray, *, link: Link
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of held and test rows per cell -> out-of-fold (N, C) and test (T, C) probabilities.

    The link of a fold's rows is fitted on the other folds' rows (same repeat), the test rows' on all of them.
    """
    n_test, n_classes = scores[0][1].shape
    oof, test = np.zeros((len(labels), n_classes)), np.zeros((n_test, n_classes))
    for repeat, assignment in enumerate(folds):
        held_scores = np.empty((len(labels), n_classes))                                             # (N, C)
        mine = [(cell, *scores[cell.index]) for cell in cells if cell.repeat == repeat]
        for cell, held, _ in mine:
            held_scores[cell.held_rows] = held
        overall = link.fit(held_scores, labels)
        for cell, held, unseen in mine:
            others = assignment != cell.fold
            parameters = link.fit(held_scores[others], labels[others])
            oof[cell.held_rows] += hedged(link.apply(held, parameters), int(others.sum())) / len(folds)
            test += hedged(link.apply(unseen, overall), len(labels)) / len(cells)
    return oof, test


def _fit(job: StackJob) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the cell's held rows (H, C) and of the test rows (T, C)."""
    train = np.load(job.features / f"fold{job.cell.index}.train.npy", mmap_mode="r")                  # (N, D) float16
    test = np.load(job.features / f"fold{job.cell.index}.test.npy").astype(np.float32)
    scorer = load(job.config.kind)(train[job.cell.fit_rows].astype(np.float32), job.fit_labels,
                                   n_classes=job.n_classes, config=job.config, seed=job.seed)
    return scorer(train[job.cell.held_rows].astype(np.float32)), scorer(test)
