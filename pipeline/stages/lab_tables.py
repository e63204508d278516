"""What people and DVC look at: flat tables, the metrics that git keeps, and pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.artefacts import REPORTS, atomic, write_json
from pipeline.ensemble.diversity import correctness, disagreement, double_fault, error_correlation, q_statistic
from pipeline.ensemble.label_errors import Candidate, label_error_candidates
from pipeline.ensemble.reliability import (
    brier_score,
    calibration_error,
    class_table,
    classwise_calibration_error,
    confusion_matrix,
    expected_calibration_error,
    reliability_curve,
)
from pipeline.plots import forward
from pipeline.plots.confusion import draw_confusion
from pipeline.plots.contact_sheet import draw_contact_sheet
from pipeline.plots.diversity import draw_diversity
from pipeline.plots.forward import draw_forward
from pipeline.plots.loo import draw_loo
from pipeline.plots.reliability import draw_reliability
from pipeline.stages.lab import Lab

DOUBTED = 48        # label-error candidates in the picture
TITLES = {"log_loss": "log loss", "accuracy": "accuracy", "top_5": "top-5", "macro_f1": "macro-F1"}


def write_tables(report: dict[str, Any], lab: Lab, final: np.ndarray) -> None:
    """Tables of the report, and of the final method's nested predictions `(N, C)`, rows in the lab's order."""
    classes = np.array(lab.competition.packed.classes)
    labels = lab.sample.labels
    actual = pd.DataFrame({"actual": classes[labels], "predicted": classes[final.argmax(axis=1)]})
    tables = {
        "leaderboard": _leaderboard(report),
        "loo": pd.DataFrame(report["loo"], columns=["member", "weight", "kept", "refitted", "nested",
                                                    "nested_difference", "low", "high", "verdict"]),
        "paths": pd.DataFrame(report["paths"]),
        "diversity": _diversity(lab),
        "confusion": actual.iloc[np.argsort(lab.order, kind="stable")],
        "reliability": _reliability(final, labels),
        "classes": pd.DataFrame([{**vars(row), "label": classes[row.label]} for row in class_table(final, labels)]),
        "label_errors": _label_errors(lab, final),
    }
    for name, table in tables.items():
        with atomic(REPORTS / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    write_json(REPORTS / "metrics.json", _metrics(report, final, labels))


def write_figures(directory: Path, report: dict[str, Any], lab: Lab, final: np.ndarray) -> None:
    """PNG pictures of leave-one-out, paths, diversity, calibration, confusion and doubtful labels."""
    names = [lab.names[m] for m in lab.members("uniform")]
    view, labels, packed = lab.view(), lab.sample.labels, lab.competition.packed
    method, title = report["final"], TITLES[report["metric"]]
    figures = {
        "diversity": draw_diversity(error_correlation(lab.oof.stack[view.members], labels), names,
                                    title="Correlation of the members' errors"),
        "paths": _paths(report, title),
        "reliability": draw_reliability({method: reliability_curve(final, labels)},
                                        title=f"Calibration of {method}, nested"),
        "confusion": draw_confusion(confusion_matrix(final, labels), packed.classes,
                                    title=f"Confusions of {method}, nested"),
    }
    if report["loo"]:
        figures["loo"] = _loo(report, title)
    candidates = label_error_candidates(final, labels)[:DOUBTED]
    if candidates:
        figures["label_errors"] = draw_contact_sheet(
            [packed.image(int(lab.order[c.row])) for c in candidates],
            [f"{packed.classes[c.given]} {c.p_given:.2f}\n{packed.classes[c.suggested]} {c.p_suggested:.2f}"
             for c in candidates],
            title=f"Labels that {method} doubts: given above suggested, with their nested probabilities")
    for name, figure in figures.items():
        figure.savefig(directory / f"{name}.png", metadata={"Software": None})


def _leaderboard(report: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([
        {"name": r["name"], "kind": r["kind"], **{f"nested_{k}": v for k, v in r["nested"].items()},
         **r["interval"], **{f"in_sample_{k}": v for k, v in r.get("in_sample", {}).items()},
         **{f"repeated_{k}": v for k, v in (r.get("repeated") or {}).items()},
         **{f"{versus}_{k}": r[versus][k] for versus in ("vs_uniform", "vs_best_single")
            for k in ("difference", "low", "high")},
         **{f"{name}_verdict": found["verdict"] for name, found in r.get("standing", {}).items()}}
        for r in report["leaderboard"]
    ])


def _diversity(lab: Lab) -> pd.DataFrame:
    """Every ordered pair of the members that are averaged, a member with itself included."""
    members = lab.members("uniform")
    stack, labels = lab.oof.stack[members], lab.sample.labels
    correct = correctness(stack, labels)
    measures = {"correlation": error_correlation(stack, labels), "disagreement": disagreement(stack),
                "q": q_statistic(correct), "double_fault": double_fault(correct)}
    return pd.DataFrame([
        {"a": lab.names[a], "b": lab.names[b], **{name: values[i, j] for name, values in measures.items()}}
        for i, a in enumerate(members) for j, b in enumerate(members)
    ])


def _reliability(final: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(vars(reliability_curve(final, labels)))


def _label_errors(lab: Lab, final: np.ndarray) -> pd.DataFrame:
    """Every candidate with its id; `image` is its row in the packed store."""
    packed, classes = lab.competition.packed, lab.competition.packed.classes

    def row(c: Candidate) -> dict[str, Any]:
        image = int(lab.order[c.row])
        return {"id": lab.competition.roster.train_ids[image], "given": classes[c.given],
                "suggested": classes[c.suggested], "p_given": c.p_given, "p_suggested": c.p_suggested,
                "margin": c.margin, "fold": int(lab.folds[c.row]), "image": image,
                "content_hash": packed.table["content_hash"].iloc[image]}

    columns = ["id", "given", "suggested", "p_given", "p_suggested", "margin", "fold", "image", "content_hash"]
    return pd.DataFrame([row(c) for c in label_error_candidates(final, lab.sample.labels)], columns=columns)


def _metrics(report: dict[str, Any], final: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    metric, rows = report["metric"], report["leaderboard"]
    by_name = {r["name"]: r["nested"] for r in rows}
    return {
        "final": {"method": report["final"], **by_name[report["final"]], "brier": brier_score(final, labels),
                  "calibration_error": expected_calibration_error(final, labels),
                  "calibration_error_equal_mass": calibration_error(reliability_curve(final, labels)),
                  "calibration_error_per_class": classwise_calibration_error(final, labels)},
        "best_single": by_name["best single"],
        "methods": {r["name"]: r["nested"][metric] for r in rows if r["kind"] == "method"},
        "members": {r["name"]: r["nested"][metric] for r in rows if r["kind"] not in ("method", "reference")},
        "loo": {row["member"]: row["nested_difference"] for row in report["loo"]},
    }


def _loo(report: dict[str, Any], title: str) -> Figure:
    """Differences in loss to the ensemble of all members, each form to its own."""
    rows, method = report["loo"], report["loo_method"]
    whole = next(r for r in report["leaderboard"] if r["name"] == method)["in_sample"][report["metric"]]
    sign = -1 if report["greater_is_better"] else 1
    column = {key: np.array([row[key] for row in rows]) for key in ("nested_difference", "low", "high")}
    forms = {key: sign * (np.array([row[key] for row in rows]) - whole) for key in ("kept", "refitted")}
    return draw_loo([row["member"] for row in rows], column["nested_difference"], low=column["low"],
                    high=column["high"], verdicts=[row["verdict"] for row in rows], **forms,
                    title=f"Leave-one-out of {method}: what its {title} loses without each member")


def _paths(report: dict[str, Any], title: str) -> Figure:
    """The even mean: grown by the member that helps it most, shrunk by the one that it needs least."""
    steps = {order: [s for s in report["paths"] if s["method"] == "uniform" and s["order"] == order]
             for order in ("added", "removed")}
    grown, shrunk = steps["added"], steps["removed"][-2::-1]          # M - 1, M - 2, ... members are left
    gone = [s["member"] for s in steps["removed"][:0:-1]]             # the member that left to get there
    return draw_forward(
        forward.Path([s["member"] for s in grown], *_curves(grown)), forward.Path(gone, *_curves(shrunk)),
        score=title, title="The even mean of 1, 2, ... members")


def _curves(steps: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """In-sample and nested scores."""
    return tuple(np.array([s[key] for s in steps]) for key in ("in_sample", "nested"))  # type: ignore[return-value]
