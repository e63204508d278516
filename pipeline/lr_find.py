"""The learning-rate range test of one model, from params.yaml to a line of advice, a picture and a table."""

import json
from dataclasses import asdict

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.artefacts import FOLDS, PACKED, PARAMS, REPORTS, atomic
from pipeline.config.base import read_params
from pipeline.config.model import ModelConfig
from pipeline.config.students import parse_entry
from pipeline.errors import UserError
from pipeline.lr_range import FEWEST, RangeCurve, range_test, suggest
from pipeline.plots.lr_range import draw_lr_range
from pipeline.stages.competition import load_competition
from pipeline.stages.train import fold_jobs, with_features
from pipeline.training.job import FoldJob
from pipeline.training.transfer import require_other_data

FOLDER = REPORTS / "lr"     # <model>.png, <model>.csv


def find_lr(name: str, *, low: float, high: float, steps: int, fold: int, as_json: bool) -> None:
    """Tests a model on one fold's training rows, writes reports/lr/ and prints what to set; raises UserError."""
    _require_sound(low=low, high=high, steps=steps)
    raw = read_params(PARAMS)
    config = parse_entry(name, raw)
    job = _job(name, config, fold, seed=raw["seed"])
    curve = _tested(job, low=low, high=high, steps=steps)
    found = suggest(curve, where=f"lr-find {name} --from {low:g} --to {high:g}")
    current = config.optimiser.lr
    table, picture = FOLDER / f"{name}.csv", FOLDER / f"{name}.png"
    figure = draw_lr_range(
        curve.lrs, curve.losses, smoothed=curve.smoothed, suggested=found.steepest, bound=found.bound,
        current=current, title=f"{name}, {job.label}: learning-rate range test",
    )
    with atomic(table) as temporary:
        pd.DataFrame({"step": range(1, len(curve.lrs) + 1), "lr": curve.lrs, "loss": curve.losses,
                      "smoothed": curve.smoothed}).to_csv(temporary, index=False)
    with atomic(picture) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    if as_json:
        print(json.dumps({"model": name, "fold": fold, "current": current, **asdict(found), "steps": len(curve.lrs),
                          "picture": str(picture), "table": str(table)}, indent=2))
        return
    section = "students" if config.pseudo else "models"
    print(f"{name}: the loss falls fastest at {found.steepest:.2g}; a tenth of the rate where it is lowest is "
          f"{found.bound:.2g}; set {section}.{name}.optimiser.lr: {found.steepest:.2g} in {PARAMS} (now {current:g})")
    if not found.turned:
        print(f"{name}: the loss still fell at --to {high:g}, so the second rate is only what was tried")
    print(f"saved {picture} and {table}")


def _require_sound(*, low: float, high: float, steps: int) -> None:
    if not 0 < low < high:
        raise UserError(f"lr-find: --from {low:g} --to {high:g}: expected two rates, 0 < from < to")
    if steps < FEWEST:
        raise UserError(f"lr-find: --steps {steps}: expected at least {FEWEST}, for a curve that can be read")


def _job(name: str, config: ModelConfig, fold: int, *, seed: int) -> FoldJob:
    """The first replica's job, with the files of what is computed once for all folds."""
    missing = [str(path) for path in (PACKED, FOLDS) if not path.exists()]
    if missing:
        raise UserError(f"{' and '.join(missing)}: missing; fix: dvc repro folds")
    competition = load_competition()
    cells = len(competition.cells)
    if not 0 <= fold < cells:
        raise UserError(f"lr-find: --fold {fold}: expected 0 to {cells - 1}")
    require_other_data(config, data_digest=competition.packed.digest)
    return with_features([fold_jobs(name, config, seed, competition)[fold]], config)[0]


def _tested(job: FoldJob, *, low: float, high: float, steps: int) -> RangeCurve:
    """The test under a bar; a bar needs a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
               TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{job.model} {job.label}", total=steps, text="")

        def show(step: int, loss: float) -> None:
            progress.update(task, completed=step, text=f"loss {loss:.3f}")

        return range_test(job, low=low, high=high, steps=steps, after_step=show)
