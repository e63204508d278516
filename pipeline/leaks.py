"""The leak alarm's table, its conclusion, and the exit code."""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict

from rich.table import Table

from pipeline.errors import listed
from pipeline.stages import leaks
from pipeline.tables import console_for, finish

BLIND = ("Shuffled labels test the level above the networks only: a member whose networks saw its rows was made before "
         "the shuffle, so only 'out of fold against test' can show it; what all members share shows in neither.")


def sound(*, shuffles: int, stackers: bool, as_json: bool) -> int:
    """Runs every check, prints what it found and returns the exit code: 1 when something leaks; raises UserError."""
    with redirect_stdout(sys.stderr):       # progress
        findings = leaks.run(shuffles=shuffles, stackers=stackers)
    guilty = list(dict.fromkeys(f.what for f in findings if f.alarm))
    unsure = list(dict.fromkeys(f.what for f in findings if f.verdict == leaks.CANNOT_TELL))
    if as_json:
        print(json.dumps({"leaks": guilty, "findings": [asdict(f) for f in findings]}, indent=2))
        return 1 if guilty else 0
    table = Table(title="Leak alarm", title_justify="left")
    for column in ("check", "what", "statistic", "verdict"):
        table.add_column(column)
    for f in findings:
        table.add_row(f.check, f.what, f.statistic, f.verdict, style="red" if f.alarm else "")
    finish(console_for(), table, note=BLIND)
    if guilty:
        print(f"leaks: {listed(guilty, limit=len(guilty))}")
    else:
        print("nothing leaks" + f"; memorised rows would not show in {', '.join(unsure)}" * bool(unsure))
    return 1 if guilty else 0
