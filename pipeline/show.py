"""The leaderboard, as a terminal table over reports/ensemble.json."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.table import Table

from pipeline.artefacts import SUBMISSIONS
from pipeline.tables import METRIC_TITLES, console_for, finish, interval_text, print_csv, read_report

DROPPED_FIRST = (       # on a narrow terminal
    "macro-F1", "top-5", "repeated", "optimism", "vs uniform", "in sample", "seeds alone", "beats", "kind",
)
FEWEST = 4


def leaderboard(*, as_json: bool, as_csv: bool, svg: Path | None = None) -> None:
    """Members and methods, best nested score first; raises UserError when there is no report yet."""
    report = read_report()
    rows = _sorted(report)
    if as_csv:
        print_csv("leaderboard")
        return
    if as_json:
        print(json.dumps({**{k: v for k, v in report.items() if k not in ("loo", "paths")}, "leaderboard": rows},
                         indent=2))
        return
    title = METRIC_TITLES[report["metric"]]
    console = console_for(svg)
    columns = _leaderboard_columns(report)
    while len(columns) > FEWEST and sum(width for width, _ in columns.values()) > console.width:
        columns.pop(next(name for name in DROPPED_FIRST if name in columns))
    table = Table(title=f"Leaderboard: {report['rows']} rows, {report['classes']} classes, {report['folds']} folds; "
                        f"final: {report['final']} ({report['why']})", title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name in ("", "kind") else "right", no_wrap=True)
    for row in rows:
        style = "bold green" if row["name"] == report["final"] else "red" if row.get("excluded") else ""
        table.add_row(*(cell(row) for _, cell in columns.values()), style=style)
    better = "greater" if report["greater_is_better"] else "less"
    note = (f"{title}: {better} is better. Methods are scored nested: fitted without the fold that is scored; members "
            "fit nothing. repeated: the same over other partitions of the rows. vs: paired difference in loss with its "
            f"{report['level']:.0%} bootstrap interval; below zero is better. beats: with intervals that hold for all "
            "methods at once (?: neither better nor worse beyond doubt).")
    finish(console, table, svg=svg, note=note)
    _print_not_better(report)
    print(f"submission: {SUBMISSIONS / 'final.csv'}")


def _sorted(report: dict[str, Any]) -> list[dict[str, Any]]:
    sign = -1 if report["greater_is_better"] else 1
    return sorted(report["leaderboard"], key=lambda r: sign * r["nested"][report["metric"]])


def _print_not_better(report: dict[str, Any]) -> None:
    """Says which methods do not beat the best single model, and the best single member beyond doubt."""
    metric, sign = report["metric"], -1 if report["greater_is_better"] else 1
    methods = [row for row in report["leaderboard"] if row["kind"] == "method"]
    model = min((r for r in report["leaderboard"] if r["kind"] == "model"), key=lambda r: sign * r["nested"][metric])
    best = model["nested"][metric]
    behind = [row["name"] for row in methods if sign * row["nested"][metric] >= sign * best]
    print(f"not better than the best single model, {model['name']} with {best:.4f} (picked in hindsight): "
          f"{', '.join(behind) or 'none, all methods are better'}")
    doubtful = [row["name"] for row in methods if row["vs_best_single"]["high"] >= 0]
    print("not distinguishable from 'best single' (per fold, the member that is best on the other folds), or worse: "
          f"{', '.join(doubtful) or 'none'}")


def _leaderboard_columns(report: dict[str, Any]) -> dict[str, tuple[int, Callable[[dict[str, Any]], str]]]:
    """Column -> its width in characters with the frame, and how a row fills it."""
    metric, sign = report["metric"], -1 if report["greater_is_better"] else 1

    def score(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda row: f"{row['nested'][name]:.4f}"

    def fitted(cell: Callable[[float, float], str]) -> Callable[[dict[str, Any]], str]:
        return lambda row: cell(row["in_sample"][metric], row["nested"][metric]) if "in_sample" in row else ""

    return {
        "": (4 + max(len(row["name"]) + 11 * bool(row.get("excluded")) for row in report["leaderboard"]),
             lambda row: row["name"] + " (left out)" * bool(row.get("excluded"))),
        "kind": (12, lambda row: row["kind"]),
        **{title: (11, score(name)) for name, title in METRIC_TITLES.items()},
        "in sample": (12, fitted(lambda in_sample, nested: f"{in_sample:.4f}")),
        "optimism": (11, fitted(lambda in_sample, nested: f"{sign * (nested - in_sample):+.4f}")),
        "repeated": (18, _repeated),
        **_seeds_column(report, metric),
        "vs uniform": (29, lambda row: interval_text(row["vs_uniform"]) if row["name"] != "uniform" else ""),
        "vs best single": (29, lambda row: interval_text(row["vs_best_single"]) if row["kind"] != "reference" else ""),
        "beats": (24, _beats),
    }


def _repeated(row: dict[str, Any]) -> str:
    found = row.get("repeated")
    return f"{found['mean']:.4f} ± {found['sd']:.4f}" if found else ""


def _beats(row: dict[str, Any]) -> str:
    """The references that a method is better than beyond doubt, and those that are better than it."""
    verdicts = {name.replace("_", " "): found["verdict"] for name, found in row.get("standing", {}).items()}
    better = [name for name, verdict in verdicts.items() if verdict == "better"]
    worse = [f"not {name}" for name, verdict in verdicts.items() if verdict == "worse"]
    return ", ".join([*better, *worse]) or ("?" if verdicts else "")


def _seeds_column(report: dict[str, Any], metric: str) -> dict[str, tuple[int, Callable[[dict[str, Any]], str]]]:
    """Number of replicas, with mean and standard deviation of their scores; no column where no model has several."""
    if not any(row.get("replicas") for row in report["leaderboard"]):
        return {}

    def spread(row: dict[str, Any]) -> str:
        scores = [replica[metric] for replica in row.get("replicas", [])]
        return f"{len(scores)}: {mean(scores):.4f} ± {stdev(scores):.4f}" if scores else ""

    return {"seeds alone": (22, spread)}
