"""The one exception for a user's mistake: a clear line, exit code 2, no traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What is wrong, where, the allowed values, and the fix, in one line for the terminal."""


def nearest(name: object, allowed: Iterable[object]) -> str:
    """`; did you mean 'x'?` for the closest of `allowed`, or the empty string."""
    close = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def listed(items: Iterable[object], *, limit: int = 8) -> str:
    """`'a', 'b', 'c' and 5 more`: a list that stays on one line."""
    names = [f"'{item}'" for item in items]
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
