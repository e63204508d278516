"""The level above the networks at the size of a competition, from member files to leave-one-out.

    python benchmarks/ensemble.py [--members 40] [--rows 30336] [--classes 121] [--growth] [--oracles]

Synthetic members are written as member files; what is timed starts with reading them: load and validate, every
closed-form method in sample and nested, the optimal blend, bagged greedy selection (20 bags, 50 steps), leave-one-out
of the blend in three forms with 1,000 bootstrap draws. With `--oracles` instead the blend against scipy on the full
tensor and greedy selection against the textbook loop, in one run; with `--growth` the steps without files for 10 to 80
members and for 10,000 to 300,000 rows. Writes benchmarks/results/ensemble.json, ensemble_oracles.json or
ensemble_growth.json. Scores of synthetic members mean nothing and are not written.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")       # before numpy: threads work on columns, not inside a product

import argparse
import math
import resource
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from report import write
from scipy.optimize import minimize

from pipeline.config.ensemble import MEANS, VOTES
from pipeline.ensemble.blend import fit_blend, optimality_gap, refit_blend
from pipeline.ensemble.bootstrap import Sample
from pipeline.ensemble.contract import Predictions, Settings
from pipeline.ensemble.greedy import fit_greedy, greedy_picks
from pipeline.ensemble.loo import leave_one_out
from pipeline.ensemble.methods import METHODS
from pipeline.ensemble.nested import in_sample, nested_predictions
from pipeline.ensemble.simplex import normalised
from pipeline.members import Member, Roster, read_member, write_member
from pipeline.metrics import METRICS, log_loss

FOLDS, THREADS, DRAWS = 5, 2, 1000
CLOSED_FORM = (*MEANS, *VOTES)
FTOL = 1e-9             # of scipy's search: its default, 1e-6, stops 1e-4 nats and more from the optimum
GROWTH = [(m, 30_336) for m in (10, 20, 40, 80)] + [(10, n) for n in (10_000, 30_000, 100_000, 300_000)]


def members(count: int, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated members `(M, N, C)` of about 80% accuracy, labels `(N,)` of skewed classes, folds `(N,)` ascending."""
    random = np.random.default_rng(0)
    prior = random.dirichlet(np.full(classes, 0.7))
    labels, folds = random.choice(classes, p=prior, size=rows), np.sort(random.integers(0, FOLDS, rows))
    shared = random.standard_normal((rows, classes), dtype=np.float32)
    stack = np.empty((count, rows, classes), np.float32)
    for m in range(count):
        scores = np.log(prior).astype(np.float32) + shared
        scores += 1.1 * random.standard_normal((rows, classes), dtype=np.float32)
        scores[np.arange(rows), labels] += 4.5 + 0.3 * random.normal()
        np.exp(scores - scores.max(axis=1, keepdims=True), out=stack[m])
        stack[m] = normalised(stack[m])
    return stack, labels, folds


class Clock:
    """Seconds per step, in the order in which the steps ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, run: Callable[[], Any]) -> Any:
        started = perf_counter()
        result = run()
        self.seconds[name] = round(perf_counter() - started, 3)
        print(f"  {name}: {self.seconds[name]} s", flush=True)
        return result


def laboratory(predictions: Predictions, folds: np.ndarray, clock: Clock) -> dict[str, Any]:
    """Every method in sample and nested, and leave-one-out of the blend; the blend's gap and the members it uses."""
    view, settings = predictions.all(), Settings()
    for name in (*CLOSED_FORM, "blend", "greedy"):
        method = METHODS[name]
        fitted, _ = clock(f"{name} in sample", lambda m=method: in_sample(m, view, settings=settings))
        if method.learns:
            clock(f"{name} nested", lambda m=method: nested_predictions(m, view, folds=folds, settings=settings))
        if name == "blend":
            facts = {"blend_gap": fitted.gap, "members_with_weight": int((fitted.weights > 0).sum())}
    sample = Sample(view.labels, view.classes, METRICS["log_loss"], DRAWS, 0.95, 0)
    names = [str(m) for m in view.members]
    clock("leave-one-out of the blend, three forms, 1,000 draws", lambda: leave_one_out(
        METHODS["blend"], view, folds=folds, names=names, settings=settings, sample=sample))
    return facts


def from_files(count: int, rows: int, classes: int) -> dict[str, Any]:
    """The whole of it: seconds per step and in all, from reading the member files on."""
    stack, labels, folds = members(count, rows, classes)
    test = rows // 10
    roster = Roster([f"train_{i:06d}" for i in range(rows)], [f"test_{i:06d}" for i in range(test)], folds,
                    [f"class {c:03d}" for c in range(classes)], "0123456789abcdef")
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / f"member_{m:02d}" for m in range(count)]
        for path, predictions in zip(paths, stack, strict=True):
            write_member(path, Member(path.name, predictions, predictions[:test]), roster)
        del stack
        clock, started = Clock(), perf_counter()

        def load() -> Predictions:
            oof = np.empty((count, rows, classes), np.float32)

            def read(m: int) -> None:
                oof[m] = normalised(read_member(paths[m], roster).oof)

            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(read, range(count)))
            return Predictions(oof, labels, THREADS)

        facts = laboratory(clock("load and validate", load), folds, clock)
        total = perf_counter() - started
    return {"shape": [count, rows, classes], "test_rows": test, "threads": THREADS, "seconds": clock.seconds,
            "seconds_in_all": round(total, 2), **facts,
            "peak_memory_GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)}


def oracles(count: int, rows: int, classes: int, *, repeats: int = 5) -> dict[str, Any]:
    """Ours against scipy and the textbook loop on the full tensor, one thread; the slow ones run once."""
    stack, labels, _ = members(count, rows, classes)
    settings = replace(Settings(), greedy_bags=1)
    fresh = lambda: Predictions(stack, labels).all()        # noqa: E731  nothing is remembered from the run before

    def timed(run: Callable[[], Any], times: int) -> tuple[list[float], Any]:
        taken = []
        for _ in range(times):
            started = perf_counter()
            result = run()
            taken.append(perf_counter() - started)
        return taken, result

    blend, fitted = timed(lambda: fit_blend(fresh(), settings=settings), repeats)
    scipy_seconds, found = timed(lambda: _scipy_blend(stack, labels), 1)
    greedy, picks = timed(lambda: greedy_picks(fresh(), settings=settings), repeats)
    textbook_seconds, textbook = timed(lambda: _textbook_greedy(stack, labels, len(picks)), 1)
    view = fresh()
    refits, _ = timed(lambda: [refit_blend(view, fitted, m, settings=settings) for m in range(count)], repeats)
    bagged, _ = timed(lambda: fit_greedy(fresh(), settings=Settings()), 1)
    true = view.true
    return {
        "n": repeats, "n of the slow ones": 1,
        "blend": {"seconds": _spread(blend), "scipy_seconds": round(scipy_seconds[0], 1),
                  "times_scipy": round(scipy_seconds[0] / median(blend)), "gap": fitted.gap,
                  "scipy_gap": optimality_gap(true, found)},
        "greedy": {"seconds": _spread(greedy), "textbook_seconds": round(textbook_seconds[0], 1),
                   "times_textbook": round(textbook_seconds[0] / median(greedy)), "picks": len(picks),
                   "identical_picks": list(picks) == textbook, "bagged_seconds": round(bagged[0], 2)},
        "leave_one_out_refits": {"refits": count, "seconds": _spread(refits)},
    }


def _scipy_blend(stack: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What one would write: SLSQP with numerical gradients, the blend of the whole tensor in every evaluation.

    In double precision: in single precision the differences are noise, and the search ends far from the optimum.
    """
    count, doubled = len(stack), stack.astype(np.float64)
    found = minimize(lambda w: log_loss(np.tensordot(w, doubled, axes=1), labels), np.full(count, 1 / count),
                     method="SLSQP", bounds=[(0, 1)] * count,
                     constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": FTOL})
    weights = np.maximum(found.x, 0)
    return weights / weights.sum()


def _textbook_greedy(stack: np.ndarray, labels: np.ndarray, additions: int) -> list[int]:
    """Caruana et al. 2004 as printed: every candidate's mean over the whole tensor, every time."""
    order = np.argsort([log_loss(p, labels) for p in stack], kind="stable")
    fronts = [log_loss(stack[order[: i + 1]].sum(axis=0, dtype=np.float64) / (i + 1), labels)
              for i in range(len(order))]
    picks = [int(m) for m in order[: int(np.argmin(fronts)) + 1]]
    total = stack[picks].sum(axis=0, dtype=np.float64)
    while len(picks) < additions:
        losses = [log_loss((total + p) / (len(picks) + 1), labels) for p in stack]
        picks.append(int(np.argmin(losses)))
        total += stack[picks[-1]]
    return picks


def growth(classes: int) -> dict[str, Any]:
    """Seconds for other sizes, members in memory, and the exponents of members and rows (1 is linear)."""
    cells = []
    for count, rows in GROWTH:
        print(f"{count} members, {rows} rows", flush=True)
        stack, labels, folds = members(count, rows, classes)
        clock = Clock()
        laboratory(Predictions(stack, labels, THREADS), folds, clock)
        cells.append({"members": count, "rows": rows, "seconds": clock.seconds,
                      "in_all": round(sum(clock.seconds.values()), 2)})
        del stack

    def exponent(key: str, some: list[dict[str, Any]]) -> float:
        slope, _ = np.polyfit([math.log(c[key]) for c in some], [math.log(c["in_all"]) for c in some], 1)
        return round(float(slope), 2)

    return {"cells": cells, "n": 1, "exponent_members": exponent("members", cells[:4]),
            "exponent_rows": exponent("rows", cells[4:])}


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": round(median(seconds), 4), "least": round(min(seconds), 4), "most": round(max(seconds), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=40)
    parser.add_argument("--rows", type=int, default=30_336)
    parser.add_argument("--classes", type=int, default=121)
    parser.add_argument("--oracles", action="store_true")
    parser.add_argument("--growth", action="store_true")
    options = parser.parse_args()
    size = (options.members, options.rows, options.classes)
    if options.oracles:
        write("ensemble_oracles", oracles(*size))
    elif options.growth:
        write("ensemble_growth", growth(options.classes))
    else:
        write("ensemble", {"n": 1, **from_files(*size)})


if __name__ == "__main__":
    main()
