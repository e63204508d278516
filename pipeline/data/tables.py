"""A competition's text tables: plain, gzipped or zipped CSV, every cell kept as the text that it is."""

from pathlib import Path

import pandas as pd
from pandas.errors import EmptyDataError, ParserError

from pipeline.errors import UserError


def read_text_table(path: Path) -> pd.DataFrame:
    """The table with all cells as strings: ids keep leading zeros, a class named `NA` stays `NA`, no cell is missing.

    The suffix says the compression (.csv, .csv.gz, .csv.zip). Raises UserError when missing or unreadable.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (EmptyDataError, ParserError, UnicodeDecodeError, ValueError, OSError) as error:
        raise UserError(f"{path} is not a readable CSV table ({' '.join(str(error).split())})") from None
    return table.astype(object)
