"""The worlds of benchmarks/coverage.py, what it counts, and one tiny draw."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from pipeline.ensemble.contract import Fitted
from pipeline.ensemble.means import linear
from pipeline.metrics import log_loss


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return import_module("coverage")


def record(coverage: ModuleType, **changes: Any) -> Any:
    """A draw in which every method is worth 1.0 on fresh rows, and every interval is the estimate 1.0 +- 0.1."""
    kinds, methods = len(coverage.KINDS), len(coverage.NAMES)
    made = coverage.Draw(np.ones(methods), np.tile([1.0, 0.9, 1.1], (kinds, methods, 1)),
                         np.tile([0.0, -0.1, 0.1], (kinds, methods, 1)), np.zeros((2, methods, 2), dtype=int),
                         np.array([False]), np.array([0.0]))
    return replace(made, **changes)


@pytest.mark.parametrize("count", [3, 8])
def test_of_exchangeable_members_the_geometric_mean_is_the_posterior(coverage: ModuleType, count: int) -> None:
    """Given its label, a class's scores are normal with covariance 2 I + 2 (1 1'): the posterior by Bayes' rule."""
    members = coverage.members(coverage.exchangeable(count, 1), 40_000, random=np.random.default_rng(0))
    mean = np.log(members.stack.astype(np.float64)).mean(axis=0)                 # (N, C)
    posterior = np.exp(log_softmax(mean, axis=1))
    assert np.linalg.inv(2 * np.eye(count) + 2).sum() * (2 + 2 / count) == pytest.approx(1)     # the posterior's factor
    for c in range(coverage.CLASSES):       # among rows of like posterior the class is as frequent as it says
        for low in np.arange(0.1, 0.9, 0.2):
            near = (posterior[:, c] >= low) & (posterior[:, c] < low + 0.2)
            error = (posterior[near, c] * (1 - posterior[near, c])).sum() ** 0.5 / near.sum()
            assert abs((members.labels[near] == c).mean() - posterior[near, c].mean()) < 4 * error


def test_no_other_weights_beat_equal_ones_on_exchangeable_members(coverage: ModuleType) -> None:
    """By convexity and symmetry; the mean over the members' rotations takes the luck of the rows away."""
    members = coverage.members(coverage.exchangeable(3, 1), 2000, random=np.random.default_rng(0))
    view, equal = members.all(), np.full(3, 1 / 3)

    def loss(weights: np.ndarray) -> float:
        rolled = [linear(view, Fitted(np.roll(weights, shift))) for shift in range(3)]
        return float(np.mean([log_loss(blend, members.labels) for blend in rolled]))

    others = np.random.default_rng(1).dirichlet(np.ones(3), 20)
    assert all(loss(weights) > loss(equal) for weights in others)


def test_coverage_counts_true_losses_inside_the_intervals(coverage: ModuleType) -> None:
    """Of ten draws two have a blend that is worth 1.2; the uniform mean's truth is the mean over all fresh rows."""
    blend = coverage.NAMES.index("blend")
    fresh = np.ones(len(coverage.NAMES))
    worse = np.where(np.arange(len(fresh)) == blend, 1.2, 1.0)
    draws = [record(coverage, fresh=worse)] * 2 + [record(coverage, fresh=fresh)] * 8
    found = coverage.summarise(draws, coverage.World(1, (1.0,), (0.0,), (1.0,)))["methods"]
    for kind in coverage.KINDS:
        assert found["blend"]["score_covered"][kind] == [0.8, 0.4902, 0.9433]       # Wilson's interval of 8 of 10
        assert found["blend"]["difference_covered"][kind][0] == 0.8
        assert found["blend"]["bias"][kind][0] == pytest.approx(-0.04)
        assert found["geometric"]["score_covered"][kind][0] == 1.0
    assert found["blend"]["true"] == pytest.approx(1.04)

    lucky = [record(coverage, fresh=fresh + shift) for shift in (-0.5, 0.5)]        # luck of the fresh rows, not worth
    found = coverage.summarise(lucky, coverage.World(1, (1.0,), (0.0,), (1.0,)))["methods"]
    assert found["blend"]["score_covered"]["nested"][0] == 1.0
    assert found["blend"]["true"] == pytest.approx(1.0)


def test_a_verdict_is_wrong_when_fresh_rows_say_otherwise(coverage: ModuleType) -> None:
    blend = coverage.NAMES.index("blend")
    calls = np.zeros((2, len(coverage.NAMES), 2), dtype=int)
    calls[0, blend, 0] = coverage.CALLS["better"]           # in sample only
    calls[1, blend, 1] = coverage.CALLS["worse"]            # nested, than the geometric mean
    for worth, wrong in ((0.8, (0, 1)), (1.2, (1, 0)), (1.0, (1, 1))):
        fresh = np.where(np.arange(len(coverage.NAMES)) == blend, worth, 1.0)
        found = coverage.summarise([record(coverage, fresh=fresh, calls=calls)] * 2,
                                   coverage.World(1, (1.0,), (0.0,), (1.0,)))
        assert tuple(found["any_wrong_verdict"][kind][0] for kind in coverage.KINDS[:2]) == wrong
        assert found["methods"]["blend"]["called_better_than_uniform"]["in sample"][0] == 1
        assert found["methods"]["blend"]["called_better_than_uniform"]["nested"][0] == 0


def test_a_tiny_draw_repeats_itself_and_its_table_has_every_world(
    coverage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "BOOTSTRAP", 50)
    world = coverage.World(100, (2.0, 2.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (2,))
    one, again, other = (coverage.draw(world, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.scores, again.scores)
    assert not np.array_equal(one.fresh, other.fresh)
    uniform, blend = coverage.NAMES.index("uniform"), coverage.NAMES.index("blend")
    assert np.array_equal(one.scores[0, uniform], one.scores[1, uniform])      # learns nothing: in sample is nested
    assert np.array_equal(one.differences[:, uniform], np.zeros((3, 3)))
    assert (one.scores[0, blend, 0] < one.scores[1:, blend, 0]).all()
    assert (one.scores[..., 1] <= one.scores[..., 0]).all()
    assert (one.scores[..., 0] <= one.scores[..., 2]).all()
    assert not one.helps.any()                                                  # the third member is noise
    found = coverage.summarise([one, other], world)
    lines = coverage.tables({"Z: tiny": found}).splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:2 + len(coverage.SHOWN)]] == [["| Z", n] for n in coverage.SHOWN]
    assert len({line.count("|") for line in lines[:2 + len(coverage.SHOWN)]}) == 1
    assert lines[-1] == "Z: tiny"
