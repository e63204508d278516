"""Terminal tables on the members: leave-one-out, how many are enough, how differently they err."""

import json
from pathlib import Path

import pandas as pd
from rich.table import Table

from pipeline.artefacts import REPORTS
from pipeline.errors import UserError
from pipeline.tables import (
    METRIC_TITLES,
    console_for,
    finish,
    interval_text,
    missing,
    picture,
    print_csv,
    read_report,
)

STYLES = {"helps": "green", "hurts": "red"}


def leave_one_out(*, as_json: bool, as_csv: bool, check: bool, svg: Path | None = None) -> int:
    """What the final ensemble scores without each member, the most useful first; raises UserError.

    Returns the exit code: with `check`, 1 when a member hurts.
    """
    report = read_report()
    rows = sorted(report["loo"], key=lambda r: -r["nested_difference"])
    method = report["loo_method"]
    hurtful = [row["member"] for row in rows if row["verdict"] == "hurts"]
    if as_csv:
        print_csv("loo")
    elif as_json:
        print(json.dumps({"method": method, "metric": report["metric"], "loo": rows}, indent=2))
    elif not rows:
        print("leave-one-out needs a method with weights on two members or more")
    else:
        title = METRIC_TITLES[report["metric"]]
        full = next(r for r in report["leaderboard"] if r["name"] == method)
        table = Table(title=f"Leave-one-out of {method}: {title} without each member "
                            f"(with all: {full['in_sample'][report['metric']]:.4f} in sample, "
                            f"{full['nested'][report['metric']]:.4f} nested)", title_justify="left")
        for column in ("left out", "weight", "weights kept", "refitted", "nested", "lost by leaving it out", "verdict"):
            table.add_column(column, justify="left" if column in ("left out", "verdict") else "right", no_wrap=True)
        for row in rows:
            table.add_row(row["member"], f"{row['weight']:.3f}", f"{row['kept']:.4f}", f"{row['refitted']:.4f}",
                          f"{row['nested']:.4f}", interval_text(row | {"difference": row["nested_difference"]}),
                          row["verdict"], style=STYLES.get(row["verdict"], ""))
        note = (f"lost: nested loss without the member minus with it, {report['level']:.0%} paired bootstrap interval; "
                "above zero the member earns its place.")
        if method != report["final"]:
            note += (f" The final method, {report['final']}, has no weights on members, or takes long to fit again; "
                     "this is the best of the others.")
        finish(console_for(svg), table, svg=svg, note=note)
        picture("loo")
    return 1 if check and hurtful else 0


def paths(*, as_json: bool, as_csv: bool) -> None:
    """Scores of the even and of the best linear weights with 1, 2, ... members; raises UserError."""
    report = read_report()
    if as_csv:
        print_csv("paths")
        return
    if as_json:
        print(json.dumps({"metric": report["metric"], "paths": report["paths"]}, indent=2))
        return
    title = METRIC_TITLES[report["metric"]]
    table = Table(title=f"{title} of 1, 2, ... members: added where it helps most, removed where it is missed least",
                  title_justify="left")
    for column in ("members", "added", "uniform", "nested", "blend", "nested",
                   "removed next", "uniform", "nested", "blend", "nested"):
        table.add_column(column, justify="left" if column in ("added", "removed next") else "right", no_wrap=True)
    steps = {(s["method"], s["order"], s["members"]): s for s in report["paths"]}
    for size in range(1, 1 + max((s["members"] for s in report["paths"]), default=0)):
        cells = []
        for order in ("added", "removed"):
            cells.append(steps["uniform", order, size]["member"])
            cells += [f"{steps[method, order, size][form]:.4f}" for method in ("uniform", "blend")
                      for form in ("in_sample", "nested")]
        table.add_row(str(size), *cells)
    finish(console_for(), table, note="nested: the order, too, is chosen without the fold that is scored.")
    picture("paths")


def diversity(*, as_json: bool, as_csv: bool) -> None:
    """Correlation of errors above the diagonal, disagreement of the top class below it; raises UserError."""
    if as_csv:
        print_csv("diversity")
        return
    try:
        pairs = pd.read_csv(REPORTS / "diversity.csv")
    except FileNotFoundError:
        raise UserError(missing("diversity.csv")) from None
    ambiguity = read_report()["ambiguity"]
    if as_json:
        print(json.dumps({"pairs": pairs.to_dict("records"), "ambiguity": ambiguity}, indent=2))
        return
    log_loss, brier = ambiguity["log_loss"], ambiguity["brier"]
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
    finish(console_for(), table, note=(
        f"Log loss of the members, mean: {log_loss['mean_loss']:.4f}; of their geometric mean: "
        f"{log_loss['ensemble_loss']:.4f}; the difference, {log_loss['ambiguity']:.4f}, is their ambiguity. "
        f"Brier score: {brier['mean_loss']:.4f}, of the arithmetic mean {brier['ensemble_loss']:.4f}, ambiguity "
        f"{brier['ambiguity']:.4f}. Q-statistic and double fault of every pair: --csv."))
    picture("diversity")
