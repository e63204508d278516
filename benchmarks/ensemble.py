"""The level above the networks at the size of a competition: all methods in sample and nested, and leave-one-out.

Synthetic members, 20 x 27,299 rows x 121 classes by default, one thread. Writes benchmarks/results/ensemble.json with
seconds per step and peak memory (the members included). Scores of synthetic members mean nothing and are not written.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")       # before numpy: one thread, as in the stages

import argparse
import resource
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from report import write

from pipeline.ensemble.choose import choose, worse_than_prior
from pipeline.ensemble.contract import Settings
from pipeline.ensemble.loo import leave_one_out
from pipeline.ensemble.methods import METHODS
from pipeline.ensemble.nested import in_sample_predictions, nested_best_single, nested_predictions

FOLDS, LEFT_OUT = 5, ("uniform", "geometric", "blend")


def members(count: int, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated members `(M, N, C)` of about 80% accuracy, labels `(N,)` of skewed classes, folds `(N,)`."""
    random = np.random.default_rng(0)
    prior = random.dirichlet(np.full(classes, 0.7))
    labels, folds = random.choice(classes, p=prior, size=rows), random.integers(0, FOLDS, rows)
    shared = random.normal(size=(rows, classes)).astype(np.float32)
    stack = np.empty((count, rows, classes), np.float32)
    for m in range(count):
        scores = np.log(prior).astype(np.float32) + 1.2 * shared
        scores += 0.9 * random.normal(size=(rows, classes)).astype(np.float32)
        scores[np.arange(rows), labels] += 4.5 + 0.5 * random.normal()
        np.exp(scores - scores.max(axis=1, keepdims=True), out=stack[m])
        stack[m] /= stack[m].sum(axis=1, keepdims=True)
    return stack, labels, folds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--rows", type=int, default=27_299)
    parser.add_argument("--classes", type=int, default=121)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    stack, labels, folds = members(options.members, options.rows, options.classes)
    settings, rows_of = Settings(), {"labels": labels, "folds": folds}
    draws: dict[str, Any] = {"draws": 1000, "level": 0.95, "seed": 0}
    seconds: dict[str, dict[str, float]] = {}

    def timed(name: str, run: Callable[[], Any]) -> Any:
        taken = []
        for _ in range(options.repeats):
            started = perf_counter()
            result = run()
            taken.append(perf_counter() - started)
        seconds[name] = {"median": round(median(taken), 3), "least": round(min(taken), 3), "most": round(max(taken), 3)}
        print(f"{name}: {seconds[name]['median']} s", flush=True)
        return result

    gaps, nested = {}, {}
    for name, method in METHODS.items():
        fitted, _ = timed(f"{name} in sample",
                          lambda m=method: in_sample_predictions(m, stack, labels=labels, settings=settings))
        gaps[name] = fitted.gap
        nested[name] = timed(f"{name} nested",
                             lambda m=method: nested_predictions(m, stack, settings=settings, **rows_of))
    timed("best single nested", lambda: nested_best_single(stack, labels, folds=folds, metric=settings.metric))
    timed("choose", lambda: choose(nested, labels, metric=settings.metric, **draws))
    timed("worse than prior", lambda: worse_than_prior(stack, labels, folds=folds))
    names = [str(m) for m in range(len(stack))]
    for name in LEFT_OUT:
        timed(f"leave-one-out of {name}",
              lambda n=name: leave_one_out(METHODS[n], stack, names=names, settings=settings, **rows_of, **draws))
    write("ensemble", {
        "shape": list(stack.shape), "threads": 1, "n": options.repeats, "seconds": seconds, "blend_gap": gaps["blend"],
        "peak_memory_GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    })


if __name__ == "__main__":
    main()
