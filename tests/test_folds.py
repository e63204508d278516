"""Folds partition the rows, spread every class, and keep together what must not be parted."""

import numpy as np
import pytest

from pipeline.cells import cells, fold_digest
from pipeline.config.data import FoldsConfig
from pipeline.errors import UserError
from pipeline.folds import FoldAssignment, assign_folds, groups_from_pattern

COUNTS = (40, 23, 11, 5, 3, 1)
CLASSES = ["a", "b", "c", "d", "e", "f"]


def labels_of(counts: tuple[int, ...] = COUNTS) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


def unique_hashes(n: int) -> list[str]:
    return [f"h{i}" for i in range(n)]


def assign(labels: np.ndarray, *, seed: int = 0, groups: list[str] | None = None, hashes: list[str] | None = None,
           **config: object) -> FoldAssignment:
    return assign_folds(labels, config=FoldsConfig(**config), seed=seed, groups=groups,
                        hashes=hashes or unique_hashes(len(labels)), classes=CLASSES)


def test_stratified_folds_differ_by_at_most_one_row_in_every_class_and_in_all() -> None:
    labels = labels_of()
    for row in assign(labels, k=5, repeats=3).folds:
        table = np.array([np.bincount(row[labels == c], minlength=5) for c in range(6)])   # (C, k)
        assert np.ptp(table, axis=1).max() <= 1
        assert np.ptp(table.sum(axis=0)) <= 1
        assert table.sum(axis=1).tolist() == list(COUNTS)


def test_cells_cut_every_repeat_into_fit_and_held_rows() -> None:
    folds = assign(labels_of(), k=4, repeats=2).folds
    found = cells(folds)
    assert [(c.index, c.repeat, c.fold) for c in found] == [(r * 4 + f, r, f) for r in range(2) for f in range(4)]
    for cell in found:
        assert not set(cell.fit_rows) & set(cell.held_rows)
        assert sorted([*cell.fit_rows, *cell.held_rows]) == list(range(83))
    for repeat in range(2):
        assert sorted(np.concatenate([c.held_rows for c in found if c.repeat == repeat])) == list(range(83))


def test_identical_images_share_a_fold_and_their_sets_are_reported() -> None:
    labels = labels_of()
    hashes = unique_hashes(83)
    c = np.flatnonzero(labels == 0)
    other = int(np.flatnonzero(labels == 1)[0])
    for row in c[:7]:
        hashes[row] = "same"
    hashes[other] = hashes[c[10]]
    result = assign(labels, k=5, repeats=4, hashes=hashes)
    assert (result.folds[:, c[:7]] == result.folds[:, c[:1]]).all()
    assert (result.folds[:, other] == result.folds[:, c[10]]).all()
    assert sorted(map(sorted, result.report["duplicate_sets"])) == sorted([sorted(c[:7]), sorted([other, c[10]])])
    assert list(map(sorted, result.report["conflicting_sets"])) == [sorted([other, c[10]])]
    assert result.report["warnings"][1:] == [
        "9 images are byte-identical to another one (2 sets); each set stays in one fold",
        "1 sets of byte-identical images carry different labels; at most one label of each can be right"]


def test_rare_classes_are_said_by_name(recwarn: pytest.WarningsRecorder) -> None:
    report = assign(labels_of(), k=5).report
    assert report["class_counts"] == list(COUNTS)
    assert report["rare_classes"] == [{"class": "f", "rows": 1}, {"class": "e", "rows": 3}]
    assert report["warnings"] == [
        "2 classes have fewer rows than the 5 folds, so some folds hold none of them: 'f (1)', 'e (3)'"]
    assert not recwarn.list


@pytest.mark.parametrize("scheme", ["group", "stratified_group"])
def test_groups_and_identical_images_across_groups_share_a_fold(scheme: str) -> None:
    labels = labels_of()
    groups = [f"g{i % 20}" for i in range(83)]
    hashes = unique_hashes(83)
    hashes[1] = hashes[0]                           # ties group g1 to group g0
    folds = assign(labels, k=4, repeats=3, scheme=scheme, groups=groups, hashes=hashes).folds
    for row in folds:
        of_group = {g: {int(f) for f, name in zip(row, groups, strict=True) if name == g} for g in set(groups)}
        assert all(len(found) == 1 for found in of_group.values())
        assert of_group["g0"] == of_group["g1"]
        assert set(row.tolist()) == {0, 1, 2, 3}


def test_folds_depend_on_the_seed_and_on_nothing_else() -> None:
    labels = labels_of()
    one = assign(labels, k=5, repeats=2)
    np.testing.assert_array_equal(one.folds, assign(labels, k=5, repeats=2).folds)
    assert (one.folds[0] != one.folds[1]).any()
    assert (one.folds[0] != assign(labels, k=5, seed=1).folds[0]).any()
    np.testing.assert_array_equal(one.folds[0], assign(labels, k=5).folds[0])


@pytest.mark.parametrize(("counts", "config", "said"), [
    ((2, 1), {"k": 4}, "folds.k is 4, but the training data has 3 rows with 3 different images; "
                       "fix: set folds.k to at most 3, or add data"),
    ((3, 3), {"k": 4}, "folds.k is 4, but no class has that many rows: the largest is 'a' with 3; "
                       "fix: lower folds.k or add data"),
    ((9, 9), {"k": 4, "scheme": "group"}, "folds.scheme: group needs groups; fix: set data.group_column (source csv) "
                                          "or folds.group_pattern, or say scheme: stratified"),
    ((9, 9), {"k": 4, "scheme": "group", "groups": ["x", "y", "z"] * 6},
     "folds.k is 4, but the training data has 18 rows with 3 groups; fix: set folds.k to at most 3, or add data"),
])
def test_impossible_folds_are_refused(counts: tuple[int, ...], config: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        assign(labels_of(counts), **config)
    assert str(caught.value) == said


def test_rows_that_are_all_copies_are_too_few() -> None:
    with pytest.raises(UserError, match="20 rows with 2 different images"):
        assign(labels_of((10, 10)), k=3, hashes=["x", "y"] * 10)


def test_groups_from_pattern() -> None:
    assert groups_from_pattern(["p1_a", "p1_b", "p22_a"], r"^p(\d+)_") == ["1", "1", "22"]
    with pytest.raises(UserError, match="does not match 1 of 2 ids: 'x'"):
        groups_from_pattern(["p1_a", "x"], r"^p(\d+)_")
    with pytest.raises(UserError, match="is not a regular expression"):
        groups_from_pattern(["a"], "(")
    with pytest.raises(UserError, match="has no group"):
        groups_from_pattern(["a"], "a")


def test_digest_sees_every_id_label_and_fold_but_not_the_order_of_rows() -> None:
    ids, labels, folds = ["a", "b", "c"], ["x", "y", "x"], np.array([[0, 1, 1], [1, 0, 1]])
    base = fold_digest(ids, labels, folds)
    assert fold_digest(ids[::-1], labels[::-1], folds[:, ::-1]) == base
    moved = folds.copy()
    moved[1, 2] = 0
    others = [fold_digest(ids, labels, moved), fold_digest(["a", "b", "d"], labels, folds),
              fold_digest(ids, ["x", "x", "x"], folds), fold_digest(ids, labels, folds[:1])]
    assert len({base, *others}) == 5
