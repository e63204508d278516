"""The members that take part and how to score them: where everything above the networks starts.

Rows are in the order of their folds, so that a fold is a slice of the members' predictions and nothing is copied.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from pipeline.artefacts import OOF, PARAMS, REPORTS, file_digest, read_json
from pipeline.config.base import parse, read_params
from pipeline.config.ensemble import VOTES, EnsembleConfig
from pipeline.ensemble.bootstrap import Sample
from pipeline.ensemble.choose import no_better_than_prior
from pipeline.ensemble.contract import Method, Predictions, Settings, View
from pipeline.ensemble.methods import METHODS, find
from pipeline.ensemble.simplex import normalised
from pipeline.errors import UserError, listed
from pipeline.members import Member, read_member
from pipeline.metrics import METRICS
from pipeline.rng import derive
from pipeline.stackers.second_level import SECOND_LEVEL
from pipeline.stages.competition import Competition, load_competition
from pipeline.training.executors import slots


@dataclass(frozen=True, eq=False)
class Lab:
    """Out-of-fold and test predictions of all members, labels, folds, and what scoring needs."""

    competition: Competition
    config: EnsembleConfig
    names: list[str]             # all members
    kinds: list[str]             # model, stacker, foreign or votes (one-hot, for the methods that count votes only)
    excluded: list[str]          # no better than the class prior: reported, and never averaged in
    oof: Predictions             # (M, N, C), rows in the order of the folds
    test: Predictions            # (M, T, C)
    order: np.ndarray            # (N,) the competition's row of each of these rows
    folds: np.ndarray            # (N,) ascending
    settings: Settings
    sample: Sample

    def method(self, name: str) -> Method:
        """By its name in params.yaml, like `blend` or `geometric+temperature`."""
        return find(name, {**METHODS, **SECOND_LEVEL})

    def members(self, method: str) -> np.ndarray:
        """Places of the members that a method combines: one-hot ones are for those that count votes."""
        counts_votes = method.partition("+")[0] in VOTES
        return np.array([m for m, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True))
                         if name not in self.excluded and (counts_votes or kind != "votes")], dtype=np.int64)

    def view(self, method: str = "uniform") -> View:
        """The out-of-fold predictions of the members that a method combines."""
        return self.oof.all().only(self.members(method))

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """`(N, ...)` back in the competition's order."""
        result = np.empty_like(rows)
        result[self.order] = rows
        return result


def open_lab() -> Lab:
    """Reads the members that `collect` listed.

    Raises UserError when a member's files are not those that `collect` saw, or no member beats the class prior.
    """
    raw = read_params(PARAMS)
    config = parse(EnsembleConfig, raw["ensemble"], "ensemble")
    competition = load_competition()
    manifest = read_json(REPORTS / "members.json")["members"]
    labels, folds, classes = competition.packed.labels, competition.folds[0], len(competition.packed.classes)
    order = np.argsort(folds, kind="stable")
    oof = np.empty((len(manifest), len(labels), classes), np.float32)
    test = np.empty((len(manifest), len(competition.roster.test_ids), classes), np.float32)

    def read(place: int) -> None:
        member = _read(manifest[place], competition)
        oof[place], test[place] = normalised(member.oof[order]), normalised(member.test)

    threads = slots()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, range(len(manifest))))
    metric = METRICS[config.metric]
    lab = Lab(
        competition, config, [entry["name"] for entry in manifest], [entry["kind"] for entry in manifest], [],
        Predictions(oof, labels[order], threads), Predictions(test, None, threads), order, folds[order],
        Settings(metric, config.greedy_steps, config.greedy_bags, config.greedy_share, config.shrinkage,
                 derive(raw["seed"], "ensemble")),
        Sample(labels[order], classes, metric, config.bootstrap, config.level, derive(raw["seed"], "bootstrap"),
               competition.clusters[order]),
    )
    return replace(lab, excluded=_excluded(lab))


def _read(entry: dict[str, str], competition: Competition) -> Member:
    for part in ("oof", "test"):
        path = OOF / entry["name"] / f"{part}.parquet"
        if file_digest(path) != entry[part]:
            raise UserError(f"{path}: not the file that collect checked; fix: dvc repro")
    return read_member(OOF / entry["name"], competition.roster)


def _excluded(lab: Lab) -> list[str]:
    """Members that know less than the class frequencies: by log loss, one-hot ones by accuracy."""
    everyone = lab.oof.all()
    commonest = np.bincount(everyone.labels).max() / len(everyone)
    hits = (everyone.tops == everyone.labels).mean(axis=1)
    poor = no_better_than_prior(everyone, folds=lab.folds)
    excluded = [name for m, (name, kind) in enumerate(zip(lab.names, lab.kinds, strict=True))
                if (hits[m] <= commonest if kind == "votes" else poor[m])]
    if excluded:
        print(f"ensemble: no better than the class prior, left out: {listed(excluded)}")
    if all(name in excluded or kind == "votes" for name, kind in zip(lab.names, lab.kinds, strict=True)):
        raise UserError("no member's log loss is clearly better than the class prior's: there is nothing to combine; "
                        "fix: more epochs or another learning rate in params.yaml")
    return excluded
