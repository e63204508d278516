"""Laws of reading another tool's table, and of the one entry that is written into params.yaml."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.closure import ROOT
from pipeline.errors import UserError
from pipeline.foreign import Spelling, joined
from pipeline.params_text import with_entry

CLASSES = ["ant", "bee", "cat"]
IDS = [f"i{k}" for k in range(7)]
SEEDS = st.integers(0, 2**32 - 1)


def table(values: np.ndarray, rows, columns) -> pd.DataFrame:
    """The rows and class columns of `values` in another order."""
    frame = pd.DataFrame({CLASSES[c]: values[rows, c] for c in columns})
    frame.insert(0, "id", [IDS[r] for r in rows])
    return frame


@given(SEEDS, st.permutations(range(7)), st.permutations(range(3)), st.booleans())
def test_order_of_rows_and_columns_and_text_do_not_matter(seed, rows, columns, as_text):
    counts = np.random.default_rng(seed).integers(0, 10**6, size=(7, 3)) + np.array([1, 0, 0])
    frame = table(counts, rows, columns)
    frame = frame.astype(str).astype(object) if as_text else frame
    found = joined(frame, IDS, classes=CLASSES, spelling=Spelling(normalise=True))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32))


@given(st.lists(st.sampled_from(CLASSES), min_size=7, max_size=7), st.permutations(range(7)))
def test_votes_are_the_rows_of_the_identity(labels, rows):
    frame = pd.DataFrame({"id": [f"x/{IDS[r]}.png" for r in rows], "label": [labels[r].upper() for r in rows]})
    names = {name.upper(): name for name in CLASSES}
    found = joined(frame, IDS, classes=CLASSES, spelling=Spelling("votes", names))
    np.testing.assert_array_equal(found, [[float(name == label) for name in CLASSES] for label in labels])


@given(SEEDS, st.integers(0, 7))
def test_folds_are_refused_unless_every_row_agrees(seed, differ):
    ours = np.random.default_rng(seed).integers(0, 3, size=7)
    theirs = ours + (np.arange(7) < differ)
    frame = table(np.tile([1.0, 0, 0], (7, 1)), range(7), range(3)).assign(fold=theirs)

    def read():
        return joined(frame, IDS, classes=CLASSES, spelling=Spelling(), folds=ours)

    if not differ:
        np.testing.assert_array_equal(read()[:, 0], np.ones(7))
    else:
        with pytest.raises(UserError, match=f"^table: {differ} rows are in another fold"):
            read()


@pytest.mark.parametrize(("total", "accepted"), [(1.0009, True), (0.9991, True), (1.0011, False), (0.9989, False)])
def test_rows_may_miss_one_by_a_thousandth_and_stay_as_they_are(total, accepted):
    values = np.tile([total - 0.5, 0.25, 0.25], (7, 1))
    frame = table(values, range(7), range(3))
    if accepted:
        np.testing.assert_array_equal(joined(frame, IDS, classes=CLASSES, spelling=Spelling()), np.float32(values))
    else:
        with pytest.raises(UserError, match=r"^table: 7 rows do not sum to one"):
            joined(frame, IDS, classes=CLASSES, spelling=Spelling())


def test_two_columns_of_one_class_are_refused():
    frame = table(np.ones((7, 3)), range(7), range(3)).rename(columns={"bee": "wasp"})
    with pytest.raises(UserError) as caught:
        joined(frame, IDS, classes=CLASSES, spelling=Spelling(classes={"wasp": "cat"}))
    assert str(caught.value).splitlines() == [
        "table: 1 of 3 class columns are missing: 'bee'; fix: add them, or name them with --map",
        "table: 1 classes have two columns: 'cat'; fix: one column per class"]


def test_the_first_column_holds_the_ids_where_none_is_called_so():
    frame = table(np.eye(3)[[0, 1, 2, 0, 1, 2, 0]], range(7), range(3)).rename(columns={"id": "image_name"})
    found = joined(frame, IDS, classes=CLASSES, spelling=Spelling())
    np.testing.assert_array_equal(found.argmax(axis=1), [0, 1, 2, 0, 1, 2, 0])


PRESETS = [path.read_text() for path in sorted((ROOT / "presets").glob("*.yaml"))]
SECTION = """\
seed:   0          # kept
foreign:   # ours
    # the first
    one: {kind: votes}   # by hand

    # the second
    two:
        kind: probabilities  # really

# about models
models: {a:   {net: mlp}}
"""


@pytest.mark.parametrize("text", PRESETS)
def test_a_new_section_comes_last_and_changes_no_byte_before_it(text):
    assert with_entry(text, "foreign", name="a", entry={"kind": "votes"}) == text + "\nforeign:\n  a: {kind: votes}\n"


@pytest.mark.parametrize(("name", "before", "after"), [
    ("three", "\n# about", "    three: {kind: votes}\n\n# about"),
    ("two", "kind: probabilities  # really", "kind: votes          # really"),
])
def test_only_the_lines_of_the_entry_change(name, before, after):
    assert with_entry(SECTION, "foreign", name=name, entry={"kind": "votes"}) == SECTION.replace(before, after)


def test_an_entry_that_is_there_already_leaves_the_text_alone():
    text = SECTION.replace("{kind: votes}", "{ kind:   votes }")
    assert with_entry(text, "foreign", name="one", entry={"kind": "votes"}) == text


@pytest.mark.parametrize("text", ["foreign: {}\n", "foreign: {}", "seed: 0", "seed: 0\r\nforeign:\r\n  a: {}\r\n",
                                  "foreign: {a: {}, b: {kind: votes}}  # c\nseed: 0\n", "foreign:\n  '1': {}\n"])
@pytest.mark.parametrize("name", ["a", "1", "null", "new-one"])
def test_whatever_the_layout_the_tree_has_the_entry_and_all_others(text, name):
    def tree(text):
        return YAML(typ="safe").load(text)

    entry = {"kind": "probabilities"}
    found = tree(with_entry(text, "foreign", name=name, entry=entry))
    assert found == {**tree(text), "foreign": {**tree(text).get("foreign", {}), name: entry}}


@pytest.mark.parametrize("text", ["base: &b {}\nforeign: {a: *b}\n", "{seed: 0}\n", "seed: 0\n...\n"])
def test_a_text_that_cannot_be_spliced_is_refused(text):
    with pytest.raises(UserError, match=r"fix: add it by hand, foreign: \{new: \{kind: votes\}\}, and run"):
        with_entry(text, "foreign", name="new", entry={"kind": "votes"})
