"""Terminal tables over reports/: leaderboard, leave-one-out, diversity."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.artefacts import REPORTS, SUBMISSIONS, read_json
from pipeline.errors import UserError

METRIC_TITLES = {"log_loss": "log loss", "accuracy": "accuracy", "top_5": "top-5", "macro_f1": "macro-F1"}


def leaderboard(*, as_json: bool, svg: Path | None = None) -> None:
    """Members and methods, best nested score first; raises UserError when there is no report yet."""
    report = _report()
    rows = _sorted(report)
    if as_json:
        print(json.dumps({**{k: v for k, v in report.items() if k != "loo"}, "leaderboard": rows}, indent=2))
        return
    title = METRIC_TITLES[report["metric"]]
    table = Table(title=f"Leaderboard: {report['rows']} rows, {report['classes']} classes, {report['folds']} folds; "
                        f"final: {report['final']} ({report['why']})", title_justify="left")
    for column in ("", "kind", *METRIC_TITLES.values(), "in sample", "optimism", "vs uniform", "vs best single"):
        table.add_column(column, justify="left" if column in ("", "kind") else "right", no_wrap=True)
    for row in rows:
        in_sample = row.get("in_sample", {}).get(report["metric"])
        optimism = None if in_sample is None else abs(row["nested"][report["metric"]]) - in_sample
        style = "bold green" if row["name"] == report["final"] else "red" if row.get("excluded") else ""
        table.add_row(
            row["name"] + (" (left out)" if row.get("excluded") else ""), row["kind"],
            *(f"{row['nested'][m]:.4f}" for m in METRIC_TITLES),
            "" if in_sample is None else f"{in_sample:.4f}", "" if optimism is None else f"{optimism:+.4f}",
            "" if row["name"] == "uniform" else _interval(row["vs_uniform"]),
            "" if row["name"] == "best single" else _interval(row["vs_best_single"]),
            style=style,
        )
    better = "greater" if report["greater_is_better"] else "less"
    _print(table, svg, f"{title}: {better} is better. Methods are scored nested: weights fitted without the fold that "
                       f"is scored; members and uniform fit nothing. vs: paired difference in {title} with its "
                       f"{report['level']:.0%} bootstrap interval; below zero is better.")
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
    _print(table, svg, f"lost: nested loss without the member minus with it, {report['level']:.0%} paired bootstrap "
                       "interval; above zero the member earns its place.")


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
    _print(table, None, "")


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
    """Says which methods are not better than the best single member, as the table promises to."""
    worse = [r["name"] for r in report["leaderboard"] if r["kind"] == "method" and r["vs_best_single"]["high"] >= 0]
    if worse:
        print(f"not distinguishably better than the best single member: {', '.join(worse)}")


def _print(table: Table, svg: Path | None, note: str) -> None:
    width = 160 if svg else None
    console = Console(record=svg is not None, width=width, highlight=False)
    if console.width < 150 and not console.is_terminal:
        console = Console(width=160, highlight=False)
    console.print(table)
    if note:
        console.print(note, style="dim")
    if svg:
        console.save_svg(str(svg), title="pipeline")
        print(f"saved {svg}")
