"""The command line: one call per command; heavy imports inside the commands, so that `--help` is instant."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError

STAGES, LOOK, TOOLS = "Stages (dvc repro runs them)", "Looking at the ensemble", "Members from and for other tools"
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Model = Annotated[str, typer.Argument(help="A key under models: or students: in params.yaml.")]
Student = Annotated[str, typer.Argument(help="A key under students: in params.yaml.")]
Stacker = Annotated[str, typer.Argument(help="A key under stackers: in params.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the rows as JSON instead of a table.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print the rows as CSV instead of a table.")]
Svg = Annotated[Path | None, typer.Option(help="Also save the table as a picture.")]


def main() -> None:
    """Runs a command; a user's mistake, or a file that is not there, is a clear line on stderr and exit code 2."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # same bytes whatever runs beside; parallelism is processes
    try:
        app(prog_name="pipeline")
    except UserError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    except FileNotFoundError as error:
        print(f"error: {error.filename} is missing; fix: dvc repro, which makes it", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; finished work is kept: run the same command again to go on", file=sys.stderr)
        sys.exit(130)


@app.command(rich_help_panel=STAGES)
def check() -> None:
    """Check all of params.yaml and write the plan of the stages."""
    from pipeline.stages import check as stage

    stage.run()


@app.command(rich_help_panel=STAGES)
def prepare() -> None:
    """Read the raw images into the packed store data/packed."""
    from pipeline.stages import prepare as stage

    stage.run()


@app.command(rich_help_panel=STAGES)
def folds() -> None:
    """Assign every training row to a fold."""
    from pipeline.stages import folds as stage

    stage.run()


@app.command(rich_help_panel=STAGES)
def train(model: Model) -> None:
    """Train every fold of one model; goes on where a killed run stopped."""
    from pipeline.stages import train as stage

    stage.run(model)


@app.command(rich_help_panel=STAGES)
def predict(model: Model) -> None:
    """Write a model's out-of-fold and test probabilities and its penultimate features."""
    from pipeline.stages import predict as stage

    stage.run(model)


@app.command(rich_help_panel=STAGES)
def teach(student: Student) -> None:
    """Write what the test images are to a student: its teachers' mean, fold by fold."""
    from pipeline.stages import teach as stage

    stage.run(student)


@app.command(rich_help_panel=STAGES)
def stack(model: Model, stacker: Stacker) -> None:
    """Fit one stacker on one model's features, fold by fold."""
    from pipeline.stages import stack as stage

    stage.run(model, stacker)


@app.command(rich_help_panel=STAGES)
def foreign(name: Annotated[str, typer.Argument(help="A key under foreign: in params.yaml.")]) -> None:
    """Check an imported member once more and let it join."""
    from pipeline.stages import foreign as stage

    stage.run(name)


@app.command(rich_help_panel=STAGES)
def collect() -> None:
    """Check the members that params.yaml names and delete the artefacts of all others."""
    from pipeline.stages import collect as stage

    stage.run()


@app.command(rich_help_panel=STAGES)
def ensemble() -> None:
    """Combine the members by every method and score each one in sample and nested."""
    from pipeline.stages import ensemble as stage

    stage.run()


@app.command(rich_help_panel=STAGES)
def submit() -> None:
    """Write and check submissions/<method>.csv and submissions/final.csv."""
    from pipeline.stages import submit as stage

    stage.run()


@app.command()
def repro(jobs: Annotated[int, typer.Option(min=1, help="Stages side by side; they share the cores.")] = 2) -> None:
    """Run `dvc repro` with independent stages side by side, then look at the result."""
    from pipeline.repro import reproduce

    reproduce(jobs=jobs)


@app.command(rich_help_panel=LOOK)
def leaderboard(as_json: AsJson = False, as_csv: AsCsv = False, svg: Svg = None) -> None:
    """Scores of every member and method: in sample, nested, and against uniform and the best single member."""
    from pipeline import show

    show.leaderboard(as_json=as_json, as_csv=as_csv, svg=svg)


@app.command(rich_help_panel=LOOK)
def loo(
    as_json: AsJson = False, as_csv: AsCsv = False, svg: Svg = None,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 when a member hurts.")] = False,
) -> None:
    """Leave-one-out: what the final ensemble scores without each member, in three forms."""
    from pipeline import show_members

    raise typer.Exit(show_members.leave_one_out(as_json=as_json, as_csv=as_csv, check=check, svg=svg))


@app.command(rich_help_panel=LOOK)
def paths(as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """How good 1, 2, ... members are, added from the best or removed from all."""
    from pipeline import show_members

    show_members.paths(as_json=as_json, as_csv=as_csv)


@app.command(rich_help_panel=LOOK)
def diversity(as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """Correlation of errors and disagreement of every pair of members, and what their diversity gains."""
    from pipeline import show_members

    show_members.diversity(as_json=as_json, as_csv=as_csv)


@app.command(rich_help_panel=LOOK)
def calibration(as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """How far the final probabilities can be trusted, and which classes cost most."""
    from pipeline import show_labels

    show_labels.calibration(as_json=as_json, as_csv=as_csv)


@app.command(rich_help_panel=LOOK)
def label_errors(
    as_json: AsJson = False, as_csv: AsCsv = False,
    top: Annotated[int, typer.Option(min=1, help="How many to show.")] = 30,
) -> None:
    """Training labels that are probably wrong, the most doubtful first."""
    from pipeline import show_labels

    show_labels.label_errors(as_json=as_json, as_csv=as_csv, top=top)


@app.command(rich_help_panel=LOOK)
def leaks(
    as_json: AsJson = False,
    shuffles: Annotated[int, typer.Option(min=1, help="How often the labels are shuffled within the folds.")] = 5,
    stackers: Annotated[
        bool, typer.Option("--stackers/--no-stackers", help="Fit the stackers again on shuffled labels, once.")] = True,
) -> None:
    """Leak alarm: shuffled labels, random members, memorised rows, copies; exit code 1 when something leaks."""
    from pipeline import leaks as command

    raise typer.Exit(command.sound(shuffles=shuffles, stackers=stackers, as_json=as_json))


@app.command(rich_help_panel=TOOLS)
def import_member(
    name: Annotated[str, typer.Argument(help="What the member is called here: letters, digits, '_' and '-'.")],
    oof: Annotated[Path, typer.Option(help="Their out-of-fold rows: id, fold, a column per class; CSV or parquet.")],
    test: Annotated[Path, typer.Option(help="Their test rows: id, a column per class.")],
    classes: Annotated[
        Path | None, typer.Option("--map", help="CSV theirs,ours: classes that are spelt otherwise.")] = None,
    normalise: Annotated[bool, typer.Option("--normalise", help="Divide every row by its sum.")] = False,
    hard: Annotated[
        bool, typer.Option("--hard", help="The files hold id,label: votes instead of probabilities.")] = False,
    same_folds: Annotated[
        bool, typer.Option("--same-folds", help="State that a file without fold was made on folds/folds.csv.")] = False,
) -> None:
    """Let another tool's predictions join the ensemble, under the same contract."""
    from pipeline import importing

    importing.import_member(name, oof=oof, test=test, classes=classes, normalise=normalise, hard=hard,
                            same_folds=same_folds)


@app.command(rich_help_panel=TOOLS)
def export_member(
    name: Annotated[str, typer.Argument(help="A member, or blends/<method>.")],
    oof: Annotated[Path, typer.Option(help="Where its out-of-fold rows go: .csv or .parquet.")],
    test: Annotated[Path, typer.Option(help="Where its test rows go: .csv or .parquet.")],
) -> None:
    """Write a member's rows as tables that import-member, or another tool, reads."""
    from pipeline import importing

    importing.export_member(name, oof=oof, test=test)


@app.command()
def lr_find(
    model: Model,
    low: Annotated[float, typer.Option("--from", help="The first learning rate.")] = 1e-5,
    high: Annotated[float, typer.Option("--to", help="The last learning rate.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Steps between them, by one factor.")] = 200,
    fold: Annotated[int, typer.Option(help="The fold whose training rows are used.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train one network while the learning rate rises, and say which rate suits it, with a picture."""
    from pipeline import lr_find as command

    command.find_lr(model, low=low, high=high, steps=steps, fold=fold, as_json=as_json)


@app.command()
def nets(
    canvas: Annotated[int, typer.Option(min=1, help="Side of the square input, px.")] = 64,
    channels: Annotated[int, typer.Option(min=1, help="1 for grey images, 3 for RGB.")] = 1,
    as_json: AsJson = False,
) -> None:
    """List the nets that params.yaml can name, with parameters, FLOPs and options."""
    from pipeline import catalogue

    catalogue.nets(canvas=canvas, channels=channels, as_json=as_json)


@app.command()
def prune() -> None:
    """Delete work in progress that belongs to no current model."""
    from pipeline.stages.train import prune_scratch

    prune_scratch()
