"""What the compact form leaves out changes no outcome of any blend."""

import numpy as np
import pytest
from ensemble_cases import members
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ensemble.compact import contenders, open_winners, rivals
from pipeline.ensemble.contract import Predictions, View
from pipeline.ensemble.counted import hits, winners
from pipeline.ensemble.slots import slotted
from pipeline.metrics import METRICS, Metric, row_accuracy, row_top_5

SEEDS = st.integers(0, 2**32 - 1)
MEMBERS = st.integers(1, 5)
CLASSES = st.integers(2, 12)
LEVELS = st.sampled_from([2, 5, 64, None])      # different probabilities: few of them make many ties, zeros included


def _stack(seed: int, m: int, classes: int, levels: int | None) -> tuple[np.ndarray, np.ndarray]:
    stack, labels, _ = members(*[1.5] * m, rows=40, classes=classes, seed=seed, shared=3.0)
    if levels is not None:
        stack = np.round(stack * levels) / np.float32(levels)
    return stack, labels


def _blends(stack: np.ndarray, seed: int) -> list[np.ndarray]:
    """Sums with random weights, some zero, in float32 and in float64."""
    random = np.random.default_rng(seed)
    weights = random.random((6, len(stack))) * random.integers(0, 2, (6, len(stack)))
    weights[:, 0] += weights.sum(axis=1) == 0
    return [sum(w.astype(kind) * member.astype(kind) for w, member in zip(row, stack, strict=True))
            for row in weights for kind in (np.float32, np.float64)]


@given(seed=SEEDS, m=MEMBERS, classes=CLASSES, levels=LEVELS, k=st.sampled_from([1, 2, 5]))
def test_the_first_k_of_any_blend_are_contenders(
    seed: int, m: int, classes: int, levels: int | None, k: int
) -> None:
    stack, _ = _stack(seed, m, classes, levels)
    kept = contenders(stack, k)
    for blend in _blends(stack, seed):
        first = np.argsort(-blend, axis=1, kind="stable")[:, :k]
        assert np.take_along_axis(kept, first, axis=1).all()


@given(seed=SEEDS, m=MEMBERS, classes=CLASSES, levels=LEVELS)
def test_rivals_alone_decide_whether_the_true_class_is_hit(
    seed: int, m: int, classes: int, levels: int | None
) -> None:
    stack, labels = _stack(seed, m, classes, levels)
    for k, outcome in ((1, row_accuracy), (5, row_top_5)):
        kept = rivals(stack, labels, k)
        kept[np.arange(40), labels] = True
        for blend in _blends(stack, seed):
            assert np.array_equal(outcome(np.where(kept, blend, -1), labels), outcome(blend, labels))


def _objectives(view: View) -> list[tuple[object, Metric]]:
    objectives = {"accuracy": hits(view, 1), "top_5": hits(view, 5), "macro_f1": winners(view)}
    return [(objective, METRICS[name]) for name, objective in objectives.items()]


@given(seed=SEEDS, m=MEMBERS, classes=CLASSES, levels=st.sampled_from([2, 5, 64]))
def test_losses_of_sums_are_those_of_the_full_probabilities(seed: int, m: int, classes: int, levels: int) -> None:
    stack, labels = _stack(seed, m, classes, levels)
    rows = np.random.default_rng(seed).integers(0, 40, 30)      # some of them twice
    counts = np.random.default_rng(seed).integers(0, 4, m)
    counts[0] += 1
    for objective, metric in _objectives(View(Predictions(stack, labels), np.arange(m), rows)):
        full = np.tensordot(counts, stack[:, rows].astype(np.float64), axes=1)
        assert objective.loss(counts @ objective.values, 1) == pytest.approx(metric.loss(full, labels[rows]), abs=1e-12)
        one_more = objective.losses(counts @ objective.values, 1)
        for member, loss in zip(stack[:, rows], one_more, strict=True):
            assert loss == pytest.approx(metric.loss(full + member, labels[rows]), abs=1e-12)


@given(seed=SEEDS, m=MEMBERS, classes=CLASSES, levels=LEVELS, steps=st.integers(1, 6), before=st.integers(1, 40))
def test_what_is_near_is_all_that_the_next_picks_can_change(
    seed: int, m: int, classes: int, levels: int | None, steps: int, before: int
) -> None:
    view = Predictions(*_stack(seed, m, classes, levels)).all()
    random = np.random.default_rng(seed)
    bag = random.permutation(m)[:random.integers(1, m + 1)]
    for whole, _ in _objectives(view):
        total = sum(whole.values[pick] for pick in random.integers(0, m, before))
        near, sums = whole.near(total, bag, steps)
        assert near.values.shape == (len(bag), len(sums))
        for pick in random.integers(0, len(bag), steps):
            assert near.losses(sums, 1).tolist() == whole.losses(total, 1)[bag].tolist()
            total, sums = total + whole.values[bag[pick]], sums + near.values[pick]


def test_what_every_member_ranks_alike_is_left_out() -> None:
    stack, labels, _ = members(1.0, rows=50, classes=12)
    same = np.repeat(stack, 3, axis=0)
    assert np.array_equal(contenders(same, 1).sum(axis=1), np.ones(50))
    assert np.array_equal(contenders(same, 5).sum(axis=1), np.full(50, 5))
    for objective, _ in _objectives(Predictions(same, labels).all()):
        assert objective.values.shape == (3, 0)


def test_equal_probabilities_leave_the_first_classes() -> None:
    even = np.full((2, 3, 10), 0.1, dtype=np.float32)
    for k in (1, 5):
        assert np.array_equal(contenders(even, k), np.arange(10) < np.full((3, 1), k))


def test_a_class_that_one_member_prefers_is_kept() -> None:
    stack = np.array([[[0.6, 0.3, 0.1]], [[0.3, 0.6, 0.1]]], dtype=np.float32)
    assert contenders(stack, 1).tolist() == [[True, True, False]]


def test_the_compact_form_is_made_once_for_all_views() -> None:
    predictions = Predictions(*_stack(0, 3, 6, None))
    row, label, values = open_winners(predictions)
    assert open_winners(predictions)[2] is values
    assert np.array_equal(values, predictions.stack[:, row, label])
    assert (np.diff(row) >= 0).all()


@given(row=st.lists(st.integers(0, 9), max_size=40))
def test_slots_hold_one_pair_of_each_row_the_longest_rows_first(row: list[int]) -> None:
    rows_of = np.array(row, dtype=int)
    pairs, rows, slots = slotted(np.arange(len(row)), rows_of)
    assert sorted(pairs.tolist()) == list(range(len(row)))
    assert sorted(rows.tolist()) == sorted(set(row))
    for start, size in zip(np.cumsum(slots) - slots, slots, strict=True):
        assert np.array_equal(rows_of[pairs[start:start + size]], rows[:size])
    for one in rows:
        mine = pairs[rows_of[pairs] == one]
        assert (np.diff(mine) > 0).all()
