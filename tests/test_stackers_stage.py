"""Stage `stack` joins hand-made features to the rows that they belong to."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.cells import cells
from pipeline.config.stacker import SvmConfig
from pipeline.stackers.registry import load
from pipeline.stages.stack import StackJob, _fit

N, WIDTH, SIDE, CLASSES = 60, 5, 3, 4


@pytest.mark.parametrize("n_test", [0, 7])
@pytest.mark.parametrize("handmade", [False, True])
def test_features_and_hand_made_ones_are_joined_row_by_row(tmp_path: Path, n_test: int, handmade: bool) -> None:
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(n, WIDTH)).astype(np.float16) for n in (N, n_test))
    side = rng.normal(size=(N + n_test, SIDE)).astype(np.float32)
    labels = np.arange(N) % CLASSES
    np.save(tmp_path / "fold0.train.npy", train)
    np.save(tmp_path / "fold0.test.npy", test)
    np.save(tmp_path / "side.npy", side)
    cell, config = cells(np.repeat([0, 1], N // 2)[None])[0], SvmConfig(kind="svm")
    held, unseen = _fit(StackJob(tmp_path / "fold0", tmp_path / "side.npy" if handmade else None, config, cell,
                                 labels[cell.fit_rows], CLASSES, 0))
    whole = np.vstack([train, test]).astype(np.float32)
    if handmade:
        whole = np.hstack([whole, side])
    scorer = load("svm")(whole[cell.fit_rows], labels[cell.fit_rows], n_classes=CLASSES, config=config, seed=0)
    np.testing.assert_array_equal(held, scorer(whole[cell.held_rows]))
    assert unseen.shape == (n_test, CLASSES)
    if n_test:
        np.testing.assert_array_equal(unseen, scorer(whole[N:]))
