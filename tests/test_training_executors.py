"""Worker processes, devices, and what the parent shows of them."""

import io
import os
import time
from pathlib import Path

import pytest
from rich.console import Console
from training_jobs import fold_job, pack_digits

from pipeline.errors import UserError
from pipeline.training import executors, progress
from pipeline.training.executors import device_for, run_jobs, slots
from pipeline.training.progress import described, watch
from pipeline.training.report import Look, read_look, ticker, write_look


def where_and_how(job: int) -> tuple[int, int, int, int]:
    """The job, its process, and the threads that OpenCV and torch would use there."""
    import cv2
    import torch

    return job, os.getpid(), cv2.getNumThreads(), torch.get_num_threads()


def refusing(job: int) -> int:
    """A user's mistake in one of the jobs."""
    if job == 1:
        raise UserError("params.yaml: a mistake")
    return job


def dying(job: int) -> int:
    """A worker that the system kills."""
    os.kill(os.getpid(), 9)
    return job


@pytest.mark.parametrize("count", [1, 2])
def test_jobs_run_in_workers_with_one_thread_and_return_in_order(count: int) -> None:
    found = run_jobs(where_and_how, [3, 1, 2], slots=count)
    assert [job for job, *_ in found] == [3, 1, 2]
    assert os.getpid() not in [pid for _, pid, *_ in found]
    assert {threads for _, _, *threads_of in found for threads in threads_of} == {1}


def test_one_slot_runs_one_job_at_a_time(tmp_path: Path) -> None:
    assert run_jobs(_alone, [tmp_path / "busy"] * 4, slots=1) == [True] * 4


def _alone(path: Path) -> bool:
    path.mkdir()  # fails where another job has it
    time.sleep(0.1)
    path.rmdir()
    return True


def test_a_users_mistake_stays_one() -> None:
    with pytest.raises(UserError, match=r"^params.yaml: a mistake$"):
        run_jobs(refusing, [0, 1, 2], slots=2)


def test_a_killed_worker_is_one_clear_line() -> None:
    line = r"a worker process was killed .* fix: run again, with PIPELINE_SLOTS=1"
    with pytest.raises(UserError, match=line) as error:
        run_jobs(dying, [0], slots=2)
    assert "\n" not in str(error.value)


def test_slots_come_from_the_environment_the_gpus_or_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_SLOTS", raising=False)
    monkeypatch.setattr(executors, "_gpus", lambda: 3)
    assert slots() == 3
    assert [device_for(i) for i in range(4)] == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    monkeypatch.setattr(executors, "_gpus", lambda: 0)
    monkeypatch.setattr(executors.joblib, "cpu_count", lambda: 5)
    assert slots() == 5
    assert device_for(7) == "cpu"
    monkeypatch.setenv("PIPELINE_SLOTS", "4")
    assert slots() == 4
    for wrong in ("0", "-1", "two", ""):
        monkeypatch.setenv("PIPELINE_SLOTS", wrong)
        with pytest.raises(UserError, match=r"environment: PIPELINE_SLOTS=.*: expected a whole number of at least 1"):
            slots()


def test_looks_come_back_and_nonsense_is_no_look(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert read_look(path) is None
    look = Look("training", 3, 30, 0.1, 1.25, 290.4, 70.2)
    write_look(path, look)
    assert read_look(path) == look
    path.write_text('{"state": "trai')
    assert read_look(path) is None


def test_a_look_in_words() -> None:
    assert described(Look("training", 3, 30, 0.1, 1.2041, 290.4, 70.2)) \
        == "epoch 3/30, loss 1.204, 290 images/s, 0:01:10 left"
    assert described(Look("waiting", 0, 30, 0.0, note="waiting for process 7")) == "waiting for process 7"


def test_a_ticker_is_true_at_once_and_then_rarely() -> None:
    due = ticker(3600.0)
    assert [due() for _ in range(5)] == [True, False, False, False, False]


def test_without_a_terminal_every_finished_fold_is_one_line(tmp_path: Path) -> None:
    packed = pack_digits(tmp_path / "packed")
    jobs = [fold_job(packed, tmp_path / str(cell), cell=cell) for cell in (0, 1, 2)]
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "done.json").write_text("{}")
    out = io.StringIO()
    with watch(jobs, "train", console=Console(file=out, width=200)):
        write_look(jobs[1].scratch / "progress.json", Look("done", 3, 3, 1.0, 0.5))
        write_look(jobs[2].scratch / "progress.json", Look("training", 1, 3, 0.2, 2.0))
    assert out.getvalue() == "tiny fold 1: done, epoch 3/3, loss 0.500\n"


def test_on_a_terminal_running_folds_have_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL", 0.01)
    job = fold_job(pack_digits(tmp_path / "packed"), tmp_path / "scratch")
    out = io.StringIO()
    with watch([job], "train", console=Console(file=out, width=120, force_terminal=True)):
        write_look(job.scratch / "progress.json", Look("training", 2, 3, 0.5, 1.5, 800.0, 4.0))
    assert "tiny fold 0" in out.getvalue()
    assert "epoch 2/3, loss 1.500, 800 images/s, 0:00:04 left" in out.getvalue()


def working_directory(_: int) -> str:
    return os.getcwd()


def test_reused_workers_work_where_the_caller_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert run_jobs(working_directory, [0, 1], slots=2) == [str(tmp_path / name)] * 2
