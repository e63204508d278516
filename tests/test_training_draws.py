"""No random draw of training comes twice, whatever process, fold, replica or epoch it is for, but when it must."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from training_jobs import fold_job, pack_digits

from pipeline.training import batches, feed, prepare
from pipeline.training.executors import run_jobs
from pipeline.training.fold import train_fold
from pipeline.training.job import FoldJob

ROWS, STEPS, EPOCHS = 160, 5, 3     # of fold_job: batches of 32
RANDOM: dict[str, Any] = {"epochs": EPOCHS, "erase": {}, "mix": {"mixup": 0.3}, "options": {"dropout": 0.1}}


class StoppedError(Exception):
    """The end of a training before its time."""


@dataclass
class Draws:
    """What one training drew, in order; streams by the state of their generator before each batch."""

    process: int
    matrices: list[np.ndarray] = field(default_factory=list)    # EPOCHS x (ROWS, 3, 3)
    orders: list[bytes] = field(default_factory=list)           # EPOCHS
    mixes: list[int] = field(default_factory=list)              # EPOCHS * STEPS
    erasures: list[int] = field(default_factory=list)           # EPOCHS * STEPS
    seeds: list[int] = field(default_factory=list)              # EPOCHS * STEPS: torch's, that dropout draws by


@contextmanager
def recorded(stop_at: int | None) -> Iterator[Draws]:
    """The draws of the training in the block, which ends with StoppedError at batch `stop_at`, counted from 1."""
    draws = Draws(os.getpid())

    def spy(module: Any, name: str, note: Callable[[Any, int], None]) -> Any:
        original = getattr(module, name)

        def spying(*arguments: Any, **options: Any) -> Any:
            generator = options["rng"] if "rng" in options else arguments[0]
            state = generator.bit_generator.state["state"]["state"]
            result = original(*arguments, **options)
            note(result, state)
            return result

        return patch.object(module, name, spying)

    def note_mix(mixed: object, state: int) -> None:
        draws.mixes.append(state)
        draws.seeds.append(torch.initial_seed())
        if len(draws.mixes) == stop_at:
            raise StoppedError

    with ExitStack() as spies:
        spies.enter_context(spy(feed, "draw_matrices", lambda drawn, _: draws.matrices.append(drawn)))
        spies.enter_context(spy(batches, "epoch_order", lambda order, _: draws.orders.append(order.tobytes())))
        spies.enter_context(spy(prepare, "erase", lambda _, state: draws.erasures.append(state)))
        spies.enter_context(spy(prepare, "mix_batch", note_mix))
        yield draws


def spied(job: FoldJob, *, stop_at: int | None = None, meeting: Path | None = None) -> Draws:
    """Trains the job in this process; where there is a `meeting`, not before two processes have come to it."""
    if meeting is not None:
        (meeting / str(os.getpid())).touch()
        deadline = time.monotonic() + 240
        while len(list(meeting.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    with recorded(stop_at) as draws, suppress(StoppedError):
        train_fold(job)
    return draws


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("digits") / "packed")


@pytest.fixture(scope="module")
def trainings(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Draws]:
    """Of two models, folds and replicas each, and of one with another seed, by two processes."""
    work, meeting = tmp_path_factory.mktemp("draws"), tmp_path_factory.mktemp("meeting")
    jobs = [
        replace(fold_job(packed, work / f"{model}{cell}{replica}", cell=cell, **RANDOM), model=model, replica=replica)
        for model, cell, replica in product(("one", "other"), (0, 1), (0, 1))
    ]
    jobs.append(replace(jobs[0], seed=8, scratch=work / "seed"))
    return run_jobs(partial(spied, meeting=meeting), jobs, slots=2)


def test_no_augmentation_is_drawn_twice(trainings: list[Draws]) -> None:
    assert len({draws.process for draws in trainings}) == 2
    assert {tuple(drawn.shape for drawn in draws.matrices) for draws in trainings} == {((ROWS, 3, 3),) * EPOCHS}
    matrices = np.concatenate([drawn for draws in trainings for drawn in draws.matrices])              # (n, 3, 3)
    assert len({matrix.tobytes() for matrix in matrices}) == len(matrices) == 9 * EPOCHS * ROWS


@pytest.mark.parametrize("stream", ["mixes", "erasures"])
def test_no_generator_of_mixing_or_erasing_is_twice_in_one_state(trainings: list[Draws], stream: str) -> None:
    """A generator that comes back to a state repeats all that followed it."""
    states = [state for draws in trainings for state in getattr(draws, stream)]
    assert len(set(states)) == len(states) == 9 * EPOCHS * STEPS


def test_every_epoch_has_an_order_and_a_seed_of_its_own(trainings: list[Draws]) -> None:
    orders = [order for draws in trainings for order in draws.orders]
    assert len(set(orders)) == len(orders) == 9 * EPOCHS
    assert {len(draws.seeds) for draws in trainings} == {EPOCHS * STEPS}
    seeds = [draws.seeds[::STEPS] for draws in trainings]                                               # (9, EPOCHS)
    assert len(set(np.ravel(seeds))) == 9 * EPOCHS
    assert [draws.seeds for draws in trainings] == [np.repeat(own, STEPS).tolist() for own in seeds]


def test_an_epoch_that_was_stopped_draws_again_exactly_what_it_drew(packed: Path, tmp_path: Path) -> None:
    """Stopped at the third batch of the second epoch."""
    whole, broken = (fold_job(packed, tmp_path / name, **RANDOM) for name in ("whole", "broken"))
    unbroken = run_jobs(spied, [whole], slots=1)[0]
    stopped = run_jobs(partial(spied, stop_at=STEPS + 3), [broken], slots=1)[0]
    resumed = run_jobs(spied, [broken], slots=1)[0]
    assert [len(draws.orders) for draws in (unbroken, stopped, resumed)] == [3, 2, 2]
    np.testing.assert_array_equal(stopped.matrices, unbroken.matrices[:2])
    np.testing.assert_array_equal(resumed.matrices, unbroken.matrices[1:])
    assert (stopped.orders, resumed.orders) == (unbroken.orders[:2], unbroken.orders[1:])
    for stream in ("mixes", "erasures", "seeds"):
        assert getattr(stopped, stream) == getattr(unbroken, stream)[:STEPS + 3]
        assert getattr(resumed, stream) == getattr(unbroken, stream)[STEPS:]
