"""Terminal tables over reports/: leaderboard, leave-one-out, diversity."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.artefacts import REPORTS, SUBMISSIONS, read_json
from pipeline.errors import UserError

DROPPED_FIRST = (       # on a narrow terminal
    "macro-F1", "top-5", "optimism", "vs uniform", "in sample", "seeds alone", "kind",
)
FEWEST = 4
METRIC_TITLES = {"log_loss": "log loss", "accuracy": "accuracy", "top_5": "top-5", "macro_f1": "macro-F1"}


def leaderboard(*, as_json: bool, svg: Path | None = None) -> None:
    """Members and methods, best nested score first; raises UserError when there is no report yet."""
    report = _report()
    rows = _sorted(report)
    if as_json:
        print(json.dumps({**{k: v for k, v in report.items() if k != "loo"}, "leaderboard": rows}, indent=2))
        return
    title = METRIC_TITLES[report["metric"]]
    console = _console(svg)
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
    note = (f"{title}: {better} is better. Methods are scored nested: weights fitted without the fold that is scored; "
            f"members and uniform fit nothing. vs: paired difference in loss with its {report['level']:.0%} bootstrap "
            "interval; below zero is better.")
    _print(console, table, svg, note)
    _print_not_better(report)
    print(f"submission: {SUBMISSIONS / 'final.csv'}")


def leave_one_out(*, as_json: bool, svg: Path | None = None) -> None:
    """What the final ensemble scores without each member, the most useful member first; raises UserError."""
    report = _report()
    rows = sorted(report["loo"], key=lambda r: -r["nested_difference"])
    if as_json:
        print(json.dumps({"method": report["final"], "metric": report["metric"], "loo": rows}, indent=2))
        return
    if not rows:
        print("leave-one-out needs two members or more")
        return
    title = METRIC_TITLES[report["metric"]]
    full = next(r for r in report["leaderboard"] if r["name"] == report["final"])
    table = Table(title=f"Leave-one-out of {report['final']}: {title} without each member "
                        f"(with all: {full['in_sample'][report['metric']]:.4f} in sample, "
                        f"{full['nested'][report['metric']]:.4f} nested)", title_justify="left")
    for column in ("left out", "weight", "weights kept", "refitted", "nested", "lost by leaving it out", "verdict"):
        table.add_column(column, justify="left" if column in ("left out", "verdict") else "right", no_wrap=True)
    styles = {"helps": "green", "hurts": "red"}
    for row in rows:
        table.add_row(row["member"], f"{row['weight']:.3f}", f"{row['kept']:.4f}", f"{row['refitted']:.4f}",
                      f"{row['nested']:.4f}", _interval(row | {"difference": row["nested_difference"]}),
                      row["verdict"], style=styles.get(row["verdict"], ""))
    _print(_console(svg), table, svg, f"lost: nested loss without the member minus with it, {report['level']:.0%} "
                                      "paired bootstrap interval; above zero the member earns its place.")


def diversity(*, as_json: bool) -> None:
    """Correlation of errors above the diagonal, disagreement of the top class below it; raises UserError."""
    try:
        pairs = pd.read_csv(REPORTS / "diversity.csv")
    except FileNotFoundError:
        raise UserError(_missing("diversity.csv")) from None
    if as_json:
        print(json.dumps(pairs.to_dict("records"), indent=2))
        return
    names = list(dict.fromkeys(pairs["a"]))
    correlation = pairs.pivot(index="a", columns="b", values="correlation").loc[names, names].to_numpy()
    disagree = pairs.pivot(index="a", columns="b", values="disagreement").loc[names, names].to_numpy()
    table = Table(title="Above the diagonal: correlation of errors; below: share of rows with another top class",
                  title_justify="left")
    table.add_column("")
    for i in range(len(names)):
        table.add_column(str(i + 1), justify="right")
    for i, name in enumerate(names):
        cells = ["" if i == j else f"{(correlation if j > i else disagree)[i, j]:.2f}" for j in range(len(names))]
        table.add_row(f"{i + 1} {name}", *cells)
    _print(_console(None), table, None, "")


def _report() -> dict[str, Any]:
    try:
        return read_json(REPORTS / "ensemble.json")
    except FileNotFoundError:
        raise UserError(_missing("ensemble.json")) from None


def _missing(name: str) -> str:
    return f"{REPORTS / name} is missing; fix: dvc repro"


def _sorted(report: dict[str, Any]) -> list[dict[str, Any]]:
    sign = -1 if report["greater_is_better"] else 1
    return sorted(report["leaderboard"], key=lambda r: sign * r["nested"][report["metric"]])


def _interval(row: dict[str, Any]) -> str:
    return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


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
        **_seeds_column(report, metric),
        "vs uniform": (29, lambda row: "" if row["name"] == "uniform" else _interval(row["vs_uniform"])),
        "vs best single": (29, lambda row: "" if row["name"] == "best single" else _interval(row["vs_best_single"])),
    }


def _seeds_column(report: dict[str, Any], metric: str) -> dict[str, tuple[int, Callable[[dict[str, Any]], str]]]:
    """Number of replicas, with mean and standard deviation of their scores; no column where no model has several."""
    if not any(row.get("replicas") for row in report["leaderboard"]):
        return {}

    def spread(row: dict[str, Any]) -> str:
        scores = [replica[metric] for replica in row.get("replicas", [])]
        return f"{len(scores)}: {mean(scores):.4f} ± {stdev(scores):.4f}" if scores else ""

    return {"seeds alone": (22, spread)}


def _console(svg: Path | None) -> Console:
    """As wide as the terminal; as wide as the table where there is none."""
    console = Console(record=svg is not None, highlight=False)
    if console.is_terminal and svg is None:
        return console
    return Console(record=svg is not None, highlight=False, width=180)


def _print(console: Console, table: Table, svg: Path | None, note: str) -> None:
    console.print(table)
    if note:
        console.print(note, style="dim")
    if svg:
        console.save_svg(str(svg), title="pipeline")
        print(f"saved {svg}")
