"""The learning-rate range test: losses of the training itself, rates of known curves, a command that adds two files."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from training_jobs import fold_job, pack_digits, relabelled

from pipeline import cli
from pipeline.closure import ROOT
from pipeline.data.store import Packed, open_packed
from pipeline.errors import UserError
from pipeline.lr_range import RangeCurve, range_test, smooth, suggest
from pipeline.plots.lr_range import draw_lr_range
from pipeline.training.fold import train_fold

LOGS = np.linspace(-10.0, 2.0, 201)
FALLING = 2.3 - 1.3 / (1 + np.exp(-2 * (LOGS + 5)))     # steepest at log lr -5
RISING = np.maximum(0, LOGS + 1) ** 2                   # from log lr -1


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("digits") / "packed")


def curve(smoothed: np.ndarray, *, steps: int = 201) -> RangeCurve:
    return RangeCurve(np.exp(LOGS[:len(smoothed)]), smoothed, smoothed, steps)


def test_smoothing_is_pandas_adjusted_exponential_mean() -> None:
    losses = np.random.default_rng(0).random(120) + 1
    expected = pd.Series(losses).ewm(alpha=10 / 150, adjust=True).mean()
    np.testing.assert_allclose(smooth(losses, steps=150), expected, rtol=1e-12)


def test_the_rates_of_a_known_curve() -> None:
    found = suggest(curve(FALLING + RISING), where="")
    lowest = np.exp(LOGS[(FALLING + RISING).argmin()])
    assert found.steepest == pytest.approx(np.exp(LOGS[np.abs(LOGS + 5).argmin()]))
    assert (found.lowest, found.bound, found.turned) == pytest.approx((lowest, lowest / 10, True))


def test_one_lucky_batch_does_not_decide_the_slope() -> None:
    losses = FALLING + RISING
    clean = suggest(curve(smooth(losses, steps=201)), where="")
    losses[50] -= 1.0
    smoothed = smooth(losses, steps=201)
    assert np.diff(smoothed).argmin() == 49                 # the steepest single step, at log lr -7
    assert suggest(curve(smoothed), where="").steepest == pytest.approx(clean.steepest, rel=1e-12)


def test_a_loss_that_still_falls_has_not_turned() -> None:
    found = suggest(curve(FALLING), where="")
    assert (found.lowest, found.turned) == (pytest.approx(np.exp(2)), False)


@pytest.mark.parametrize("losses", [np.full(201, 2.3), np.linspace(2.3, 9.0, 40), np.array([2.3]), np.zeros(0)],
                         ids=["flat", "growing", "one step", "no step"])
def test_a_loss_that_never_falls_is_refused(losses: np.ndarray) -> None:
    with pytest.raises(UserError, match=rf"^here: the loss did not fall in {len(losses)} of 201 steps; fix: "):
        suggest(curve(losses), where="here")


@pytest.mark.parametrize("changes", [
    {},
    {"options": {"dropout": 0.5}, "accumulate": 2, "mix": {"mixup": 0.4}, "erase": {},
     "loss": {"smoothing": 0.1, "class_weights": "balanced"}},
    {"optimiser": {"name": "adamw", "lr": 0.05, "weight_decay": 0.3, "clip": 0.1}, "sampling": "balanced"},
    {"early_stopping": {"patience": 9, "holdout": 0.2}, "precision": "bf16"},
], ids=["plain", "accumulated", "adamw", "early stopping"])
def test_at_one_rate_it_is_the_training(packed: Path, tmp_path: Path, changes: dict) -> None:
    """The mean loss of each epoch is what the training itself writes to its curves."""
    job = fold_job(packed, tmp_path, schedule={"name": "constant", "warmup": 0.0}, epochs=2, **changes)
    job = replace(job, precision=job.config.precision)
    expected = pd.read_csv(train_fold(job) / "curves.csv")["train_loss"]
    rows = 128 if job.config.early_stopping else 160
    steps = rows // job.config.batch // job.config.accumulate
    losses = range_test(job, low=0.05, high=0.05, steps=2 * steps).losses
    assert losses.reshape(2, -1).mean(axis=1) == pytest.approx(expected, rel=1e-5)


def test_a_frozen_network_s_head_is_tested_on_its_features(packed: Path, tmp_path: Path) -> None:
    labels = open_packed(packed).labels
    np.save(tmp_path / "features.npy", np.eye(10, dtype=np.float16)[labels])
    job = fold_job(packed, tmp_path, freeze="all", pretrained=True)
    result = range_test(replace(job, features=tmp_path / "features.npy"), low=1e-4, high=10.0, steps=60)
    assert result.losses[0] == pytest.approx(np.log(10), abs=0.5)
    assert result.losses[-5:].max() < 0.01


def test_rates_rise_by_one_factor_and_each_step_is_told(packed: Path, tmp_path: Path) -> None:
    told: list[tuple[int, float]] = []
    result = range_test(fold_job(packed, tmp_path), low=1e-4, high=1e-2, steps=12,
                        after_step=lambda step, loss: told.append((step, loss)))
    assert result.lrs == pytest.approx(1e-4 * 100 ** (np.arange(12) / 11))
    np.testing.assert_array_equal(result.smoothed, smooth(result.losses, steps=12))
    assert [step for step, _ in told] == list(range(1, 13))
    assert [loss for _, loss in told] == pytest.approx(result.smoothed, rel=1e-12)
    assert list(tmp_path.iterdir()) == []


def test_a_diverging_test_ends_early(packed: Path, tmp_path: Path) -> None:
    result = range_test(fold_job(packed, tmp_path), low=1e-3, high=1e6, steps=60)
    assert np.isfinite(result.losses).all()
    assert 5 < len(result.losses) < 60
    assert (result.smoothed[:-1] <= 4 * np.minimum.accumulate(result.smoothed[:-1])).all()


def test_a_loss_that_is_not_finite_is_left_out(packed: Path, tmp_path: Path) -> None:
    result = range_test(fold_job(packed, tmp_path), low=1e30, high=1e31, steps=60)
    assert result.losses == pytest.approx([np.log(10)], abs=0.2)
    np.testing.assert_array_equal(result.smoothed, result.losses)


def test_the_same_job_gives_the_same_losses_and_another_seed_others(packed: Path, tmp_path: Path) -> None:
    job = fold_job(packed, tmp_path)
    first, again, other = (range_test(j, low=1e-3, high=1.0, steps=8).losses for j in (job, job, replace(job, seed=8)))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_held_rows_are_never_seen(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = fold_job(packed, tmp_path / "scratch")
    losses = range_test(job, low=1e-3, high=1.0, steps=8).losses
    for rows, same in ((job.held_rows, True), (job.fit_rows, False)):
        other = replace(job, packed=relabelled(packed, tmp_path / f"{same}", rows))
        assert np.array_equal(range_test(other, low=1e-3, high=1.0, steps=8).losses, losses) == same
    seen: list[int] = []
    image = Packed.image
    monkeypatch.setattr(Packed, "image", lambda store, row: seen.append(int(row)) or image(store, row))
    range_test(job, low=1e-3, high=1.0, steps=8)
    assert set(seen) == set(job.fit_rows.tolist())


def test_the_picture_marks_the_rates() -> None:
    axes = draw_lr_range(np.exp(LOGS), FALLING, smoothed=FALLING, suggested=0.01, bound=0.02, current=0.05,
                         title="net").axes[0]
    marked = [line.get_xdata() for line in axes.lines[2:]]
    assert [list(x) for x in marked] == [[0.01, 0.01], [0.02, 0.02], [0.05, 0.05]]
    np.testing.assert_array_equal(axes.lines[1].get_xydata(), np.column_stack([np.exp(LOGS), FALLING]))
    assert (axes.get_xscale(), axes.get_title()) == ("log", "net")
    assert [text.get_text() for text in axes.get_legend().get_texts()][2:] == [
        "steepest descent: 0.01", "a tenth of the minimum's: 0.02", "params.yaml: 0.05"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the smoke preset as params.yaml; digits need no files."""
    monkeypatch.chdir(tmp_path)
    tree = YAML(typ="safe").load((ROOT / "presets/smoke.yaml").read_text())
    with Path("params.yaml").open("w") as handle:
        YAML(typ="safe").dump(tree, handle)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_the_command_says_what_to_set_and_only_adds_its_files(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "prepare") == run(monkeypatch, "folds") == 0
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    capsys.readouterr()
    options = ("lr-find", "lenet", "--from", "1e-4", "--to", "1", "--steps", "60", "--fold", "1")
    assert run(monkeypatch, *options, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    after = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    added = {project / "reports/lr/lenet.csv", project / "reports/lr/lenet.png"}
    assert after.keys() - before.keys() == added
    assert {path: after[path] for path in before} == before

    table = pd.read_csv(found["table"])
    lowest = table["lr"][table["smoothed"].idxmin()]
    assert (found["model"], found["fold"], found["current"], found["steps"]) == ("lenet", 1, 0.01, len(table))
    assert (found["lowest"], found["bound"]) == pytest.approx((lowest, lowest / 10))
    assert found["steepest"] in table["lr"].tolist()
    assert cv2.imread(found["picture"]).shape == (540, 960, 3)

    assert run(monkeypatch, *options) == 0
    said = capsys.readouterr().out
    assert f"set models.lenet.optimiser.lr: {found['steepest']:.2g} in params.yaml (now 0.01)" in said
    assert {path: path.read_bytes() for path in added} == {path: after[path] for path in added}


@pytest.mark.parametrize(("options", "said"), [
    (("lenet",), "data/packed and folds/folds.csv: missing; fix: dvc repro folds"),
    (("lenett",), "no model 'lenett'"),
    (("lenet", "--from", "1", "--to", "0.1"), "--from 1 --to 0.1: expected two rates, 0 < from < to"),
    (("lenet", "--from", "0"), "--from 0 --to 10: expected two rates, 0 < from < to"),
    (("lenet", "--steps", "39"), "--steps 39: expected at least 40"),
])
def test_refusals(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...],
    said: str,
) -> None:
    assert run(monkeypatch, "lr-find", *options) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_fold_that_is_not_there_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "prepare") == run(monkeypatch, "folds") == 0
    assert run(monkeypatch, "lr-find", "lenet", "--fold", "3") == 2
    assert capsys.readouterr().err == "error: lr-find: --fold 3: expected 0 to 2\n"
    assert not Path("reports").exists()
