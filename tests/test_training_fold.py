"""Whole folds: the same bytes whatever happens on the way, and no row that it should not see."""

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from training_jobs import fold_job, pack_digits, relabelled

from pipeline.data.store import open_packed
from pipeline.errors import UserError
from pipeline.training.executors import run_jobs
from pipeline.training.fold import train_fold
from pipeline.training.job import FoldJob
from pipeline.training.lock import hold_lock
from pipeline.training.report import read_look
from pipeline.training.schedule import factor
from pipeline.training.weights import load_weights

STOPPING = {"weights": "best", "early_stopping": {"patience": 2, "holdout": 0.2}}
ROOT = Path(__file__).resolve().parent.parent

# Takes the lock of argv[1], says so, and keeps it.
HOLDING = """
import sys, time
from pathlib import Path
from pipeline.training.lock import hold_lock
with hold_lock(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("digits") / "packed")


def trained(job: FoldJob) -> tuple[bytes, bytes]:
    """Bytes of the weights and the curves, from a worker process."""
    scratch = run_jobs(train_fold, [job], slots=1)[0]
    return (scratch / "fold.safetensors").read_bytes(), (scratch / "curves.csv").read_bytes()


@pytest.fixture(scope="module")
def unbroken(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    return trained(fold_job(packed, tmp_path_factory.mktemp("unbroken"), **STOPPING))


def test_replicas_differ_and_the_first_does_not_depend_on_their_number(
    packed: Path, unbroken: tuple[bytes, bytes], tmp_path: Path
) -> None:
    job = fold_job(packed, tmp_path / "first", **STOPPING, seeds=3)
    assert trained(job)[0] == unbroken[0]
    assert trained(replace(job, replica=1, scratch=tmp_path / "second"))[0] != unbroken[0]


def test_the_same_job_gives_the_same_bytes(packed: Path, unbroken: tuple[bytes, bytes], tmp_path: Path) -> None:
    assert trained(fold_job(packed, tmp_path, **STOPPING)) == unbroken


def test_bytes_do_not_depend_on_the_slots(packed: Path, tmp_path: Path) -> None:
    found = []
    for slots in (1, 2):
        jobs = [fold_job(packed, tmp_path / f"{slots}.{cell}", cell=cell, epochs=2) for cell in (0, 1)]
        found.append([(s / "fold.safetensors").read_bytes() for s in run_jobs(train_fold, jobs, slots=slots)])
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_a_corrupt_checkpoint_is_discarded(packed: Path, unbroken: tuple[bytes, bytes], tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    assert trained(fold_job(packed, tmp_path, **STOPPING)) == unbroken


def test_a_finished_fold_returns_without_training(packed: Path, tmp_path: Path) -> None:
    job = fold_job(packed, tmp_path / "scratch", epochs=1)
    train_fold(job)
    before = {p.name: p.stat().st_mtime_ns for p in job.scratch.iterdir() if p.name != "tensorboard"}
    assert sorted(before) == ["curves.csv", "done.json", "fold.safetensors", "lock", "progress.json", "timing.csv"]
    train_fold(replace(job, packed=tmp_path / "nowhere"))
    assert {p.name: p.stat().st_mtime_ns for p in job.scratch.iterdir() if p.name in before} == before


def test_training_learns_and_the_files_say_what_happened(packed: Path, tmp_path: Path) -> None:
    job = fold_job(packed, tmp_path, epochs=20, validate_every=8)
    train_fold(job)
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert curves["epoch"].tolist() == list(range(1, 21))
    assert curves.loc[curves["valid_loss"].notna(), "epoch"].tolist() == [8, 16, 20]
    assert curves["holdout_loss"].isna().all()
    last_steps = [factor(5 * epoch - 1, job.config.schedule, steps=5, epochs=20) for epoch in range(1, 21)]
    assert curves["lr"].to_numpy() == pytest.approx(0.05 * np.array(last_steps), rel=1e-12)
    assert curves["valid_accuracy"].iloc[-1] >= 0.85
    assert pd.read_csv(tmp_path / "timing.csv").columns.tolist() == ["epoch", "seconds", "images_per_second"]
    _, meta = load_weights(tmp_path / "fold.safetensors")
    assert (meta.model, meta.cell, meta.fold_digest, meta.kept) == ("tiny", 0, "digest", "ema")
    assert meta.classes == tuple(open_packed(packed).classes)
    look = read_look(tmp_path / "progress.json")
    assert look is not None
    assert (look.state, look.epoch, look.share) == ("done", 20, 1.0)


@pytest.mark.parametrize("weights", ["ema", "last", "best"])
def test_held_labels_and_images_touch_neither_weights_nor_stopping(packed: Path, tmp_path: Path, weights: str) -> None:
    changes = STOPPING | {"weights": weights}
    job = fold_job(packed, tmp_path / "a", **changes)
    other = relabelled(packed, tmp_path / "packed", job.held_rows)
    spied = replace(job, packed=other, scratch=tmp_path / "b")
    blind = replace(job, held_rows=np.arange(300, 310), scratch=tmp_path / "c")
    files = [train_fold(j) / "fold.safetensors" for j in (job, spied, blind)]
    assert files[0].read_bytes() == files[2].read_bytes()
    known, told = (load_file(file) for file in files[:2])               # the meta names the store, so bytes differ
    assert all(torch.equal(known[name], told[name]) for name in known)
    curves = [pd.read_csv(tmp_path / name / "curves.csv") for name in ("a", "b")]
    assert curves[0]["holdout_loss"].equals(curves[1]["holdout_loss"])
    assert not curves[0]["valid_loss"].equals(curves[1]["valid_loss"])


def test_early_stopping_keeps_the_weights_of_the_best_epoch(packed: Path, tmp_path: Path) -> None:
    job = fold_job(packed, tmp_path / "stopped", epochs=30, ema=None, weights="best",
                   early_stopping={"patience": 2, "holdout": 0.2},
                   optimiser={"lr": 0.3}, schedule={"name": "constant", "warmup": 0.0})
    train_fold(job)
    losses = pd.read_csv(job.scratch / "curves.csv")["holdout_loss"]
    best = int(losses.argmin()) + 1
    assert len(losses) == best + 2 < 30
    until_best = job.config.model_copy(update={"epochs": best, "weights": "last"})
    train_fold(replace(job, config=until_best, scratch=tmp_path / "until_best"))
    kept, expected = (load_file(tmp_path / name / "fold.safetensors") for name in ("stopped", "until_best"))
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


def test_divergence_names_model_fold_epoch_rate_and_fix(packed: Path, tmp_path: Path) -> None:
    job = fold_job(packed, tmp_path, cell=3, optimiser={"lr": 1e6})
    with pytest.raises(UserError, match=r"models\.tiny: fold 3: training diverged in epoch 1 \(the loss is nan\) at "
                                        r"learning rate 1e\+06; fix: a lower models\.tiny\.optimiser\.lr"):
        run_jobs(train_fold, [job], slots=1)
    assert not (tmp_path / "done.json").exists()


def test_a_held_lock_is_waited_for_and_then_named(tmp_path: Path) -> None:
    told: list[str] = []
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "lock")]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        refusal = rf"process {holder.pid} is training this fold .* fix: .*kill {holder.pid}"
        with pytest.raises(UserError, match=refusal), \
                hold_lock(tmp_path / "lock", told.append, wait=0.05, poll=0.01):
            pass
        assert set(told) == {f"waiting for process {holder.pid}, which is training this fold"}
    finally:
        holder.kill()
        holder.communicate()
    with hold_lock(tmp_path / "lock", told.append, wait=0.0):
        pass


def test_a_worker_ends_with_its_parent_and_leaves_a_fold_that_resumes(packed: Path, tmp_path: Path) -> None:
    job = fold_job(packed, tmp_path / "scratch", epochs=4000)
    (tmp_path / "job.pickle").write_bytes(pickle.dumps(job))
    code = ("import pickle, sys\nfrom pipeline.training.executors import run_jobs\n"
            "from pipeline.training.fold import train_fold\n"
            "run_jobs(train_fold, [pickle.loads(open(sys.argv[1], 'rb').read())], slots=1)")
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "job.pickle")], cwd=ROOT)
    try:
        _wait_for(lambda: (job.scratch / "checkpoint.pt").exists())
    finally:
        parent.kill()
        parent.wait()
    with hold_lock(job.scratch / "lock", lambda note: None, wait=30.0, poll=0.05):
        assert (job.scratch / "checkpoint.pt").exists()
        assert json.loads((job.scratch / "progress.json").read_text())["state"] == "training"


def _wait_for(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
