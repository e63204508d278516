"""Do the intervals of the level above the networks hold what they promise? Simulated members, whose truth is known.

Each draw makes labelled rows, fits every method on them as the ensemble stage does, and asks fresh rows of the same
world what the fits are truly worth. Counted over the draws: how often the 95% intervals around the in-sample, nested
and repeated nested scores (and around their differences to the uniform mean) hold the true one, how often a verdict is
wrong, and how often leave-one-out sees what is there. Writes benchmarks/results/coverage.json and prints two tables.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")       # before numpy: one thread, as in the stages

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from report import write
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedKFold

from pipeline.ensemble.bootstrap import Interval, Sample, intervals
from pipeline.ensemble.choose import standings
from pipeline.ensemble.contract import Method, Predictions, Settings
from pipeline.ensemble.loo import leave_one_out
from pipeline.ensemble.methods import METHODS, find
from pipeline.ensemble.nested import nested_outcome, other_folds
from pipeline.ensemble.outcomes import method_outcome
from pipeline.ensemble.simplex import softmax
from pipeline.rng import derive, generator

NAMES = ("uniform", "geometric", "rank", "greedy", "blend", "blend+temperature", "class_weights", "stack_logistic")
SHOWN = ("uniform", "blend", "blend+temperature", "class_weights", "stack_logistic")
REFERENCES = ("uniform", "geometric")
CALLS = {"better": -1, "worse": 1, "not distinguishable": 0}
KINDS = ("in sample", "nested", "repeated")     # repeated: the mean of the rows' nested losses over all partitions
CLASSES, FOLDS, PARTITIONS, BOOTSTRAP, LEVEL = 5, 5, 3, 1000, 0.95
FRESH = 30              # fresh rows for each labelled one
SETTINGS = Settings(greedy_bags=5)      # not the default 20: their searches would take most of a draw


@dataclass(frozen=True)
class World:
    """Member m says softmax(strength_m [class is the label] + shared_m u + own_m e_m), u and e_m standard normal.

    All tuples `(M,)`; u is drawn for every row and class, e_m for every member as well. `watched` members are left out.
    """

    rows: int
    strength: tuple[float, ...]
    shared: tuple[float, ...]
    own: tuple[float, ...]
    watched: tuple[int, ...] = ()


def exchangeable(members: int, rows: int, *, noise: int = 0) -> World:
    """Equal members, of which the geometric mean is the exact posterior, so that nothing is truly better.

    The noise of their mean has variance shared^2 + own^2 / M, and strength over that is the posterior's factor, one
    here. The best linear blend is the uniform one: its log loss is convex in the weights, and symmetric. `noise` more
    members know nothing.
    """
    return World(rows, (2 + 2 / members,) * members + (0.0,) * noise, (2**0.5,) * members + (0.0,) * noise,
                 (2**0.5,) * (members + noise), tuple(range(members, members + noise)))


WORLDS = {
    "A: 10 exchangeable members, 600 rows": exchangeable(10, 600),
    "A': 30 exchangeable members, 300 rows": exchangeable(30, 300),
    "B: 9 strong and alike, 1 weak and independent, 600 rows":
        World(600, (2.0,) * 9 + (1.4,), (1.4,) * 9 + (0.0,), (0.4,) * 9 + (1.0,), (9,)),
    "C: 6 equal members, 4 of pure noise, 600 rows": exchangeable(6, 600, noise=4),
}


@dataclass(frozen=True, eq=False)
class Draw:
    """What one draw of labelled rows gave, S methods in the order of `NAMES`, losses in nats."""

    fresh: np.ndarray           # (S,) of the fits on all rows, on fresh rows
    scores: np.ndarray          # (3, S, 3): by kind the estimate, and the ends of its interval
    differences: np.ndarray     # (3, S, 3): the same less the uniform mean's
    calls: np.ndarray           # (2, S, 2): by kind (not repeated), the verdict against each reference, of `CALLS`
    helps: np.ndarray           # (W,) bool: watched members that leave-one-out of the blend says help
    losses_without: np.ndarray  # (W,) what the blend on fresh rows truly loses without them


def stratified(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """Folds `(N,)` as the stage `folds` deals them."""
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=derive(seed, "folds") % 2**32)
    folds = np.empty(len(labels), dtype=np.int64)
    for fold, (_, held) in enumerate(splitter.split(labels, labels)):
        folds[held] = fold
    return folds


def draw(world: World, *, seed: int) -> Draw:
    """One set of labelled rows, and all that is measured on it."""
    known, fresh = (members(world, rows, random=generator(seed, purpose)) for rows, purpose in
                    ((world.rows, "labelled rows"), (world.rows * FRESH, "fresh rows")))
    view, labels = known.all(), known.all().labels
    each = [stratified(labels, seed=seed), *(other_folds(np.arange(len(labels)), k=FOLDS, repeat=repeat, seed=seed)
                                             for repeat in range(1, PARTITIONS))]
    sample = Sample(labels, CLASSES, SETTINGS.metric, BOOTSTRAP, LEVEL, derive(seed, "bootstrap"))
    outcomes = np.empty((len(KINDS), len(NAMES), len(labels)))                   # (3, S, N)
    worth = np.empty(len(NAMES))
    for s, name in enumerate(NAMES):
        method = find(name, METHODS)
        fitted = method.fit(view, settings=SETTINGS)
        worth[s] = method_outcome(method, fresh.all(), fitted, metric=SETTINGS.metric).mean()
        outcomes[0, s] = method_outcome(method, view, fitted, metric=SETTINGS.metric)
        partitions = each if method.learns else each[:1]
        nested = [nested_outcome(method, view, folds=folds, settings=SETTINGS) for folds in partitions]
        outcomes[1, s], outcomes[2, s] = nested[0], np.mean(nested, axis=0)
    flat = outcomes.reshape(-1, len(labels))
    blend, watched = METHODS["blend"], list(world.watched)
    found = leave_one_out(blend, view, folds=each[0], names=[str(m) for m in view.members], settings=SETTINGS,
                          sample=sample) if watched else []
    return Draw(
        worth, _ends(intervals(flat, sample)), _ends(intervals(flat, sample, against=outcomes[0, 0])),
        np.stack([_calls(outcomes[kind], sample) for kind in (0, 1)]),
        np.array([found[m].verdict == "helps" for m in watched], dtype=bool),
        np.array([_loss_without(blend, known, fresh, m) for m in watched]) - worth[NAMES.index("blend")],
    )


def members(world: World, rows: int, *, random: np.random.Generator) -> Predictions:
    """Labels, uniform over the classes, and what the world's members say of them."""
    labels = random.integers(0, CLASSES, rows)
    common = random.standard_normal((rows, CLASSES), dtype=np.float32)           # (N, C)
    stack = np.empty((len(world.strength), rows, CLASSES), dtype=np.float32)     # (M, N, C)
    for m, (strength, shared, own) in enumerate(zip(world.strength, world.shared, world.own, strict=True)):
        scores = shared * common + own * random.standard_normal((rows, CLASSES), dtype=np.float32)
        scores[np.arange(rows), labels] += strength
        stack[m] = softmax(scores)
    return Predictions(stack, labels)


def summarise(draws: Sequence[Draw], world: World) -> dict[str, Any]:
    """One entry per method, the verdicts, and leave-one-out; shares as [share, low, high] with Wilson's 95% interval.

    The uniform mean learns nothing, so its true loss is the same in all draws: the mean over their fresh rows. The
    others' is that plus their difference on the draw's fresh rows, and their biases are those of the difference.
    A draw has a wrong verdict if fresh rows gainsay that on any method, better or worse, against either reference.
    """
    fresh, scores, differences, calls, helps, without = (
        np.stack([getattr(one, name) for one in draws])
        for name in ("fresh", "scores", "differences", "calls", "helps", "losses_without"))
    gain = fresh - fresh[:, :1]                                                  # (D, S)
    errors = differences[..., 0] - gain[:, None]                                 # (D, 3, S)
    score_held, gain_held = held(scores, gain + fresh[:, :1].mean()), held(differences, gain)
    truth = fresh[:, :, None] - fresh[:, None, [NAMES.index(name) for name in REFERENCES]]       # (D, S, 2)
    wrong = (calls != 0) & (calls != np.sign(truth)[:, None])                    # (D, 2, S, 2)

    def by_kind(of: np.ndarray, what: Callable[[np.ndarray], Any]) -> dict[str, Any]:
        return {kind: what(of[:, k]) for k, kind in enumerate(KINDS[:of.shape[1]])}

    methods = {
        name: {
            "true": float(fresh[:, 0].mean() + gain[:, s].mean()),
            "bias": by_kind(errors[:, :, s], _mean),
            "score_covered": by_kind(score_held[:, :, s], share),
            "score_width": float(np.ptp(scores[:, 1, s, 1:], axis=-1).mean()),
            "difference_covered": by_kind(gain_held[:, :, s], share),
            "difference_width": float(np.ptp(differences[:, 1, s, 1:], axis=-1).mean()),
            "difference_error_sd": by_kind(errors[:, :, s], lambda column: float(column.std(ddof=1))),
            "truly_better_than_uniform": share(np.less(gain[:, s], 0)),
            "called_better_than_uniform": by_kind(np.equal(calls[:, :, s, 0], CALLS["better"]), share),
        } for s, name in enumerate(NAMES)
    }
    return {
        "rows": world.rows, "members": len(world.strength), "draws": len(draws), "methods": methods,
        "any_wrong_verdict": by_kind(wrong.any(axis=(2, 3)), share),
        "left_out": {"any_called_helpful": share(helps.max(axis=1)),
                     "blend_truly_loses": _mean(without.mean(axis=1))} if world.watched else None,
    }


def tables(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Two Markdown tables: what the intervals hold, and what the verdicts and leave-one-out say."""
    lines = [*_heading("world", "method", "true log loss", "in sample less true", "nested less true",
                       "score held: in sample", "nested", "repeated", "difference held: in sample", "nested")]
    for title, world in found.items():
        for name in SHOWN:
            row = world["methods"][name]
            lines.append(_line(
                title, name, f"{row['true']:.3f}", *(f"{row['bias'][kind][0]:+.4f}" for kind in KINDS[:2]),
                *(_percent(row["score_covered"][kind]) for kind in KINDS),
                *("" if name == "uniform" else _percent(row["difference_covered"][kind]) for kind in KINDS[:2])))
    lines += ["", *_heading("world", "a wrong verdict: in sample", "nested", "blend truly better", "called: in sample",
                            "nested", "a watched member called helpful", "blend without it, less with it")]
    for title, world in found.items():
        blend, left_out = world["methods"]["blend"], world["left_out"]
        lines.append(_line(
            title, *(_percent(world["any_wrong_verdict"][kind]) for kind in KINDS[:2]),
            _percent(blend["truly_better_than_uniform"]),
            *(_percent(blend["called_better_than_uniform"][kind]) for kind in KINDS[:2]),
            _percent(left_out["any_called_helpful"]) if left_out else "",
            f"{left_out['blend_truly_loses'][0]:+.4f}" if left_out else ""))
    return "\n".join([*lines, "", *found])


def _heading(*cells: str) -> list[str]:
    return [f"| {' | '.join(cells)} |", "| --- |" + " ---: |" * (len(cells) - 1)]


def _line(title: str, *cells: str) -> str:
    return f"| {' | '.join([title.partition(':')[0], *cells])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    found, started = {}, perf_counter()
    for title, world in WORLDS.items():
        draws = []
        for number in range(options.draws):
            draws.append(draw(world, seed=derive(0, title, number)))
            if (number + 1) % 20 == 0:
                print(f"{title}: {number + 1} draws, {perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        found[title] = summarise(draws, world)
    write("coverage", {
        "threads": 1, "classes": CLASSES, "folds": FOLDS, "partitions": PARTITIONS, "bootstrap": BOOTSTRAP,
        "level": LEVEL, "fresh_rows_per_row": FRESH, "greedy_bags": SETTINGS.greedy_bags,
        "seconds": round(perf_counter() - started), "worlds": found,
    })
    print(tables(found))


def held(estimates: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`(D, 3, S)` bool: whether the intervals of the estimates `(D, 3, S, 3)` hold the truth `(D, S)`."""
    return (estimates[..., 1] <= truth[:, None]) & (truth[:, None] <= estimates[..., 2])


def share(hits: np.ndarray) -> list[float]:
    """The share of hits, and Wilson's 95% interval of it."""
    found = binomtest(int(hits.sum()), hits.size)
    ends = found.proportion_ci(0.95, method="wilson")
    return [round(float(value), 4) for value in (found.statistic, ends.low, ends.high)]


def _mean(values: np.ndarray) -> list[float]:
    """The mean, and its standard error."""
    return [float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)]


def _percent(found: Sequence[float]) -> str:
    return "{:.1f}% ({:.0f}-{:.0f})".format(*(100 * value for value in found))


def _ends(found: Sequence[Interval]) -> np.ndarray:
    """`(3, S, 3)` of the intervals of all kinds and methods."""
    return np.array([(i.difference, i.low, i.high) for i in found]).reshape(len(KINDS), len(NAMES), 3)


def _calls(outcomes: np.ndarray, sample: Sample) -> np.ndarray:
    """`(S, 2)`: the corrected verdict on each method against each reference."""
    named = dict(zip(NAMES, outcomes, strict=True))
    table = standings(named, {name: named[name] for name in REFERENCES}, sample=sample)
    return np.array([[CALLS[table[name][other][1]] for other in REFERENCES] for name in NAMES])


def _loss_without(method: Method, known: Predictions, fresh: Predictions, member: int) -> float:
    """Of the method fitted again without one member, on fresh rows."""
    fitted = method.fit(known.all().without(member), settings=SETTINGS)
    return float(method_outcome(method, fresh.all().without(member), fitted, metric=SETTINGS.metric).mean())


if __name__ == "__main__":
    main()
