"""What the terminal tables share: the report, the console, and how an interval reads."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.artefacts import REPORTS, read_json
from pipeline.errors import UserError

METRIC_TITLES = {"log_loss": "log loss", "accuracy": "accuracy", "top_5": "top-5", "macro_f1": "macro-F1"}
WIDE = 220      # characters, where there is no terminal


def read_report() -> dict[str, Any]:
    """reports/ensemble.json; raises UserError when there is none yet."""
    try:
        return read_json(REPORTS / "ensemble.json")
    except FileNotFoundError:
        raise UserError(missing("ensemble.json")) from None


def print_csv(name: str) -> None:
    """Prints reports/<name>.csv as it is; raises UserError when there is none yet."""
    try:
        print((REPORTS / f"{name}.csv").read_text(), end="")
    except FileNotFoundError:
        raise UserError(missing(f"{name}.csv")) from None


def missing(name: str) -> str:
    """The error of a report that no run has made."""
    return f"{REPORTS / name} is missing; fix: dvc repro"


def interval_text(row: dict[str, Any]) -> str:
    """`+0.0123 [+0.0100, +0.0146]` of difference, low and high."""
    return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


def console_for(svg: Path | None = None) -> Console:
    """As wide as the terminal; as wide as the table where there is none."""
    console = Console(record=svg is not None, highlight=False)
    if console.is_terminal and svg is None:
        return console
    return Console(record=svg is not None, highlight=False, width=WIDE)


def finish(console: Console, table: Table, *, svg: Path | None = None, note: str = "") -> None:
    """Prints the table and its note, saves both as a picture, and says where."""
    console.print(table)
    if note:
        console.print(note, style="dim")
    if svg:
        console.save_svg(str(svg), title="pipeline")
        print(f"saved {svg}")


def picture(name: str) -> None:
    """Says where the picture of this table lies, if a run has drawn it."""
    path = REPORTS / "figures" / f"{name}.png"
    if path.exists():
        print(f"picture: {path}")
