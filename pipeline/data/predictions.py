"""Tables of predictions that travel between tools: CSV or parquet by suffix, ids and class names as text."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.artefacts import atomic
from pipeline.data.tables import read_text_table
from pipeline.errors import UserError

EXACT = "%.9g"      # nine significant digits: every float32 comes back as itself (IEEE 754-2019, 5.12.2)


def read_predictions(path: Path) -> pd.DataFrame:
    """The table; from CSV (also .csv.gz, .csv.zip) every cell is text. Raises UserError when missing or unreadable."""
    if path.suffix != ".parquet":
        return read_text_table(path)
    try:
        table = pq.read_table(path).to_pandas(ignore_metadata=True)
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable parquet table ({' '.join(str(error).split())})") from None
    return table.set_axis([str(c) for c in table.columns], axis=1)


def write_predictions(path: Path, table: pd.DataFrame) -> None:
    """Writes the table atomically; raises UserError for another suffix than .csv and .parquet."""
    check_suffix(path)
    with atomic(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format=EXACT)
        else:
            pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary)


def check_suffix(path: Path) -> None:
    """Raises UserError unless `path` ends in .csv or .parquet."""
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path}: unknown suffix '{path.suffix}'; allowed: '.csv', '.parquet'")
