"""The figures show the numbers that they were given, and names neither overlap nor leave the page."""

from collections.abc import Callable

import numpy as np
import pytest
from ensemble_cases import members
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pipeline.ensemble.diversity import error_correlation, leaf_order, merge_tree
from pipeline.ensemble.reliability import calibration_error, confusion_matrix, reliability_curve
from pipeline.plots.confusion import class_order, draw_confusion
from pipeline.plots.contact_sheet import draw_contact_sheet
from pipeline.plots.diversity import draw_diversity
from pipeline.plots.forward import Path, draw_forward
from pipeline.plots.loo import COLOURS, draw_loo
from pipeline.plots.lr_range import GREY
from pipeline.plots.reliability import draw_reliability

LONG = "Leave-one-out of rank_calibrated: what its log loss loses without each member"


def _names(count: int) -> list[str]:
    return [f"densenet40_{m}_wide_pseudo.svm" if m % 5 == 0 else f"resnet18_{m}" for m in range(count)]


def _correlation(count: int) -> np.ndarray:
    stack, labels, _ = members(*np.linspace(0.5, 2, count), rows=100)
    return error_correlation(stack, labels)


def _diversity(count: int) -> Figure:
    return draw_diversity(_correlation(count), _names(count), title="Correlation")


def _loo(count: int) -> Figure:
    nested = np.linspace(-0.002, 0.003, count)
    verdicts = ["helps" if x > 0.001 else "hurts" if x < -0.001 else "not distinguishable" for x in nested]
    return draw_loo(_names(count), nested, low=nested - 0.001, high=nested + 0.001, verdicts=verdicts,
                    kept=nested + 0.0001, refitted=nested / 2, title=LONG)


def _forward(count: int) -> Figure:
    scores = 1 / np.arange(1.0, count + 1)
    return draw_forward(Path(_names(count), scores, scores + 0.1),
                        Path(_names(count)[1:], scores[-2::-1] - 0.01, scores[-2::-1] + 0.05),
                        score="log loss", title="Score against number of members")


def _confusion(count: int) -> Figure:
    matrix = np.random.default_rng(0).poisson(0.05, (count, count)) + np.diag(np.full(count, 50))
    return draw_confusion(matrix, [f"siphonophore_calycophoran_{c}" for c in range(count)], title="Confusion")


def _sheet(count: int) -> Figure:
    images = [np.full((10 + i % 3 * 20, 30, 1 + i % 2 * 2), 100, np.uint8) for i in range(count)]
    captions = [f"{i}\nsiphonophore_calycophoran_sphaeronectes_young .02\nartifacts .95" for i in range(count)]
    return draw_contact_sheet(images, captions, title=f"{LONG}: given above suggested")


@pytest.mark.parametrize(("draw", "count"), [
    *((_diversity, count) for count in (1, 2, 10, 40)), *((_loo, count) for count in (2, 10, 40)),
    *((_forward, count) for count in (1, 2, 10, 40)), *((_confusion, count) for count in (2, 10, 121)),
    *((_sheet, count) for count in (1, 3, 20)),
])
def test_names_do_not_overlap_and_stay_on_the_page(draw: Callable[[int], Figure], count: int) -> None:
    figure = draw(count)
    figure.draw_without_rendering()
    used, page = figure.get_tightbbox(), figure.get_size_inches()
    assert min(used.x0, used.y0) >= 0
    assert used.x1 <= page[0]
    assert used.y1 <= page[1]
    for axes in figure.axes:
        groups = [axes.get_xticklabels(), axes.get_yticklabels(), axes.texts]
        for group in groups:
            shown = [label.get_window_extent().shrunk(0.9, 0.9) for label in group if label.get_text()]
            assert not any(a.overlaps(b) for i, a in enumerate(shown) for b in shown[i + 1:])


def test_diversity_is_the_matrix_in_the_order_of_the_tree() -> None:
    correlation = _correlation(6)
    tree = merge_tree(correlation)
    order = leaf_order(tree)
    figure = draw_diversity(correlation, _names(6), title="Correlation of errors")
    heat, merges = figure.axes[:2]
    shown = heat.images[0].get_array().filled(np.nan)
    expected = correlation[np.ix_(order, order)]
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_array_equal(shown, expected)
    assert [t.get_text() for t in heat.get_yticklabels()] == [_names(6)[m] for m in order]
    assert len(heat.texts) == 30
    assert sorted(line.get_xdata().max() for line in merges.lines) == pytest.approx(tree[:, 2].tolist())
    ends = sorted(y for line in merges.lines for x, y in line.get_xydata() if x == 0)
    assert ends == [0, 1, 2, 3, 4, 5]


def test_loo_bars_are_the_nested_differences_in_their_colours() -> None:
    nested = np.array([0.001, 0.003, -0.002])
    figure = draw_loo(["a", "b", "c"], nested, low=nested - 0.0015, high=nested + 0.0005,
                      verdicts=["not distinguishable", "helps", "hurts"], kept=nested * 2, refitted=nested / 2,
                      title="blend")
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["c", "a", "b"]
    assert [bar.get_width() for bar in axes.patches] == [-0.002, 0.001, 0.003]
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == [COLOURS["hurts"], GREY, COLOURS["helps"]]
    reach = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]
    assert reach == [pytest.approx([x - 0.0015, x + 0.0005]) for x in (-0.002, 0.001, 0.003)]
    assert axes.lines[0].get_xdata().tolist() == [-0.004, 0.002, 0.006]
    assert axes.lines[1].get_xdata().tolist() == [-0.001, 0.0005, 0.0015]


def test_forward_joins_both_paths_in_the_ensemble_of_all() -> None:
    figure = draw_forward(Path(["a", "b", "c"], np.array([3.0, 2, 1]), np.array([3.5, 2.5, 2])),
                          Path(["b", "c"], np.array([1.5, 2.8]), np.array([1.9, 3.1])), score="log loss", title="blend")
    axes = figure.axes[0]
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines]
    assert lines == [([1, 2, 3], [3.5, 2.5, 2]), ([1, 2, 3], [3, 2, 1]),
                     ([3, 2, 1], [2, 1.9, 3.1]), ([3, 2, 1], [1, 1.5, 2.8])]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a  1", "b  2", "c  3"]
    above = axes.child_axes[0]
    figure.draw_without_rendering()
    assert [(t.get_position()[0], t.get_text()) for t in above.get_xticklabels()] == [(2, "b"), (1, "c")]


def test_reliability_shows_each_curve_and_its_calibration_error() -> None:
    stack, labels, _ = members(2.0, 1.0, rows=300)
    curves = {name: reliability_curve(member, labels) for name, member in zip(("final", "best"), stack, strict=True)}
    figure = draw_reliability(curves, title="Reliability")
    above, below = figure.axes
    for i, curve in enumerate(curves.values()):
        drawn, gap = above.containers[i], below.containers[i]
        np.testing.assert_allclose(drawn.lines[0].get_xydata(), np.column_stack([curve.confidence, curve.accuracy]))
        np.testing.assert_allclose(gap.lines[0].get_ydata(), curve.accuracy - curve.confidence)
        bars = np.array(drawn.lines[2][0].get_segments())[:, :, 1]
        np.testing.assert_allclose(bars, np.column_stack([curve.low, curve.high]), atol=1e-12)
    assert [t.get_text() for t in above.get_legend().get_texts()] == [
        f"{name}: calibration error {calibration_error(curve):.4f}" for name, curve in curves.items()]


def test_few_classes_keep_their_order_and_show_counts() -> None:
    stack, labels, _ = members(1.0, rows=200, classes=4)
    matrix = confusion_matrix(stack[0], labels)
    axes = draw_confusion(matrix, list("abcd"), title="Confusion").axes[0]
    share = matrix / matrix.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array().filled(0), share)
    written = {(int(y), int(x)): int(t.get_text()) for t in axes.texts for x, y in [t.get_position()]}
    assert written == {(i, j): matrix[i, j] for i, j in np.argwhere(matrix)}
    assert [t.get_text() for t in axes.get_yticklabels()] == list("abcd")


def test_a_page_of_very_many_classes_stays_a_page() -> None:
    figure = draw_confusion(np.eye(200, dtype=np.int64), [str(c) for c in range(200)], title="Confusion")
    assert figure.get_size_inches().tolist() == pytest.approx([27.2, 26.2])


def test_many_classes_are_ordered_by_what_is_taken_for_what() -> None:
    """Class 2k is taken for the one 20 further on: they become neighbours, and every cell moves with its names."""
    matrix = np.diag(np.full(40, 30))
    matrix[np.arange(0, 20, 2), np.arange(20, 40, 2)] = 10
    order = class_order(matrix)
    place = np.argsort(order)
    assert sorted(order.tolist()) == list(range(40))
    assert all(abs(place[c] - place[c + 20]) == 1 for c in range(0, 20, 2))
    axes = draw_confusion(matrix, [str(c) for c in range(40)], title="Confusion").axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == [str(c) for c in order]
    share = matrix / matrix.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array().filled(0), share[np.ix_(order, order)])


def test_contact_sheet_keeps_ratios_reads_row_by_row_and_shortens_long_lines() -> None:
    images = [np.full((20, 10, 1), 7, np.uint8), np.full((10, 40, 3), 200, np.uint8), np.full((5, 5, 1), 9, np.uint8)]
    figure = draw_contact_sheet(images, ["one", "two\n" + "x" * 30 + "y" * 30, "three"], columns=2, title="Sheet")
    axes = figure.axes[0]
    extents = [image.get_extent() for image in axes.images]
    ratios = [abs(top - bottom) / (right - left) for left, right, bottom, top in extents]
    assert ratios == pytest.approx([2, 0.25, 1])
    assert [max(abs(t - b), r - x) for x, r, b, t in extents] == pytest.approx([1, 1, 1])
    assert extents[0][0] < extents[1][0]
    assert extents[2][3] > extents[0][2]
    assert [image.get_array()[0, 0].tolist() for image in axes.images] == [[7] * 3, [200] * 3, [9] * 3]
    assert [t.get_text() for t in axes.texts] == ["one", "two\n" + "x" * 21 + "…" + "y" * 21, "three"]
