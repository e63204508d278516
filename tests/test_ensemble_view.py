"""A view of some members on some rows is what indexing the tensor gives, however it was narrowed; and drop."""

import numpy as np
import pytest
from ensemble_cases import members, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ensemble.contract import BLOCK, Fitted, View, drop
from pipeline.ensemble.means import weighted_sum

KINDS = st.sampled_from(["slice", "rows", "without", "only"])
NARROWINGS = st.lists(st.tuples(KINDS, st.integers(0, 10**6)), max_size=5)


def _indexed(view: View, stack: np.ndarray, labels: np.ndarray) -> None:
    """Every property of the view is that of the stack `(m, n, C)` and labels `(n,)` that it should hold."""
    places = np.arange(len(labels))
    assert len(view) == len(labels)
    assert (np.stack(list(view)) == stack).all()
    assert (view.labels == labels).all()
    assert (view.true == stack[:, places, labels].T).all()
    assert (view.tops == stack.argmax(axis=2)).all()


@settings(deadline=None, max_examples=60)
@given(narrowings=NARROWINGS)
def test_rows_by_slice_or_index_and_members_by_place_compose(narrowings: list[tuple[str, int]]) -> None:
    stack, labels, _ = members(1.0, 0.5, 0.2, 0.0, rows=50)
    view = view_of(stack, labels)
    for kind, seed in narrowings:
        random, (many, rows, _) = np.random.default_rng(seed), stack.shape
        if kind == "slice":
            start = int(random.integers(0, rows))
            place = slice(start, int(random.integers(start + 1, rows + 1)))
            view, stack, labels = view.at(place), stack[:, place], labels[place]
        elif kind == "rows":
            chosen = random.integers(0, rows, size=int(random.integers(1, rows + 1)))
            view, stack, labels = view.at(chosen), stack[:, chosen], labels[chosen]
        elif kind == "without" and many > 1:
            left_out = int(random.integers(0, many))
            view, stack = view.without(left_out), np.delete(stack, left_out, axis=0)
        elif kind == "only":
            order = random.permutation(many)[:random.integers(1, many + 1)]
            view, stack = view.only(order), stack[order]
        _indexed(view, stack, labels)


def test_members_in_another_order_bring_their_true_class_probabilities() -> None:
    stack, labels, _ = members(1.0, 0.5, 0.2, rows=30)
    turned = view_of(stack, labels).only(np.array([2, 0, 1]))
    _indexed(turned, stack[[2, 0, 1]], labels)


@pytest.mark.parametrize("narrow", [slice(0, 1300), slice(100, 1200), np.arange(0, 1300, 2), np.array([5])],
                         ids=["all", "slice", "index", "one row"])
def test_blocks_cover_the_view_once_and_in_order(narrow: slice | np.ndarray) -> None:
    stack, labels, _ = members(1.0, 0.5, rows=1300)
    view = view_of(stack, labels).at(narrow)
    seen = [(np.arange(len(view))[place], block) for place, block in view.blocks()]
    assert np.concatenate([place for place, _ in seen]).tolist() == list(range(len(view)))
    assert all(len(place) == len(block) <= BLOCK for place, block in seen)
    assert (np.concatenate([np.stack(list(block)) for _, block in seen], axis=1) == stack[:, narrow]).all()


@pytest.mark.parametrize("narrow", [slice(0, 1300), np.arange(0, 1300, 2)], ids=["slice", "index"])
@pytest.mark.parametrize("transform", [None, np.sqrt], ids=["plain", "square root"])
def test_weighted_sum_in_blocks_is_einsum(narrow: slice | np.ndarray, transform) -> None:
    stack, labels, _ = members(1.0, 0.5, 0.2, 0.1, rows=1300)
    view = view_of(stack, labels).at(narrow)
    parts = (stack if transform is None else transform(stack))[:, narrow].astype(np.float64)
    shared = np.array([0.4, 0.0, 0.35, 0.25])
    assert weighted_sum(view, shared, transform) == pytest.approx(np.einsum("m,mnc->nc", shared, parts), abs=1e-6)
    own = np.random.default_rng(0).dirichlet(np.ones(4), size=5).T               # (M, C)
    assert weighted_sum(view, own, transform) == pytest.approx(np.einsum("mc,mnc->nc", own, parts), abs=1e-6)


def test_probabilities_of_zero_are_clipped_for_the_true_class_only() -> None:
    stack = np.array([[[0.0, 1.0]]], dtype=np.float32)
    view = view_of(stack, np.array([0]))
    assert view.true.tolist() == [[1e-15]]
    assert next(iter(view)).tolist() == [[0.0, 1.0]]


def test_drop_renormalises_and_falls_back_to_equal_weights() -> None:
    fitted = Fitted(np.array([0.5, 0.3, 0.2]), power=2.0, gap=0.0)
    assert drop(fitted, 0).weights == pytest.approx([0.6, 0.4])
    assert drop(fitted, 0).power == 2.0
    assert drop(fitted, 0).gap is None
    assert drop(Fitted(np.array([1.0, 0.0, 0.0])), 0).weights == pytest.approx([0.5, 0.5])


def test_drop_renormalises_weights_of_classes_class_by_class() -> None:
    fitted = Fitted(np.array([[0.5, 1.0], [0.3, 0.0], [0.2, 0.0]]))
    assert drop(fitted, 0).weights == pytest.approx(np.array([[0.6, 0.5], [0.4, 0.5]]))
    with pytest.raises(ValueError, match="no weights"):
        drop(Fitted(None), 0)


def test_drop_takes_the_member_out_of_the_reference_too() -> None:
    view = view_of(members(1.0, 0.5, 0.2, rows=20)[0])
    assert drop(Fitted(np.full(3, 1 / 3), reference=view), 1).reference.members.tolist() == [0, 2]
