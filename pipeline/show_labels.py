"""Terminal tables on the classes and labels: calibration, confusions, labels that are probably wrong."""

import json

import pandas as pd
from rich.table import Table

from pipeline.artefacts import REPORTS
from pipeline.ensemble.reliability import top_confusions
from pipeline.errors import UserError
from pipeline.tables import console_for, finish, missing, picture, print_csv, read_report

SHOWN = 15      # classes and confusions in the table


def calibration(*, as_json: bool, as_csv: bool) -> None:
    """How far the final method's probabilities can be trusted, and which classes cost most; raises UserError."""
    if as_csv:
        print_csv("classes")
        return
    report, curve, classes = read_report(), _table("reliability"), _table("classes")
    if as_json:
        print(json.dumps({"method": report["final"], "reliability": curve.to_dict("records"),
                          "classes": classes.to_dict("records")}, indent=2))
        return
    console = console_for()
    table = Table(title=f"Calibration of {report['final']}, nested: rows by the probability of their top class",
                  title_justify="left")
    for column in ("rows", "confidence", "accuracy", "95% interval"):
        table.add_column(column, justify="right")
    for row in curve.to_dict("records"):
        outside = not row["low"] <= row["confidence"] <= row["high"]
        table.add_row(str(row["count"]), f"{row['confidence']:.4f}", f"{row['accuracy']:.4f}",
                      f"[{row['low']:.4f}, {row['high']:.4f}]", style="red" if outside else "")
    finish(console, table, note="red: the confidence lies outside the interval of the accuracy.")
    classes = classes.assign(cost=classes["count"] * classes["log_loss"] / classes["count"].sum())
    costly = classes.sort_values("cost", ascending=False).head(SHOWN)
    table = Table(title="Classes by their share of the log loss", title_justify="left")
    for column in ("class", "rows", "predicted", "accuracy", "log loss", "share of the loss"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for row in costly.to_dict("records"):
        table.add_row(str(row["label"]), str(row["count"]), str(row["predicted"]), f"{row['accuracy']:.4f}",
                      f"{row['log_loss']:.4f}", f"{row['cost'] / max(classes['cost'].sum(), 1e-15):.1%}")
    finish(console, table)
    table = Table(title="Largest confusions", title_justify="left")
    for column in ("actual", "predicted", "rows", "share of the actual class"):
        table.add_column(column, justify="left" if column in ("actual", "predicted") else "right")
    pairs = _table("confusion")
    names = sorted(set(pairs["actual"]) | set(pairs["predicted"]))
    matrix = pd.crosstab(pairs["actual"], pairs["predicted"]).reindex(index=names, columns=names, fill_value=0)
    for c in top_confusions(matrix.to_numpy(), most=SHOWN):
        table.add_row(names[c.actual], names[c.predicted], str(c.count), f"{c.share:.1%}")
    finish(console, table)
    picture("reliability")
    picture("confusion")


def label_errors(*, as_json: bool, as_csv: bool, top: int) -> None:
    """Training rows whose label the final method doubts, the most doubtful first; raises UserError."""
    if as_csv:
        print_csv("label_errors")
        return
    doubted = _table("label_errors")
    if as_json:
        print(json.dumps(doubted.head(top).to_dict("records"), indent=2))
        return
    table = Table(title=f"{len(doubted)} labels to look at, by confident learning on nested predictions",
                  title_justify="left")
    for column in ("id", "given", "its probability", "suggested", "its probability"):
        table.add_column(column, justify="right" if column == "its probability" else "left")
    for row in doubted.head(top).to_dict("records"):
        table.add_row(str(row["id"]), str(row["given"]), f"{row['p_given']:.4f}", str(row["suggested"]),
                      f"{row['p_suggested']:.4f}")
    finish(console_for(), table, note=f"all of them: {REPORTS / 'label_errors.csv'}")
    picture("label_errors")


def _table(name: str) -> pd.DataFrame:
    try:
        return pd.read_csv(REPORTS / f"{name}.csv", dtype=dict.fromkeys(("id", "label", "actual", "predicted"), str))
    except FileNotFoundError:
        raise UserError(missing(f"{name}.csv")) from None
