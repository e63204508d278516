"""Stage `ensemble`: members -> every method's predictions, honest scores, leave-one-out, diversity, the final choice.

A method's out-of-fold file holds its nested predictions: fitted without the fold that they are applied to. Its test
file is made by the method fitted on all out-of-fold rows.
"""

from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

import numpy as np

from pipeline.artefacts import BLENDS, OOF, REPORTS, atomic_directory, read_json, write_json
from pipeline.ensemble.bootstrap import intervals
from pipeline.ensemble.choose import choose, standings
from pipeline.ensemble.contract import Fitted
from pipeline.ensemble.diversity import brier_ambiguity, log_loss_ambiguity
from pipeline.ensemble.loo import leave_one_out
from pipeline.ensemble.nested import (
    in_sample,
    nested_best_single,
    nested_outcome,
    nested_predictions,
    other_folds,
)
from pipeline.ensemble.outcomes import outcome, score
from pipeline.ensemble.paths import added, path, removed
from pipeline.members import Member, write_member
from pipeline.metrics import all_scores
from pipeline.stages.lab import Lab, open_lab
from pipeline.stages.lab_tables import write_figures, write_tables

PATHS = {"added": added, "removed": removed}
REFIT_LIMIT = 3e9       # probabilities that leave-one-out may read, where every fit starts from nothing
PATH_METHODS = ("uniform", "blend")     # the weights that need nothing, and the ones that fit best


@dataclass(frozen=True, eq=False)
class Combined:
    """What one method made of the members, rows in the lab's order."""

    fitted: Fitted
    names: list[str]                    # the members that it combines
    in_sample: dict[str, float]         # scores
    nested: np.ndarray                  # (N, C)
    repeated: list[np.ndarray]          # nested outcomes (N,) over other partitions of the rows


def run() -> None:
    """Writes blends/ and, in reports/, ensemble.json, metrics.json, the tables that DVC plots, and figures/.

    Raises UserError when a member's files are not those that `collect` saw, or no member beats the class prior.
    """
    lab = open_lab()
    everyone = lab.oof.all()
    combined: dict[str, Combined] = {}
    with atomic_directory(BLENDS) as directory:
        for name in lab.config.methods:
            started = monotonic()
            combined[name], test = _combine(lab, name)
            write_member(directory / name, Member(name, lab.in_order(combined[name].nested), test),
                         lab.competition.roster)
            own = lab.settings.metric.score(combined[name].nested, everyone.labels)
            print(f"  {name}: nested {lab.config.metric} {own:.4f}, {monotonic() - started:.1f} s", flush=True)
    best_single = nested_best_single(lab.view(), folds=lab.folds, settings=lab.settings)              # (N, C)
    outcomes = {name: _outcome(lab, made.nested) for name, made in combined.items()}
    references = {"uniform": _outcome(lab, np.mean(list(lab.view()), axis=0)),
                  "best_single": _outcome(lab, best_single)}
    final, why = _choose(lab, outcomes)
    rows = _member_rows(lab)
    rows.append({"name": "best single", "kind": "reference", "nested": all_scores(best_single, everyone.labels)})
    rows += _method_rows(lab, combined)
    scored = [*(_outcome(lab, member) for member in everyone), references["best_single"], *outcomes.values()]
    _add_intervals(rows, np.stack(scored), references, lab)
    for row, found in zip(rows[-len(combined):], standings(outcomes, references, sample=lab.sample).values(),
                          strict=True):
        row["standing"] = {name: {"verdict": verdict, "low": interval.low, "high": interval.high}
                           for name, (interval, verdict) in found.items()}
    report = {
        "metric": lab.config.metric, "greater_is_better": lab.settings.metric.greater_is_better,
        "level": lab.config.level, "rows": len(everyone), "classes": everyone.classes,
        "folds": len(np.unique(lab.folds)), "repeats": len(lab.competition.folds),
        "fold_digest": lab.competition.roster.fold_digest, "final": final, "why": why, "excluded": lab.excluded,
        "leaderboard": rows, **_loo(lab, final, combined), "paths": _paths(lab),
        "ambiguity": _ambiguity(lab),
    }
    write_json(REPORTS / "ensemble.json", report)
    write_tables(report, lab, combined[final].nested)
    with atomic_directory(REPORTS / "figures") as directory:
        write_figures(directory, report, lab, combined[final].nested)
    print(f"{REPORTS / 'ensemble.json'}: final method {final} ({why})")


def _combine(lab: Lab, name: str) -> tuple[Combined, np.ndarray]:
    """One method's scores and nested predictions, and its predictions of the test rows (T, C)."""
    method, view = lab.method(name), lab.view(name)
    fitted, predictions = in_sample(method, view, settings=lab.settings)
    nested = nested_predictions(method, view, folds=lab.folds, settings=lab.settings)
    repeated = []
    for repeat in range(1, 1 + (lab.config.repeats if method.learns else 0)):
        folds = other_folds(lab.competition.clusters[lab.order], k=len(np.unique(lab.folds)), repeat=repeat,
                            seed=lab.settings.seed)
        repeated.append(nested_outcome(method, view, folds=folds, settings=lab.settings))
    test = method.combine(lab.test.all().only(lab.members(name)), fitted)
    names = [lab.names[m] for m in lab.members(name)]
    return Combined(fitted, names, all_scores(predictions, view.labels), nested, repeated), test


def _outcome(lab: Lab, predictions: np.ndarray) -> np.ndarray:
    return outcome(predictions, lab.sample.labels, metric=lab.settings.metric)


def _member_rows(lab: Lab) -> list[dict[str, Any]]:
    """Members' own scores: their predictions are out of fold, and nothing was fitted above them."""
    return [{"name": name, "kind": kind, "nested": all_scores(predictions, lab.sample.labels),
             "excluded": name in lab.excluded, "replicas": _replicas(name)}
            for name, kind, predictions in zip(lab.names, lab.kinds, lab.oof.all(), strict=True)]


def _replicas(name: str) -> list[dict[str, float]]:
    """Scores of each of a model's replicas alone; none where it has one."""
    path = OOF / name / "replicas.json"
    return read_json(path) if path.exists() else []


def _method_rows(lab: Lab, combined: dict[str, Combined]) -> list[dict[str, Any]]:
    rows = []
    for name, made in combined.items():
        fitted = made.fitted
        weights = None if fitted.weights is None else fitted.weights.reshape(len(made.names), -1).mean(axis=1)
        rows.append({
            "name": name, "kind": "method", "nested": all_scores(made.nested, lab.sample.labels),
            "in_sample": made.in_sample, "repeated": _repeated(lab, made),
            "weights": None if weights is None else dict(zip(made.names, weights.tolist(), strict=True)),
            "power": float(fitted.power), "gap": None if fitted.gap is None else float(fitted.gap),
            "note": fitted.note,
        })
    return rows


def _repeated(lab: Lab, made: Combined) -> dict[str, float] | None:
    """Nested score over other partitions of the rows; None for methods that learn nothing, which all agree."""
    if not made.repeated:
        return None
    scores = [score(o, lab.sample.labels, metric=lab.settings.metric, classes=lab.sample.classes)
              for o in [_outcome(lab, made.nested), *made.repeated]]
    return {"mean": float(np.mean(scores)), "sd": float(np.std(scores, ddof=1)), "partitions": len(scores)}


def _add_intervals(
    rows: list[dict[str, Any]], outcomes: np.ndarray, references: dict[str, np.ndarray], lab: Lab
) -> None:
    """Each row's own score with its interval, and its difference in loss to each reference, outcomes `(rows, N)`."""
    negated = lab.settings.metric.greater_is_better
    for row, own in zip(rows, intervals(outcomes, lab.sample), strict=True):
        low, high = (-own.high, -own.low) if negated else (own.low, own.high)
        row["interval"] = {"low": low, "high": high}
    for name, reference in references.items():
        for row, difference in zip(rows, intervals(outcomes, lab.sample, against=reference), strict=True):
            row[f"vs_{name}"] = asdict(difference)


def _choose(lab: Lab, outcomes: dict[str, np.ndarray]) -> tuple[str, str]:
    """The final method and the reason in words."""
    if lab.config.final != "auto":
        return lab.config.final, "named in params.yaml"
    choice = choose(outcomes, {name: lab.method(name).simplicity for name in outcomes}, sample=lab.sample)
    if choice.final == choice.best:
        return choice.final, "auto: best nested score"
    return choice.final, f"auto: within one standard error of {choice.best}, and simpler"


def _loo(lab: Lab, final: str, combined: dict[str, Combined]) -> dict[str, Any]:
    """Leave-one-out of the final method; or of the best one that has weights on members and is quick to fit again."""
    quick = {name: -lab.settings.metric.loss(made.nested, lab.sample.labels) for name, made in combined.items()
             if made.fitted.weights is not None and _affordable(lab, name)}
    if not quick:
        return {"loo_method": None, "loo": []}
    name = final if final in quick else max(quick, key=lambda n: quick[n])
    rows = leave_one_out(lab.method(name), lab.view(name), folds=lab.folds, names=combined[name].names,
                         settings=lab.settings, sample=lab.sample)
    return {"loo_method": name, "loo": [asdict(row) for row in rows]}


def _affordable(lab: Lab, name: str) -> bool:
    """Whether a fit without each member, on all rows and without each fold, is a matter of a few minutes."""
    method, members = lab.method(name), len(lab.members(name))
    refits = members * (1 + len(np.unique(lab.folds)))
    return not method.learns or method.refit is not None or \
        refits * members * lab.oof.stack[0].size <= REFIT_LIMIT


def _paths(lab: Lab) -> list[dict[str, Any]]:
    """Scores of the even and of the best linear weights with 1, 2, ... members."""
    names = [lab.names[m] for m in lab.members("uniform")]
    return [{"method": name, "order": order, "members": step.members, "member": names[step.moved],
             "in_sample": step.in_sample, "nested": step.nested}
            for name in PATH_METHODS for order, function in PATHS.items()
            for step in path(lab.method(name), function, lab.view(), folds=lab.folds, settings=lab.settings)]


def _ambiguity(lab: Lab) -> dict[str, dict[str, float]]:
    """Why a mean is better than its members: their mean loss less their ambiguity, exactly, for two losses.

    The log loss of the geometric mean and the Brier score of the arithmetic one.
    """
    stack, labels = lab.oof.stack[lab.members("uniform")], lab.sample.labels
    parts = {"log_loss": log_loss_ambiguity(stack, labels), "brier": brier_ambiguity(stack, labels)}
    return {loss: {"mean_loss": p.mean_loss, "ensemble_loss": p.ensemble_loss, "ambiguity": p.ambiguity}
            for loss, p in parts.items()}
