"""The choice of the final method, and what is said of each method beside the references."""

import numpy as np
import pytest
from ensemble_cases import sample
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ensemble.bootstrap import intervals, simultaneous
from pipeline.ensemble.choose import NEGLIGIBLE, choose, standing, standings
from pipeline.metrics import METRICS

SIMPLICITY = {"uniform": 0, "rank": 3, "vote": 4, "blend": 8}
LABELS = np.arange(60) % 3


def _losses(probability_of_truth: list[float]) -> np.ndarray:
    return -np.log(np.array(probability_of_truth))


LEVEL = _losses([0.5] * 60)
MIXED = _losses([0.6, 0.6, 0.4] + [0.5] * 57)       # better by 0.14 / 60 nats, standard error 0.34 / 60
BETTER = _losses([0.6] * 59 + [0.4])


def test_choose_takes_the_simpler_method_inside_one_standard_error() -> None:
    rows = sample(LABELS, classes=3)
    equal = choose({"blend": LEVEL, "uniform": LEVEL.copy(), "rank": LEVEL.copy()}, SIMPLICITY, sample=rows)
    assert (equal.final, equal.best) == ("uniform", "uniform")
    near = choose({"blend": MIXED, "uniform": LEVEL}, SIMPLICITY, sample=rows)
    assert (near.final, near.best) == ("uniform", "blend")
    assert near.differences["blend"].difference == 0
    assert near.differences["uniform"].difference == pytest.approx((2 * np.log(1.2) + np.log(0.8)) / 60)
    clear = choose({"uniform": LEVEL, "vote": MIXED, "blend": BETTER}, SIMPLICITY, sample=rows)
    assert (clear.final, clear.best) == ("blend", "blend")
    assert clear.differences["uniform"].low > 0


def test_choose_follows_the_direction_of_the_metric() -> None:
    right, wrong = np.full(60, -1.0), np.zeros(60)          # outcomes of accuracy: minus one for a hit
    rows = sample(LABELS, metric=METRICS["accuracy"], classes=3)
    found = choose({"uniform": wrong, "blend": right}, SIMPLICITY, sample=rows)
    assert (found.final, found.differences["uniform"].difference) == ("blend", 1.0)
    rows = sample(LABELS, metric=METRICS["macro_f1"], classes=3)
    found = choose({"uniform": (LABELS + 1) % 3.0, "blend": LABELS.astype(float)}, SIMPLICITY, sample=rows)
    assert (found.final, found.differences["uniform"].difference) == ("blend", 1.0)


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(2, 300), count=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_the_final_method_is_the_simplest_within_one_standard_error_of_the_best(
    rows: int, count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    outcomes = random.exponential(size=(count, rows)) + random.choice([0.0, 0.3], size=(count, 1))
    names = [f"method {number}" for number in random.permutation(count)]
    resampled = sample(np.zeros(rows, dtype=int), draws=100)
    found = choose(dict(zip(names, outcomes, strict=True)), {name: int(name[7:]) for name in names}, sample=resampled)
    best = outcomes.mean(axis=1).argmin()
    assert found.best == names[best]
    gaps = intervals(outcomes, resampled, against=outcomes[best])
    near = [name for name, gap in zip(names, gaps, strict=True) if gap.difference <= gap.standard_error]
    assert found.final == min(near, key=lambda name: int(name[7:]))
    assert found.differences[found.best].difference == 0
    assert found.differences == dict(zip(names, gaps, strict=True))


def test_standings_are_the_intervals_that_hold_together_for_every_method_and_reference() -> None:
    random = np.random.default_rng(0)
    base = random.exponential(size=400)
    nested = {"good": base - 0.2 * random.random(400), "same": base + random.normal(size=400) / 50, "bad": base + 0.1}
    references = {"uniform": base, "best single": base + 0.05 * random.random(400)}
    rows = sample(np.zeros(400, dtype=int), draws=500)
    table = standings(nested, references, sample=rows)
    expected = simultaneous([(mine, other) for mine in nested.values() for other in references.values()], rows)
    assert [interval for row in table.values() for interval, _ in row.values()] == expected
    assert {name: {other: said for other, (_, said) in row.items()} for name, row in table.items()} == {
        "good": {"uniform": "better", "best single": "better"},
        "same": {"uniform": "not distinguishable", "best single": "better"},
        "bad": {"uniform": "worse", "best single": "worse"},
    }


def test_a_method_is_not_distinguishable_from_itself_nor_from_its_copy() -> None:
    base = np.random.default_rng(0).exponential(size=200)
    table = standings({"self": base, "copy": base.copy()}, {"uniform": base}, sample=sample(np.zeros(200, dtype=int)))
    assert [said for row in table.values() for _, said in row.values()] == ["not distinguishable"] * 2


def test_what_an_interval_says() -> None:
    assert standing(-0.2, -0.1) == "better"
    assert standing(0.1, 0.2) == "worse"
    assert {standing(-0.1, 0.1), standing(0.0, 0.0), standing(-0.1, 0.0), standing(0.0, 0.1)} == {"not distinguishable"}
    assert standing(1e-9, NEGLIGIBLE) == standing(-NEGLIGIBLE, -1e-9) == "not distinguishable"
    assert standing(1e-9, 2 * NEGLIGIBLE) == "worse"
    assert standing(-2 * NEGLIGIBLE, -1e-9) == "better"
