"""Greedy selection, pick by pick, against the paper's algorithm written naively on full probabilities."""

import gc
import weakref

import numpy as np
import pytest
from ensemble_cases import members

from pipeline.ensemble import greedy
from pipeline.ensemble.contract import Fitted, Predictions, Settings, View
from pipeline.ensemble.greedy import fit_greedy, greedy_picks, refit_greedy
from pipeline.metrics import METRICS, Metric


def _naive(stack: np.ndarray, labels: np.ndarray, metric: Metric, steps: int) -> tuple[list[int], list[float]]:
    """All picks, and the shares in the best ensemble: sorted initialisation, then additions; ties as documented."""
    def loss(bag: list[int]) -> float:
        return round(metric.loss(sum(stack[m].astype(np.float64) for m in bag) / len(bag), labels), 12)

    order = sorted(range(len(stack)), key=lambda m: loss([m]))
    order = [m for i, m in enumerate(order) if not any(np.array_equal(stack[m], stack[o]) for o in order[:i])]
    bag = min((order[:k] for k in range(1, len(order) + 1)), key=loss)
    best = bag
    for _ in range(steps):
        bag = min(([*bag, m] for m in range(len(stack))), key=loss)
        best = min(best, bag, key=loss)
    return bag, [best.count(m) / len(best) for m in range(len(stack))]


def _view(*strengths: float, rows: int = 120, classes: int = 8, seed: int = 0, exact: bool = False) -> View:
    """Members whose sums are exact in float64 if `exact`, so that ties are ties in any order of summation."""
    stack, labels, _ = members(*strengths, rows=rows, classes=classes, seed=seed)
    if exact:
        stack = np.round(stack * 2**6) / np.float32(2**6) + np.float32(2**-10)
    return Predictions(stack, labels).all()


def _same(a: Fitted, b: Fitted) -> bool:
    return (np.array_equal(a.weights, b.weights) and np.array_equal(a.model.single.losses, b.model.single.losses)
            and all(np.array_equal(p.picks, q.picks) and np.array_equal(p.bag, q.bag) and p.best == q.best
                    for p, q in zip(a.model.paths, b.model.paths, strict=True)))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exact", [True, False])
def test_one_bag_picks_what_the_naive_algorithm_picks(metric: str, exact: bool) -> None:
    for seed, strengths in enumerate([(1.4, 1.0, 1.2, 0.6), (1.0, 1.0, 1.0), (2.0, 0.0), (0.4, 0.5, 0.6, 0.7, 0.8)]):
        view = _view(*strengths, seed=seed, exact=exact)
        stack, labels = view.predictions.stack, view.labels
        for steps in (0, 1, 5, 30):
            settings = Settings(METRICS[metric], steps, greedy_bags=1)
            picks, shares = _naive(stack, labels, METRICS[metric], steps)
            assert greedy_picks(view, settings=settings).tolist() == picks, (seed, steps)
            assert fit_greedy(view, settings=settings).weights == pytest.approx(shares), (seed, steps)


@pytest.mark.parametrize("metric", METRICS)
def test_copies_of_members_change_no_pick(metric: str) -> None:
    view = _view(1.2, 1.0, 0.8)
    twice = Predictions(np.concatenate([view.predictions.stack] * 2), view.labels).all()
    settings = Settings(METRICS[metric], 20, greedy_bags=1)
    assert greedy_picks(twice, settings=settings).tolist() == greedy_picks(view, settings=settings).tolist()
    weights = fit_greedy(twice, settings=settings).weights
    assert weights is not None
    assert weights[3:].tolist() == [0, 0, 0]
    alone = Predictions(np.concatenate([view.predictions.stack[:1]] * 2), view.labels).all()
    assert fit_greedy(alone, settings=settings).weights.tolist() == [1, 0]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_refit_is_the_fit_without_the_member(metric: str, share: float) -> None:
    settings = Settings(METRICS[metric], 12, 6, share, seed=3)
    for strengths in [(1.0, 1.2, 0.3, 0.9, 1.1, 0.0), (1.0, 1.1, 0.9), (1.0, 1.1)]:
        view = _view(*strengths)
        fitted = fit_greedy(view, settings=settings)
        for m in range(len(strengths)):
            assert _same(refit_greedy(view, fitted, m, settings=settings),
                         fit_greedy(view.without(m), settings=settings)), (strengths, m)


@pytest.mark.parametrize("metric", METRICS)
def test_refit_is_exact_where_the_left_out_member_alone_tells_others_apart(metric: str) -> None:
    repeats = {(0.7, 0.8, 0.75, 0.1): 1, (0.62, 0.62, 0.3, 0.1): 3, (0.47, 0.47, 0.6, 0.1): 2, (0.9, 0.9, 0.3, 0.1): 2}
    rows = [row for row, times in repeats.items() for _ in range(times)]
    true = np.array(rows, dtype=np.float32).T                                    # (4, 8): of the first class
    view = Predictions(np.stack([true, 1 - true], axis=2), np.zeros(8, dtype=int)).all()
    settings = Settings(METRICS[metric], 4, greedy_bags=1)
    again = refit_greedy(view, fit_greedy(view, settings=settings), 3, settings=settings)
    assert _same(again, fit_greedy(view.without(3), settings=settings))


def test_refit_of_a_refit_is_the_fit_without_both() -> None:
    view, settings = _view(1.0, 1.2, 0.3, 0.9, 1.1), Settings(greedy_steps=12, greedy_bags=6)
    once = refit_greedy(view, fit_greedy(view, settings=settings), 1, settings=settings)
    twice = refit_greedy(view.without(1), once, 2, settings=settings)
    assert _same(twice, fit_greedy(view.only(np.array([0, 2, 4])), settings=settings))


def test_only_bags_that_picked_the_member_search_again(monkeypatch: pytest.MonkeyPatch) -> None:
    view, settings = _view(1.5, 1.4, 0.0, 1.3, 1.2), Settings(greedy_steps=10, greedy_bags=12, greedy_share=0.8)
    fitted, searched = fit_greedy(view, settings=settings), []
    search = greedy._search
    monkeypatch.setattr(greedy, "_search", lambda *args: searched.append(1) or search(*args))
    for m in range(5):
        searched.clear()
        refit_greedy(view, fitted, m, settings=settings)
        assert len(searched) == sum(m in path.picks for path in fitted.model.paths), m
    assert sum(2 in path.bag and 2 not in path.picks for path in fitted.model.paths) > 0


@pytest.mark.parametrize("metric", METRICS)
def test_weights_are_the_mean_over_the_bags(metric: str) -> None:
    view = _view(1.0, 1.2, 0.3, 0.9, 1.1)
    fitted = fit_greedy(view, settings=Settings(METRICS[metric], 8, 5, 0.6))
    single = Settings(METRICS[metric], 8, greedy_bags=1)
    expected = np.zeros(5)
    for path in fitted.model.paths:
        expected[path.bag] += fit_greedy(view.only(path.bag), settings=single).weights / 5
    assert fitted.weights == pytest.approx(expected)
    assert fitted.weights.sum() == pytest.approx(1, abs=1e-12)


def test_bags_are_drawn_by_member_and_seed_and_none_is_empty() -> None:
    def bags(*chosen: int, share: float = 0.5, seed: int = 0) -> list[set[int]]:
        settings = Settings(greedy_bags=200, greedy_share=share, seed=seed)
        return [{chosen[place] for place in bag} for bag in greedy._bags(np.array(chosen), settings)]

    whole = bags(*range(10))
    assert whole == bags(*range(10))
    assert whole != bags(*range(10), seed=1)
    for bag, rest in zip(whole, bags(*range(9)), strict=True):
        assert rest == bag - {9} or bag == {9}
    assert sum(map(len, whole)) / 2000 == pytest.approx(0.5, abs=0.05)
    assert {len(bag) for bag in bags(*range(10), share=0.0)} == {1}
    assert bags(4, 7, share=0.0) == [{4, 7}] * 200
    assert bags(*range(10), share=1.0) == [set(range(10))] * 200


@pytest.mark.parametrize("metric", METRICS)
def test_ties_of_counts_go_to_an_order_drawn_for_each_bag(metric: str) -> None:
    stack = np.stack([_view(1.0).predictions.stack[0]] * 4)
    fitted = fit_greedy(Predictions(stack, _view(1.0).labels).all(), settings=Settings(METRICS[metric], 2, 40, 1.0))
    first = {int(path.picks[0]) for path in fitted.model.paths}
    assert first == ({0} if metric == "log_loss" else {0, 1, 2, 3})


@pytest.mark.parametrize("metric", METRICS)
def test_permuted_rows_members_and_classes_give_the_same_weights(metric: str) -> None:
    view, random = _view(1.0, 1.2, 0.3, 0.9), np.random.default_rng(5)
    stack, labels, settings = view.predictions.stack, view.labels, Settings(METRICS[metric], 15, greedy_bags=1)
    rows, classes = random.permutation(stack.shape[1]), random.permutation(8)
    expected = fit_greedy(view, settings=settings).weights
    shuffled = Predictions(stack[:, rows], labels[rows]).all()
    assert np.array_equal(fit_greedy(shuffled, settings=settings).weights, expected)
    renamed = Predictions(np.ascontiguousarray(stack[:, :, classes]), classes.argsort()[labels]).all()
    assert np.array_equal(fit_greedy(renamed, settings=settings).weights, expected)


@pytest.mark.parametrize("metric", METRICS)
def test_a_view_of_some_rows_and_members_is_fitted_as_if_there_were_no_others(metric: str) -> None:
    view, settings = _view(1.0, 1.2, 0.3, 0.9, rows=200), Settings(METRICS[metric], 10, greedy_bags=1)
    chosen, rows = np.array([3, 0, 1]), np.sort(np.random.default_rng(0).integers(0, 200, 150))
    fit_greedy(view, settings=settings)                 # the compact form of the whole is remembered
    some = fit_greedy(view.only(chosen).at(rows), settings=settings)
    alone = Predictions(view.predictions.stack[chosen][:, rows], view.labels[rows]).all()
    assert np.array_equal(some.weights, fit_greedy(alone, settings=settings).weights)


@pytest.mark.parametrize("metric", METRICS)
def test_never_worse_in_sample_than_any_front_of_the_sorted_members(metric: str) -> None:
    score = METRICS[metric]
    for seed in range(5):
        view = _view(1.0, 1.1, 0.0, 0.9, seed=seed, exact=True)
        stack = view.predictions.stack.astype(np.float64)
        weights = fit_greedy(view, settings=Settings(score, 10, greedy_bags=1)).weights
        order = sorted(range(4), key=lambda m: score.loss(stack[m], view.labels))
        fronts = [stack[order[:k]].sum(axis=0) / k for k in range(1, 5)]
        blend = np.tensordot(weights, stack, axes=1)
        assert score.loss(blend, view.labels) <= min(score.loss(front, view.labels) for front in fronts) + 1e-12


def test_what_a_fit_remembers_does_not_keep_the_predictions_alive() -> None:
    view = _view(1.0, 0.8)
    alive = weakref.ref(view.predictions)
    fit_greedy(view, settings=Settings(greedy_steps=2))
    gc.disable()
    try:
        del view
        assert alive() is None
    finally:
        gc.enable()


def test_the_log_loss_of_many_certain_errors_does_not_underflow() -> None:
    stack = np.full((2, 100, 3), 0.5, dtype=np.float32)
    stack[:, :, 0] = 0
    stack[1, 0, 0] = 1e-3
    view = Predictions(stack, np.zeros(100, dtype=int)).all()
    assert greedy_picks(view, settings=Settings(greedy_steps=200, greedy_bags=1)).tolist() == [1] * 201


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (15, 3), (33, 5), (4500, 6)])
def test_any_number_of_rows_and_classes(metric: str, rows: int, classes: int) -> None:
    view = _view(1.0, 0.8, rows=rows, classes=classes)
    picks, _ = _naive(view.predictions.stack, view.labels, METRICS[metric], 6)
    assert greedy_picks(view, settings=Settings(METRICS[metric], 6, greedy_bags=1)).tolist() == picks
