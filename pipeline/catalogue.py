"""The nets that `models.<name>.net` can name, and what each costs at one canvas."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.errors import UserError
from pipeline.nets.cost import cost
from pipeline.nets.families import NETS, PREFIXES
from pipeline.nets.registry import options_of


def nets(*, canvas: int, channels: int, as_json: bool) -> None:
    """Prints every net of the registry with its options; where a net does not take the canvas, the reason."""
    rows = [_row(name, canvas=canvas, channels=channels) for name in NETS]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title=f"Nets at {canvas} px, {channels} channel{'s' * (channels > 1)}, 10 classes, default options",
                  title_justify="left")
    for column in ("net", "parameters", "MFLOPs", "options"):
        table.add_column(column, justify="left" if column in ("net", "options") else "right")
    for row in rows:
        numbers = (f"{row['parameters']:,}", f"{row['flops'] / 1e6:,.1f}") if "flops" in row else ("", "")
        table.add_row(row["net"], *numbers, row.get("refused") or ", ".join(row["options"]))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"and {', '.join(f'{prefix}:<name>' for prefix in PREFIXES)}; FLOPs of one forward pass, "
                  "a multiplication and an addition are two", style="dim")


def _row(name: str, *, canvas: int, channels: int) -> dict[str, Any]:
    row: dict[str, Any] = {"net": name, "canvas": canvas, "channels": channels, "options": options_of(name)}
    try:
        parameters, flops = cost(name, options={}, n_classes=10, channels=channels, canvas=canvas)
    except UserError as error:
        return {**row, "refused": str(error)}
    return {**row, "parameters": parameters, "flops": flops}
