"""A fold that is killed with signal 9, wherever it is hit, ends with the bytes of an unbroken one."""

import sys
from pathlib import Path

import pytest
from training_jobs import pack_digits

from pipeline.closure import ROOT
from pipeline.training.executors import run_jobs
from pipeline.training.fold import train_fold
from pipeline.training.job import FoldJob

sys.path.append(str(ROOT / "benchmarks"))

from kill import BATCH, SAVE, Event, place, results, train_until
from resume import VARIANTS, killed, resume_job

ROWS = 165


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("digits") / "packed")


def unbroken(name: str, packed: Path, scratch: Path) -> dict[str, bytes]:
    """The result of a variant, from a worker as the stages start it."""
    job = resume_job(name, packed, scratch, rows=ROWS)
    run_jobs(train_fold, [job], slots=1)
    return results(job)


def batches_of(job: FoldJob) -> int:
    """Of an epoch: 165 rows, or the 135 that a stratified holdout of a fifth leaves, in batches of 32."""
    return 4 if job.config.early_stopping else 5


@pytest.fixture(scope="module")
def base(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return unbroken("base", packed, tmp_path_factory.mktemp("unbroken") / "base")


@pytest.mark.parametrize(("event", "where"), [
    (Event(BATCH, 6), "epoch 2, batch 2 of 4"),
    (Event(SAVE, 1), "writing the checkpoint of epoch 1"),
    (Event("k", 3), "before the renaming of checkpoint.pt"),
    (Event("K", 4), "after the checkpoint of epoch 4"),
    (Event("f", 1), "before the renaming of fold.safetensors"),
    (Event("d", 1), "before the renaming of done.json"),
    (Event("D", 1), "after the renaming of done.json"),
])
def test_a_killed_fold_ends_with_the_bytes_of_an_unbroken_one(
    packed: Path, base: dict[str, bytes], tmp_path: Path, event: Event, where: str
) -> None:
    job = resume_job("base", packed, tmp_path / "scratch", rows=ROWS)
    assert killed(job, [{"event": event}], batches=batches_of(job)) == [where]
    assert results(job) == base
    assert not (job.scratch / "checkpoint.pt").exists()


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "base"])
def test_a_fold_killed_three_times_ends_with_the_same_bytes(packed: Path, tmp_path: Path, name: str) -> None:
    """Early stopping waits for seven epochs, so it cannot end a run before the third kill."""
    job = resume_job(name, packed, tmp_path / "scratch", rows=ROWS)
    n = batches_of(job)
    kills = [Event(BATCH, n + 2), Event(SAVE, 2), Event(BATCH, 5 * n + 1)]
    assert killed(job, [{"event": event} for event in kills], batches=n) == [
        f"epoch 2, batch 2 of {n}", "writing the checkpoint of epoch 3", f"epoch 8, batch 1 of {n}",
    ]
    assert results(job) == unbroken(name, packed, tmp_path / "unbroken")


def test_a_fold_killed_at_a_moment_in_time_ends_with_the_same_bytes(
    packed: Path, base: dict[str, bytes], tmp_path: Path
) -> None:
    job = resume_job("base", packed, tmp_path / "scratch", rows=ROWS)
    assert not train_until(job, tmp_path / "trace", seconds=0.0)
    assert train_until(job, tmp_path / "trace")
    assert results(job) == base


@pytest.mark.parametrize(("trace", "where"), [
    ("|bbb", "epoch 1, last batch or measuring"),
    ("|bbbskKbbb|b", "epoch 2, batch 1 of 3"),
    ("|bbbskKbbbs|", "before the first batch after epoch 1"),
    ("|bbbskKbbbskpP", "after the renaming of fold.snapshot1.safetensors"),
])
def test_a_trace_says_where_the_last_process_was_hit(trace: str, where: str) -> None:
    assert place(trace, batches=3) == where
