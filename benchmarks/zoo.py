"""Every net of the registry at its default options: cost, speed, and what it learns of the digits on a small budget.

    python benchmarks/zoo.py [--epochs 4] [--nets resnet18,vgg11] [--limit 400] [--fresh]

The same epochs, folds, batches and optimiser for every net, but for the learning rates in LEARNING_RATES. A net that
would take longer than --limit seconds, estimated from one step, is listed as skipped. Scores come first, net by net
(a killed run goes on behind the last one); then images/s of all nets, in turns on one thread. Writes
benchmarks/results/zoo.json and zoo.md.
"""

from contextlib import redirect_stdout
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from fold_run import fold_job, held_probabilities, pack_once, parser, split, train_folds, working_directory
from report import RESULTS, interleaved, summary, write
from rich.console import Console

from pipeline.artefacts import read_json
from pipeline.config.data import DataConfig
from pipeline.config.model import ModelConfig
from pipeline.data.store import open_packed
from pipeline.errors import UserError
from pipeline.metrics import accuracy, log_loss
from pipeline.nets.cost import cost
from pipeline.nets.families import NETS
from pipeline.nets.registry import build
from pipeline.training.executors import device_for, run_jobs
from pipeline.training.optimiser import make_optimiser
from pipeline.training.precision import autocast, resolve_precision

FOLDS, ROUNDS, REPEATS, CLASSES, CHANNELS = 2, 3, 3, 10, 1
CANVASES = (32, 64, 96, 128, 224)           # the first that the net takes
SETTING: dict[str, Any] = {
    "fill": 0.95, "augment": {"rotation": 10.0, "translation": 0.05, "zoom": 1.1, "shear": 5.0},
    "batch": 32, "optimiser": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.05, "clip": 1.0},
    "schedule": {"name": "cosine", "warmup": 0.1}, "ema": None, "weights": "last", "validate_every": 10_000,
}
LEARNING_RATES = {                          # where measured to matter on this budget
    **dict.fromkeys(("alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "vgg16_small"), 1e-3),      # wide dense layers
    **dict.fromkeys(("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"), 1e-2),       # start as the identity
}
Row = dict[str, Any]


def main() -> None:
    options = arguments()
    console = Console()
    names = options.nets.split(",") if options.nets else list(NETS)
    budget = {**SETTING, "learning_rates": LEARNING_RATES, "epochs": options.epochs, "folds": FOLDS,
              "rows": options.limit_rows, "data": "digits"}
    rows = {} if options.fresh else known(budget)
    with working_directory(options.work) as work:
        packed = pack_once(DataConfig(source="digits", path="."), work / "digits")
        for name in names:
            if name not in rows:
                rows[name] = scored(name, options, packed, work)
                save(rows, budget)
            console.print(said(name, rows[name]), highlight=False)
    if any("images_per_second" not in row for row in rows.values()):
        with console.status("images per second, all nets in turns"):
            [rates] = run_jobs(step_rates, [{name: row["canvas"] for name, row in rows.items()}], slots=1)
        rows = {name: row | rates[name] for name, row in rows.items()}
    save(rows, budget)
    console.print((RESULTS / "zoo.md").read_text(), highlight=False)


def arguments() -> Any:
    made = parser(__doc__)
    made.add_argument("--epochs", type=int, default=4)
    made.add_argument("--nets", help="names, separated by commas; all by default")
    made.add_argument("--limit", type=float, default=400, help="seconds of training that a net may take")
    made.add_argument("--fresh", action="store_true", help="forget earlier results")
    return made.parse_args()


def scored(name: str, options: Any, packed: Path, work: Path) -> Row:
    """Cost and scores of one net; without scores, and with the reason, where it would take too long."""
    config = setting(name, epochs=options.epochs)
    parameters, flops = cost(name, options={}, n_classes=CLASSES, channels=CHANNELS, canvas=config.canvas)
    row: Row = {"canvas": config.canvas, "parameters": parameters, "flops": flops}
    parts = split(packed, k=FOLDS, limit=options.limit_rows)
    [step] = run_jobs(step_seconds, [(name, config)], slots=1)
    steps = sum(len(cell.fit_rows) // config.batch for cell in parts) * options.epochs
    expected = step * steps / min(options.jobs, FOLDS)
    if expected > options.limit:
        return row | {"skipped": f"about {expected:.0f} s of training, more than {options.limit:.0f}"}
    jobs = [fold_job(name, config, packed=packed, cell=cell, work=work) for cell in parts]
    started = perf_counter()
    train_folds(jobs, name, slots=options.jobs)
    seconds = perf_counter() - started
    probabilities = np.concatenate(held_probabilities([(job, config.tta) for job in jobs], slots=options.jobs))
    labels = open_packed(packed).labels[np.concatenate([job.held_rows for job in jobs])]
    return row | {"accuracy": round(accuracy(probabilities, labels), 4),
                  "log_loss": round(log_loss(probabilities, labels), 4), "n": len(labels), "seconds": round(seconds, 1)}


def setting(name: str, *, epochs: int) -> ModelConfig:
    """The section of one net, at the first canvas that it takes."""
    optimiser = SETTING["optimiser"] | ({"lr": LEARNING_RATES[name]} if name in LEARNING_RATES else {})
    for canvas in CANVASES:
        try:
            with torch.device("meta"):
                build(name, options={}, n_classes=CLASSES, channels=CHANNELS, canvas=canvas)
        except UserError:
            continue
        return ModelConfig.model_validate(
            {**SETTING, "net": name, "canvas": canvas, "epochs": epochs, "optimiser": optimiser})
    raise UserError(f"net '{name}' takes none of the canvases {CANVASES}")


def step_rates(canvases: dict[str, int]) -> dict[str, Row]:
    """Images per second of each net's training step on one thread, and quartiles of its seconds.

    The nets take turns, ROUNDS times a few steps each, and only one is in memory at a time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in canvases}
    for _ in range(ROUNDS):
        for name in canvases:
            step = make_step(name, setting(name, epochs=1))
            seconds[name] += interleaved({name: step}, repeats=REPEATS)[name]
    return {name: {"images_per_second": round(SETTING["batch"] / summary(taken)["median"], 1),
                   "seconds_per_step": summary(taken)} for name, taken in seconds.items()}


def step_seconds(ask: tuple[str, ModelConfig]) -> float:
    """Seconds of one training step, after one that is not counted."""
    [taken] = interleaved({"step": make_step(*ask)}, repeats=1)["step"]
    return taken


def make_step(name: str, config: ModelConfig) -> Any:
    """Forward, backward and update of one batch of noise."""
    torch.manual_seed(0)
    device = torch.device(device_for(0))
    precision = resolve_precision(config.precision, str(device))
    net = build(name, options={}, n_classes=CLASSES, channels=CHANNELS, canvas=config.canvas)
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = make_optimiser(net, config.optimiser)
    side = config.canvas
    images = torch.randn(config.batch, side, side, CHANNELS, device=device).permute(0, 3, 1, 2)       # (B, 1, S, S)
    labels = torch.randint(0, CLASSES, (config.batch,), device=device)

    def step() -> None:
        with autocast(precision, device):
            logits = net(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()                                                          # waits for a GPU

    return step


def known(budget: Row) -> dict[str, Row]:
    """The rows of an earlier run with the same budget; a net that was skipped gets another chance."""
    path = RESULTS / "zoo.json"
    if not path.exists() or read_json(path)["budget"] != budget:
        return {}
    return {name: row for name, row in read_json(path)["nets"].items() if "skipped" not in row}


def save(rows: dict[str, Row], budget: Row) -> None:
    """zoo.json, and the same as a table; in the registry's order."""
    ordered = {name: rows[name] for name in NETS if name in rows}
    with redirect_stdout(None):
        write("zoo", {"budget": budget, "threads": 1, "precision": resolve_precision("auto", device_for(0)),
                      "nets": ordered})
    (RESULTS / "zoo.md").write_text("\n".join([*heading(budget), *(line(*item) for item in ordered.items())]) + "\n")


def heading(budget: Row) -> list[str]:
    return [
        f"Digits, {FOLDS} folds, {budget['epochs']} epochs, the same setting for every net (zoo.json); out-of-fold "
        "scores.", "FLOPs of one image at its canvas; images/s in training on one thread. Made by "
        "`python benchmarks/zoo.py`.",
        "",
        "| net | canvas | parameters | FLOPs | images/s | accuracy | log loss | n | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]


def line(name: str, row: Row) -> str:
    rate = f"{row['images_per_second']:,.0f}" if "images_per_second" in row else ""
    scores = [row["skipped"], "", "", ""] if "skipped" in row else [
        f"{row['accuracy']:.3f}", f"{row['log_loss']:.3f}", row["n"], f"{row['seconds']:.0f}"]
    cells = [name, row["canvas"], f"{row['parameters']:,}", f"{row['flops'] / 1e6:,.1f} M", rate, *scores]
    return f"| {' | '.join(map(str, cells))} |"


def said(name: str, row: Row) -> str:
    if "skipped" in row:
        return f"{name}: skipped, {row['skipped']}"
    return f"{name}: accuracy {row['accuracy']:.3f}, log loss {row['log_loss']:.3f}, {row['seconds']:.0f} s"


if __name__ == "__main__":
    main()
