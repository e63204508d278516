"""Stage `ensemble`: members -> every method's predictions, honest scores, leave-one-out, diversity, the final choice.

A method's out-of-fold file holds its nested predictions: weights fitted without the fold that they are applied to.
Its test file is made with weights fitted on all out-of-fold rows.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artefacts import (
    BLENDS,
    OOF,
    PARAMS,
    REPORTS,
    atomic,
    atomic_directory,
    file_digest,
    read_json,
    write_json,
)
from pipeline.config.base import parse, read_params
from pipeline.config.ensemble import EnsembleConfig
from pipeline.ensemble.bootstrap import paired_bootstrap
from pipeline.ensemble.choose import choose, worse_than_prior
from pipeline.ensemble.contract import Fitted, Settings
from pipeline.ensemble.diversity import disagreement, error_correlation
from pipeline.ensemble.loo import leave_one_out
from pipeline.ensemble.methods import METHODS
from pipeline.ensemble.nested import in_sample_predictions, nested_best_single, nested_predictions
from pipeline.errors import UserError, listed
from pipeline.members import Member, read_member, write_member
from pipeline.metrics import METRICS, all_scores
from pipeline.rng import derive
from pipeline.stages.competition import Competition, load_competition


@dataclass(frozen=True)
class Lab:
    """The rows, the members that take part, and how to score them."""

    names: list[str]
    stack: np.ndarray        # (M, N, C) float32, out-of-fold
    test: np.ndarray         # (M, T, C) float32
    labels: np.ndarray       # (N,)
    folds: np.ndarray        # (N,)
    config: EnsembleConfig
    seed: int


def run() -> None:
    """Writes blends/ and, in reports/, ensemble.json, metrics.json and the tables that DVC plots.

    Raises UserError when a member's files are not those that `collect` saw, or no member beats the class prior.
    """
    raw = read_params(PARAMS)
    config = parse(EnsembleConfig, raw["ensemble"], "ensemble")
    competition = load_competition()
    lab, members, excluded = _open_lab(config, derive(raw["seed"], "bootstrap"), competition)
    metric, settings = METRICS[config.metric], Settings(METRICS[config.metric], config.greedy_steps)
    rows_of: dict[str, Any] = {"labels": lab.labels, "folds": lab.folds}
    best_single = nested_best_single(lab.stack, lab.labels, folds=lab.folds, metric=metric)           # (N, C)
    fitted: dict[str, Fitted] = {}
    in_sample: dict[str, np.ndarray] = {}
    nested: dict[str, np.ndarray] = {}
    with atomic_directory(BLENDS) as directory:
        for name in config.methods:
            method = METHODS[name]
            fitted[name], in_sample[name] = in_sample_predictions(
                method, lab.stack, labels=lab.labels, settings=settings)
            nested[name] = nested_predictions(method, lab.stack, settings=settings, **rows_of)        # (N, C)
            test = method.combine(method.embed(lab.stack, lab.test), fitted[name])                    # (T, C)
            write_member(directory / name, Member(name, nested[name], test), competition.roster)
    final, why = _choose(lab, nested)
    rows = [{**_row(m.name, "stacker" if "." in m.name else "model", m.oof, lab, best_single),
             "excluded": m.name in excluded, "replicas": _replicas(m.name)} for m in members]
    rows.append(_row("best single", "reference", best_single, lab, best_single))
    rows += [{**_row(name, "method", nested[name], lab, best_single), **_weights(lab, fitted[name]),
              "in_sample": all_scores(in_sample[name], lab.labels)} for name in nested]
    loo = leave_one_out(METHODS[final], lab.stack, names=lab.names, settings=settings, **rows_of, **_bootstrap(lab))
    report = {
        "metric": config.metric, "greater_is_better": METRICS[config.metric].greater_is_better,
        "level": config.level, "rows": len(lab.labels), "classes": len(competition.packed.classes),
        "folds": len(np.unique(lab.folds)), "repeats": len(competition.folds),
        "fold_digest": competition.roster.fold_digest, "final": final, "why": why, "excluded": excluded,
        "leaderboard": rows, "loo": [asdict(row) for row in loo],
    }
    write_json(REPORTS / "ensemble.json", report)
    _write_tables(report, lab, nested[final], competition)
    print(f"{REPORTS / 'ensemble.json'}: final method {final} ({why})")


def _open_lab(config: EnsembleConfig, seed: int, competition: Competition) -> tuple[Lab, list[Member], list[str]]:
    """The members that `collect` listed; those worse than the class prior are reported and take no part."""
    manifest = read_json(REPORTS / "members.json")
    for entry in manifest["members"]:
        for part in ("oof", "test"):
            path = OOF / entry["name"] / f"{part}.parquet"
            if file_digest(path) != entry[part]:
                raise UserError(f"{path}: not the file that collect checked; fix: dvc repro")
    members = [read_member(OOF / entry["name"], competition.roster) for entry in manifest["members"]]
    labels, folds = competition.packed.labels, competition.folds[0]
    bad = worse_than_prior(np.stack([m.oof for m in members]), labels, folds=folds)
    excluded = [m.name for m, is_bad in zip(members, bad, strict=True) if is_bad]
    usable = [m for m in members if m.name not in excluded]
    if excluded:
        print(f"ensemble: worse than the class prior, left out: {listed(excluded)}")
    if not usable:
        raise UserError("every member's log loss is worse than the class prior's, so there is nothing to combine; "
                        "fix: more epochs or another learning rate in params.yaml")
    oof, test = np.stack([m.oof for m in usable]), np.stack([m.test for m in usable])
    return Lab([m.name for m in usable], oof, test, labels, folds, config, seed), members, excluded


def _row(name: str, kind: str, predictions: np.ndarray, lab: Lab, best_single: np.ndarray) -> dict[str, Any]:
    """A leaderboard row: scores of honest predictions (N, C), compared with the uniform mean and the best single."""
    compare = {"metric": METRICS[lab.config.metric], "labels": lab.labels, **_bootstrap(lab)}
    uniform = lab.stack.mean(axis=0)                                                                  # (N, C)
    return {
        "name": name, "kind": kind, "nested": all_scores(predictions, lab.labels),
        "vs_uniform": asdict(paired_bootstrap(predictions, uniform, **compare)),
        "vs_best_single": asdict(paired_bootstrap(predictions, best_single, **compare)),
    }


def _replicas(name: str) -> list[dict[str, float]]:
    """Scores of each of a model's replicas alone; none where it has one."""
    path = OOF / name / "replicas.json"
    return read_json(path) if path.exists() else []


def _weights(lab: Lab, fitted: Fitted) -> dict[str, Any]:
    return {"weights": {name: float(w) for name, w in zip(lab.names, fitted.weights, strict=True)},
            "power": float(fitted.power), "gap": None if fitted.gap is None else float(fitted.gap)}


def _choose(lab: Lab, nested: dict[str, np.ndarray]) -> tuple[str, str]:
    """The final method and the reason in words."""
    if lab.config.final != "auto":
        return lab.config.final, "named in params.yaml"
    choice = choose(nested, lab.labels, metric=METRICS[lab.config.metric], **_bootstrap(lab))
    if choice.final == choice.best:
        return choice.final, "auto: best nested score"
    return choice.final, f"auto: within one standard error of {choice.best}, and simpler"


def _bootstrap(lab: Lab) -> dict[str, Any]:
    return {"draws": lab.config.bootstrap, "level": lab.config.level, "seed": lab.seed}


def _write_tables(report: dict[str, Any], lab: Lab, final: np.ndarray, competition: Competition) -> None:
    """What DVC plots and compares: flat tables, and the metrics that git keeps."""
    metric = report["metric"]
    leaderboard = pd.DataFrame([
        {"name": r["name"], "kind": r["kind"], **{f"nested_{k}": v for k, v in r["nested"].items()},
         **{f"in_sample_{k}": v for k, v in r.get("in_sample", {}).items()},
         **{f"{versus}_{k}": r[versus][k] for versus in ("vs_uniform", "vs_best_single")
            for k in ("difference", "low", "high")}}
        for r in report["leaderboard"]
    ])
    correlation, disagree = error_correlation(lab.stack, lab.labels), disagreement(lab.stack)
    pairs = pd.DataFrame([
        {"a": a, "b": b, "correlation": correlation[i, j], "disagreement": disagree[i, j]}
        for i, a in enumerate(lab.names) for j, b in enumerate(lab.names)
    ])
    classes = np.array(competition.packed.classes)
    confusion = pd.DataFrame({"actual": classes[lab.labels], "predicted": classes[final.argmax(axis=1)]})
    loo = pd.DataFrame(report["loo"], columns=["member", "weight", "kept", "refitted", "nested", "nested_difference",
                                               "low", "high", "verdict"])
    for name, table in {"leaderboard": leaderboard, "loo": loo, "diversity": pairs, "confusion": confusion}.items():
        with atomic(REPORTS / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    by_name = {r["name"]: r["nested"] for r in report["leaderboard"]}
    write_json(REPORTS / "metrics.json", {
        "final": {"method": report["final"], **by_name[report["final"]]},
        "best_single": by_name["best single"],
        "methods": {r["name"]: r["nested"][metric] for r in report["leaderboard"] if r["kind"] == "method"},
        "members": {r["name"]: r["nested"][metric] for r in report["leaderboard"] if r["kind"] in ("model", "stacker")},
        "loo": {row["member"]: row["nested_difference"] for row in report["loo"]},
    })
