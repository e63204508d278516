"""Stage `prepare`: raw images -> data/packed, the only stage that reads the raw data."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.artefacts import PACKED, PARAMS
from pipeline.config.base import parse, read_params
from pipeline.config.data import DataConfig
from pipeline.data.pack import pack


def run() -> None:
    """Packs the competition; raises UserError with one line for everything that is wrong with the raw data."""
    config = parse(DataConfig, read_params(PARAMS)["data"], "data")
    columns = (TextColumn("prepare"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("prepare", total=None)
        packed = pack(config, PACKED, progress=lambda done, total: bar.update(task, completed=done, total=total))
    print(f"{PACKED}: {packed.n_train} training and {packed.n_test} test images, {len(packed.classes)} classes, "
          f"{packed.pixels.nbytes / 2**20:.0f} MiB")
