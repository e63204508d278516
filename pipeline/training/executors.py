"""Jobs side by side in worker processes: one thread per process on a CPU, one process per GPU."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
import joblib

from pipeline.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(function: Callable[[Job], Result], jobs: Sequence[Job], *, slots: int) -> list[Result]:
    """`[function(job) for job in jobs]`, in that order, by at most `slots` worker processes with one thread each.

    Work never happens in the calling process, not even with one slot, so that results do not depend on `slots`.
    The first error ends the other jobs and is raised as it is; a worker that was killed is a UserError.
    """
    # joblib runs n_jobs=1 in the calling process: two workers with one dispatched job are one slot
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(n_jobs=max(2, slots), pre_dispatch=slots, batch_size=1, max_nbytes=None)
    here = os.getcwd()
    try:
        with warnings.catch_warnings():     # loky replaces a worker whose memory has grown, and warns
            warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
            return list(parallel(joblib.delayed(_single_threaded)(function, job, here) for job in jobs))
    except BrokenProcessPool as error:
        raise UserError(f"a worker process was killed ({str(error).splitlines()[0].rstrip('.')}), perhaps for want of "
                        f"memory; finished epochs are kept; fix: run again, with PIPELINE_SLOTS={max(1, slots - 1)} "
                        "or a smaller batch") from error


def slots() -> int:
    """How many jobs run at a time: PIPELINE_SLOTS if set, else the number of GPUs, else of usable CPU cores.

    Cores are counted within the process's affinity and the container's quota. Raises UserError.
    """
    wanted = os.environ.get("PIPELINE_SLOTS")
    if wanted is None:
        return _gpus() or joblib.cpu_count()
    if not wanted.isdecimal() or int(wanted) < 1:
        raise UserError(f"environment: PIPELINE_SLOTS={wanted!r}: expected a whole number of at least 1; "
                        "fix: unset it or set it to the number of folds to train at a time")
    return int(wanted)


def device_for(job_index: int) -> str:
    """The device of a job: "cuda:<i>", GPUs in turn, or "cpu" where there is none."""
    gpus = _gpus()
    return f"cuda:{job_index % gpus}" if gpus else "cpu"


def devices() -> list[str]:
    """Every GPU, or the CPU where there is none."""
    return [f"cuda:{i}" for i in range(_gpus())] or ["cpu"]


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _single_threaded(function: Callable[[Job], Result], job: Job, directory: str) -> Result:
    os.chdir(directory)     # jobs hold relative paths, and a reused worker may have been started elsewhere
    cv2.setNumThreads(1)  # OpenCV alone does not read the thread limits that joblib sets in the worker's environment
    return function(job)
