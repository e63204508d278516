"""Stackers on features at the size of a competition: seconds of one core, memory, objective and log loss.

Without `--run`: synthetic features, 24,000 x 256 in 121 classes, some of them rare, and scikit-learn's LinearSVC for
the objective of the linear machine (`--no-liblinear` leaves it out). With `--run DIR`: every model of a finished run,
each stacker calibrated out of fold, beside the model itself and the means of the two. CPU seconds of one thread,
each fit in a process of its own. Writes benchmarks/results/stackers.json, or stackers_<name of DIR>.json.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")       # before numpy: one thread, as in the stages

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from report import write
from sklearn.svm import LinearSVC

from pipeline.artefacts import FEATURES, OOF, read_json
from pipeline.config.stacker import LightgbmConfig, StackerConfig, SvmConfig
from pipeline.members import read_member
from pipeline.metrics import accuracy, log_loss
from pipeline.stackers.calibrate import calibrated
from pipeline.stackers.links import LINKS
from pipeline.stackers.projection import fit_projection
from pipeline.stackers.registry import load
from pipeline.stackers.squared_hinge import fit_squared_hinge
from pipeline.stages.competition import load_competition

STACKERS: dict[str, StackerConfig] = {
    "svm": SvmConfig(kind="svm"),
    "svm rbf": SvmConfig(kind="svm", kernel="rbf", c=1.0),
    "lightgbm": LightgbmConfig(kind="lightgbm"),
}
ROWS, FRESH, WIDTH, CLASSES, LATENT, LEAST = 24_000, 6_000, 256, 121, 40, 8


def competition() -> tuple[np.ndarray, np.ndarray]:
    """Features `(ROWS + FRESH, WIDTH)` float32, as after a ReLU, and labels of skewed classes, the rarest of 8 rows."""
    random = np.random.default_rng(0)
    prior = np.maximum(random.dirichlet(np.full(CLASSES, 0.7)), LEAST / ROWS)
    labels = random.choice(CLASSES, p=prior / prior.sum(), size=ROWS + FRESH)
    latent = 0.55 * random.normal(size=(CLASSES, LATENT))[labels] + 0.9 * random.normal(size=(len(labels), LATENT))
    seen = latent @ random.normal(size=(LATENT, WIDTH)) / np.sqrt(LATENT)
    seen += 0.7 * random.normal(size=seen.shape)
    return np.maximum(seen, 0).astype(np.float32), labels


def apart(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """Result, CPU seconds and peak GiB of a call in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, function, arguments).result()


def _measured(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float, float]:
    started = process_time()
    result = function(*arguments)
    return result, process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _scores(config: StackerConfig, x: np.ndarray, y: np.ndarray, fresh: np.ndarray, n_classes: int) -> np.ndarray:
    scores: np.ndarray = load(config.kind)(x, y, n_classes=n_classes, config=config, seed=0)(fresh)
    return scores


def _weights(solver: str, x: np.ndarray, y: np.ndarray, c: float) -> np.ndarray:
    """Weights `(WIDTH + 1, C)` of standardised rows."""
    if solver == "ours":
        return fit_squared_hinge(x, y, c=c)
    oracle = LinearSVC(C=c, dual=False, tol=1e-4).fit(x, y)
    return np.vstack([oracle.coef_.T, oracle.intercept_])


def _objective(weights: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> float:
    margins = x.astype(np.float64) @ weights[:-1] + weights[-1]
    margins[np.arange(len(y)), y] *= -1
    return float(0.5 * (weights.astype(np.float64)**2).sum() + c * (np.maximum(0, 1 + margins) ** 2).sum())


def synthetic(liblinear: bool) -> dict[str, Any]:
    """Costs, the linear machine's objective against liblinear's, and the log loss of fresh rows."""
    features, labels = competition()
    x, y, fresh, unseen = features[:ROWS], labels[:ROWS], features[ROWS:], labels[ROWS:]
    standard, c = fit_projection(x, pca=None)(x), 0.2
    solvers = {}
    for solver in ("ours", "liblinear") if liblinear else ("ours",):
        weights, seconds, memory = apart(_weights, solver, standard, y, c)          # every class has rows
        solvers[solver] = {"seconds": round(seconds, 1), "peak_GiB": round(memory, 2),
                           "objective": _objective(weights, standard, y, c)}
        print(solver, solvers[solver], flush=True)
    stackers = {}
    half = FRESH // 2
    for name, config in STACKERS.items():
        scores, seconds, memory = apart(_scores, config, x, y, fresh, CLASSES)
        link = LINKS[config.kind]
        probabilities = link.apply(scores[half:], link.fit(scores[:half], unseen[:half]))
        stackers[name] = {"seconds": round(seconds, 1), "peak_GiB": round(memory, 2),
                          **_quality(probabilities, unseen[half:])}
        print(name, stackers[name], flush=True)
    return {"rows": ROWS, "width": WIDTH, "classes": CLASSES, "fresh_rows": FRESH, "c": c, "n": 1,
            "linear_solvers": solvers, "stackers": stackers}


def finished_run(names: list[str]) -> dict[str, Any]:
    """Models of the run in the working directory, all for no names: alone, with stackers, and the means of both."""
    found = load_competition()
    labels, n_classes = found.packed.labels, len(found.packed.classes)
    models = {}
    for directory in sorted(path.parent for path in FEATURES.glob("*/networks.json")):
        if names and directory.name not in names:
            continue
        head = read_member(OOF / directory.name, found.roster).oof.astype(np.float64)
        rows: dict[str, Any] = {"model": _quality(head, labels)}
        stems = {n["cell"]: n["stem"] for n in read_json(directory / "networks.json") if n["replica"] == 0}
        for name, config in STACKERS.items():
            scores, seconds, memory = [], [], []
            for cell in found.cells:
                train = np.load(directory / f"{stems[cell.index]}.train.npy").astype(np.float32)
                held, taken, peak = apart(_scores, config, train[cell.fit_rows], labels[cell.fit_rows],
                                          train[cell.held_rows], n_classes)
                scores.append((held, np.zeros((0, n_classes), np.float32)))
                seconds.append(taken)
                memory.append(peak)
            own, _ = calibrated(scores, found.cells, labels, found.folds, link=LINKS[config.kind])
            geometric = np.sqrt(head * own)
            rows[name] = {"seconds_a_fold": round(float(np.mean(seconds)), 1), "peak_GiB": round(max(memory), 2),
                          **_quality(own, labels), "with_model": log_loss((head + own) / 2, labels),
                          "with_model_geometric": log_loss(geometric / geometric.sum(axis=1, keepdims=True), labels)}
            print(directory.name, name, rows[name], flush=True)
        models[directory.name] = {"width": int(train.shape[1]), **rows}
    return {"rows": len(labels), "classes": n_classes, "folds": len(found.cells), "n": 1, "models": models}


def _quality(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {"log_loss": log_loss(probabilities, labels), "accuracy": accuracy(probabilities, labels)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a finished run, with features/, oof/, folds/, data/packed/")
    parser.add_argument("--model", action="append", default=[], help="of the run; may be repeated; none: all")
    parser.add_argument("--no-liblinear", action="store_true")
    options = parser.parse_args()
    if options.run is None:
        write("stackers", {"configs": {k: c.model_dump(mode="json") for k, c in STACKERS.items()},
                           **synthetic(not options.no_liblinear)})
        return
    with chdir(options.run):
        result = finished_run(options.model)
    write(f"stackers_{options.run.resolve().name}", result)


if __name__ == "__main__":
    main()
