"""The competition's sample submission: it fixes ids, their spelling and order, and the order of the classes."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.data.tables import read_text_table
from pipeline.errors import UserError
from pipeline.submission import check_sample


def read_sample(path: Path, *, test_ids: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """The sample (.csv, .csv.gz, .csv.zip) with ids as text, checked against the data.

    Raises UserError, naming the file, when it is missing or unreadable or has other ids or classes.
    """
    sample = read_text_table(path)
    try:
        check_sample(sample, test_ids=test_ids, classes=classes)
    except UserError as error:
        raise UserError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    return sample
