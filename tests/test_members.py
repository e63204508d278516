"""The member contract: a round trip, and a refusal that names the file and the fix for everything else."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.members import Member, Roster, read_member, write_member

CLASSES = ["ant", "bee", "cat"]
ROSTER = Roster([f"i{k}" for k in range(6)], ["t0", "t1"], np.array([0, 1, 0, 1, 0, 1]), CLASSES, "d1g3st")


@pytest.fixture
def member(tmp_path):
    random = np.random.default_rng(0)
    oof, test = (random.dirichlet(np.ones(3), size=n).astype(np.float32) for n in (6, 2))
    write_member(tmp_path / "net", Member("net", oof, test), ROSTER)
    return Member("net", oof, test), tmp_path / "net"


def edit(path, change):
    """Rewrites a member file as a hand edit would, its metadata kept."""
    table = pq.read_table(path)
    metadata = table.schema.metadata
    frame = change(table.to_pandas())
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(metadata), path)


def test_round_trip_is_exact(member):
    wrote, directory = member
    read = read_member(directory, ROSTER)
    assert read.name == "net"
    np.testing.assert_array_equal(read.oof, wrote.oof)
    np.testing.assert_array_equal(read.test, wrote.test)


def test_columns_and_types(member):
    table = pq.read_table(member[1] / "oof.parquet")
    assert table.column_names == ["id", "fold", *CLASSES]
    assert [table.schema.field(c).type for c in CLASSES] == [pa.float32()] * 3
    assert pq.read_table(member[1] / "test.parquet").column_names == ["id", *CLASSES]


def test_rows_are_joined_by_id_not_by_position(member):
    wrote, directory = member
    edit(directory / "oof.parquet", lambda f: f.sample(frac=1, random_state=3))
    np.testing.assert_array_equal(read_member(directory, ROSTER).oof, wrote.oof)


def cell(row, column, value):
    def change(frame):
        frame.loc[row, column] = value
        return frame
    return change


EDITS = {
    "missing row": (lambda f: f.drop(index=2), "missing: 'i2'"),
    "foreign id": (cell(2, "id", "zz"), "foreign: 'zz'"),
    "duplicated id": (lambda f: pd.concat([f, f.iloc[[1]]]), "1 duplicated ids: 'i1'"),
    "NaN": (cell(3, "bee", np.nan), "first at id 'i3'"),
    "negative": (cell(3, "bee", np.float32(-0.5)), "negative probability, first at id 'i3'"),
    "row sum": (cell(3, "bee", np.float32(0.999)), "rows must sum to one; id 'i3'"),
    "class order": (lambda f: f[["id", "fold", "bee", "ant", "cat"]], "another order than the class list"),
    "missing class": (lambda f: f.drop(columns="cat"), "missing: 'cat'"),
    "other class": (lambda f: f.rename(columns={"cat": "dog"}), "not expected: 'dog'"),
    "other fold": (cell(4, "fold", 1), "id 'i4' is in fold 1, but folds/folds.csv says 0"),
    "text": (lambda f: f.assign(cat="x"), "not numeric"),
}


@pytest.mark.parametrize("name", EDITS)
def test_hand_edited_file_is_refused(member, name):
    change, message = EDITS[name]
    path = member[1] / "oof.parquet"
    edit(path, change)
    with pytest.raises(UserError) as caught:
        read_member(member[1], ROSTER)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "fix: " in str(caught.value)


def test_other_fold_digest_is_refused(member):
    other = Roster(ROSTER.train_ids, ROSTER.test_ids, ROSTER.folds, CLASSES, "0ther")
    with pytest.raises(UserError, match=r"made on fold digest d1g3st, but folds/folds\.csv has 0ther"):
        read_member(member[1], other)


@pytest.mark.parametrize("part", ["oof", "test"])
def test_missing_and_truncated_files_are_refused(member, part):
    path = member[1] / f"{part}.parquet"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="not a readable parquet file"):
        read_member(member[1], ROSTER)
    path.unlink()
    with pytest.raises(UserError, match="the file is missing"):
        read_member(member[1], ROSTER)
