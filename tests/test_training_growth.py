"""A worker that trains for long, or again and again, holds no more memory, files or threads than at its start."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from pipeline.closure import ROOT
from pipeline.errors import UserError
from pipeline.training.batches import prefetch
from pipeline.training.executors import run_jobs
from pipeline.training.job import FoldJob

sys.path.append(str(ROOT / "benchmarks"))

from growth import BATCH_BYTES, Sample, growth_job, sampled_epochs, sampled_trainings

# One batch of uint8 images not let go in each of 270 epochs is 34 MiB, its float32 form four times as much. What
# the allocator holds on to for a while comes and goes by up to 16 MiB, in single epochs: so the least of five counts.
BOUND = 160 * BATCH_BYTES
ROW_BYTES = 512     # of the curves and the timing of one epoch, which every checkpoint holds


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> FoldJob:
    return growth_job(tmp_path_factory.mktemp("growth"))


def held(sample: Sample) -> tuple[int, int, int]:
    """What is counted exactly."""
    return sample.files, sample.threads, sample.tensors


def test_epochs_leave_nothing_but_their_row_of_the_curves(job: FoldJob) -> None:
    epochs = (*range(26, 31), *range(296, 301))
    samples = run_jobs(partial(sampled_epochs, epochs=epochs), [job], slots=1)[0]
    early, late = samples[:5], samples[5:]
    assert {held(sample) for sample in samples} == {held(samples[0])}
    assert min(sample.resident for sample in late) - min(sample.resident for sample in early) < BOUND
    assert 0 < late[-1].written - early[-1].written < 270 * ROW_BYTES


def test_trainings_leave_nothing(job: FoldJob) -> None:
    short = replace(job, config=job.config.model_copy(update={"epochs": 1}), scratch=job.scratch.with_name("short"))
    early, late = run_jobs(partial(sampled_trainings, counts=(3, 13)), [short], slots=1)[0]
    assert held(late) == held(early)
    assert late.tensors == 0
    assert late.resident - early.resident < BOUND


@pytest.mark.parametrize("end", ["used up", "left early", "an error"])
def test_no_thread_of_prefetch_outlives_its_batches(end: str) -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        if end == "an error":
            raise UserError("no more")

    before = set(threading.enumerate())
    for _ in range(50):
        batches = prefetch(items(), 3)
        taken = [next(batches) for _ in range(5 if end == "left early" else 20)]
        assert taken == list(range(len(taken)))
        if end == "an error":
            with pytest.raises(UserError, match="no more"):
                next(batches)
        elif end == "used up":
            assert next(batches, None) is None
        del batches         # closes it
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=60)
        assert not thread.is_alive()
