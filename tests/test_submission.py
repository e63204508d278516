"""A submission is built in the competition's order and spelling, and the gate refuses everything else."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.submission import check_sample, gate, match_ids, submission_frame

IDS = ["7", "8", "9"]
CLASSES = ["cat", "dog"]
P = np.array([[0.9, 0.1], [0.25, 0.75], [1.0, 0.0]], np.float32)
SAMPLE = pd.DataFrame({"image": ["9.jpg", "7.jpg", "8.jpg"], "dog": ["0"] * 3, "cat": ["1"] * 3})


def frame(sample: pd.DataFrame | None = SAMPLE, clip: float = 0.0) -> pd.DataFrame:
    return submission_frame(P, test_ids=IDS, classes=CLASSES, sample=sample, id_column="id", clip=clip)


def refusal(bad: pd.DataFrame, sample: pd.DataFrame | None = SAMPLE) -> list[str]:
    with pytest.raises(UserError) as caught:
        gate(bad, test_ids=IDS, classes=CLASSES, sample=sample, id_column="id")
    return str(caught.value).splitlines()


def test_rows_and_columns_are_joined_to_the_sample_by_name() -> None:
    made = frame()
    assert made.columns.tolist() == ["image", "dog", "cat"]
    assert made["image"].tolist() == ["9.jpg", "7.jpg", "8.jpg"]
    np.testing.assert_allclose(made[["dog", "cat"]].to_numpy(), P[[2, 0, 1]][:, ::-1], rtol=1e-6)
    gate(made, test_ids=IDS, classes=CLASSES, sample=SAMPLE, id_column="id")


def test_without_a_sample_the_class_list_decides() -> None:
    made = frame(None)
    assert made.columns.tolist() == ["id", "cat", "dog"]
    assert made["id"].tolist() == IDS
    gate(made, test_ids=IDS, classes=CLASSES, sample=None, id_column="id")


def test_clipping_keeps_rows_at_one() -> None:
    values = frame(None, clip=0.01)[CLASSES].to_numpy()
    np.testing.assert_allclose(values[2], [0.99, 0.01], rtol=1e-12)
    np.testing.assert_allclose(values[0], [0.9, 0.1], rtol=1e-6)
    np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-12)


def test_probabilities_of_another_shape_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\), expected \(3, 2\)"):
        submission_frame(P[:2], test_ids=IDS, classes=CLASSES, sample=None, id_column="id", clip=0)


def test_ids_match_exactly_first_and_then_without_suffix_or_folder() -> None:
    known = ["7", "a/8", "x.y", "x"]
    written = ["7", "7.jpg", "test/7.jpg", "a/8.png", "x.y", "x.png", "10", ""]
    assert match_ids(written, known).tolist() == [0, 0, 0, 1, 2, 3, -1, -1]


@pytest.mark.parametrize(("change", "said"), [
    (lambda s: s.assign(image=["9.jpg", "7.jpg", "88.jpg"]),
     ["1 ids are not among the test images: '88.jpg'", "1 test images are not in the sample: '8'"]),
    (lambda s: s.assign(image=["9.jpg", "7.jpg", "7"]),
     ["1 test images are not in the sample: '8'", "1 duplicated ids: '7'"]),
    (lambda s: s.rename(columns={"dog": "dgo"}),
     ["1 missing classes: 'dog'", "1 foreign classes: 'dgo'; did you mean 'dog'?"]),
])
def test_a_sample_with_other_ids_or_classes_is_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], said: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        check_sample(change(SAMPLE), test_ids=IDS, classes=CLASSES)
    assert str(caught.value).splitlines() == said


def with_value(value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(made: pd.DataFrame) -> pd.DataFrame:
        changed = made.astype({"dog": object})
        changed.loc[1, "dog"] = value
        return changed
    return change


@pytest.mark.parametrize(("change", "said"), [
    (lambda f: f.iloc[:2], ["1 missing ids: '8.jpg'"]),
    (lambda f: f.assign(image=["9.jpg", "7.jpg", "1.jpg"]),
     ["1 missing ids: '8.jpg'", "1 foreign ids: '1.jpg'; did you mean '8.jpg'?"]),
    (lambda f: pd.concat([f, f.iloc[:1]]), ["1 duplicated ids: '9.jpg'"]),
    (lambda f: f.iloc[[1, 0, 2]], ["ids are in another order; number 1 is '7.jpg', expected '9.jpg'"]),
    (lambda f: f[["image", "cat", "dog"]], ["columns are in another order; number 2 is 'cat', expected 'dog'"]),
    (lambda f: f.drop(columns="cat"), ["1 missing columns: 'cat'"]),
    (lambda f: f.rename(columns={"image": "id"}), ["1 missing columns: 'image'", "1 foreign columns: 'id'"]),
    (with_value(np.nan), ["1 rows with NaN or infinite probabilities: '7.jpg'"]),
    (with_value(np.inf), ["1 rows with NaN or infinite probabilities: '7.jpg'"]),
    (with_value(0.2), ["1 rows with probabilities that do not sum to one within 0.001: '7.jpg'"]),
    (with_value("x"), ["a class column is not numeric"]),
    (lambda f: f.assign(dog=[0.0, 1.5, 0.75], cat=[1.0, -0.5, 0.25]),
     ["1 rows with probabilities outside [0, 1]: '7.jpg'"]),
])
def test_the_gate_refuses(change: Callable[[pd.DataFrame], pd.DataFrame], said: list[str]) -> None:
    assert refusal(change(frame())) == [f"submission: {line}" for line in said]
