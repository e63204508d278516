"""The engine's options on whole folds and steps: accumulation, fp16, compile, plateau, SWA, snapshots, students."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_jobs import fold_job, model_config, pack_digits

from pipeline.data.store import open_packed
from pipeline.errors import UserError
from pipeline.training.compiled import refusing_compilers
from pipeline.training.epoch import train_epoch
from pipeline.training.fold import train_fold
from pipeline.training.losses import cross_entropies, one_hot
from pipeline.training.optimiser import make_optimiser
from pipeline.training.precision import make_scaler, resolve_precision
from pipeline.training.state import note_holdout, note_plateau, start
from pipeline.training.weights import load_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("digits") / "packed")


def stepped(net: nn.Module, batches: list[np.ndarray], *, accumulate: int, precision: str = "fp32",
            **optimiser: Any) -> nn.Module:
    """A copy of `net` after one epoch over feature batches `(B, 5)`; the label of a row is its first feature's sign."""
    net, config = copy.deepcopy(net), model_config(optimiser=optimiser)
    train_epoch(
        net, [((batch,), np.arange(len(batch))) for batch in batches], config=config,
        optimiser=make_optimiser(net, config.optimiser), scaler=make_scaler(precision, CPU), accumulate=accumulate,
        rates_of=lambda step: (0.1, 0.9), average=lambda step: None,
        prepare=lambda inputs, rows: ((x := torch.from_numpy(inputs[0]),), one_hot((x[:, 0] > 0).long(), 2)),
        loss_of=lambda logits, targets: (targets * cross_entropies(logits)).sum(dim=1).mean(), device=CPU,
        precision=precision, first_step=0, after_step=lambda count, loss_sum: None,
    )
    return net


@pytest.mark.parametrize("clip", [None, 0.01])
def test_accumulated_batches_are_one_batch_of_their_rows(clip: float | None) -> None:
    torch.manual_seed(0)
    rows = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    whole = stepped(net, [rows[:24], rows[24:]], accumulate=1, clip=clip)
    parts = stepped(net, list(rows.reshape(6, 8, 5)), accumulate=3, clip=clip)
    for one, other, before in zip(whole.parameters(), parts.parameters(), net.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
        assert not torch.equal(one, before)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_fp16_scales_the_loss_and_takes_the_steps_of_fp32(clip: float | None) -> None:
    """Gradients near 1e-8 underflow fp16 without the scale."""
    torch.manual_seed(0)
    rows = 1e-4 * np.random.default_rng(0).normal(size=(4, 16, 5)).astype(np.float32)
    net = nn.Sequential(nn.Linear(5, 7, bias=False), nn.Linear(7, 2, bias=False))
    with torch.no_grad():
        net[1].weight.mul_(1e-3)
    whole, half = (stepped(net, list(rows), accumulate=1, precision=p, clip=clip) for p in ("fp32", "fp16"))
    moved = [(a - b).norm() for a, b in zip(whole.parameters(), net.parameters(), strict=True)]
    error = [(a - b).norm() for a, b in zip(whole.parameters(), half.parameters(), strict=True)]
    assert all(m > 0 for m in moved)
    assert all(e < 0.05 * m for e, m in zip(error, moved, strict=True))


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved() -> None:
    net = nn.Linear(5, 2)
    scaler = make_scaler("fp16", CPU)
    scale = scaler.get_scale()
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    before = copy.deepcopy(net.state_dict())
    scaler.scale(net(torch.full((1, 5), float("inf"))).sum()).backward()
    scaler.step(optimiser)
    scaler.update()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert scaler.get_scale() == scale / 2


def test_a_gpu_without_bf16_gets_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        assert resolve_precision("auto", "cuda:0") == expected


def test_plateau_drops_after_patience_epochs_without_progress() -> None:
    config = model_config(schedule={"name": "plateau", "patience": 2})
    state = start(nn.Linear(2, 2), config, precision="fp32", device=CPU)  # type: ignore[arg-type]
    drops = []
    for loss in (3.0, 2.0, 2.0, 2.5, 2.1, 2.1, 1.0, 1.0):
        state.epoch += 1
        note_plateau(state, config, loss)
        drops.append(state.drops)
    assert drops == [0, 0, 0, 1, 1, 2, 2, 2]


def test_less_than_min_delta_is_no_progress() -> None:
    config = model_config(early_stopping={"patience": 3, "min_delta": 0.1})
    state = start(nn.Linear(2, 2), config, precision="fp32", device=CPU)  # type: ignore[arg-type]
    for loss in (1.0, 0.95, 0.91, 0.85):
        state.epoch += 1
        note_holdout(state, config, loss)
    assert (state.best_epoch, state.best_loss) == (4, 0.85)


def test_plateau_lowers_the_rate_of_a_fold_that_does_not_learn(packed: Path, tmp_path: Path) -> None:
    job = fold_job(packed, tmp_path, epochs=8, augment={}, loss={"smoothing": 0.9},
                   schedule={"name": "plateau", "warmup": 0.0, "patience": 1, "factor": 0.5}, optimiser={"lr": 1e-9})
    curves = pd.read_csv(train_fold(job) / "curves.csv")
    losses, rate, low, rates = curves["train_loss"], 1e-9, float("inf"), []
    for loss in losses:
        rates.append(rate)
        rate, low = (rate, loss) if loss < low else (rate / 2, low)
    assert curves["lr"].tolist() == pytest.approx(rates)
    assert rates[-1] < 1e-9


def test_swa_is_the_mean_of_the_last_epochs_with_norms_of_its_own(packed: Path, tmp_path: Path) -> None:
    changes = {"net": "resnet18", "options": {"width": 8}, "schedule": {"name": "constant", "warmup": 0.0}, "ema": None}
    ends = []
    for epochs in (2, 3, 4):
        job = fold_job(packed, tmp_path / str(epochs), **changes, epochs=epochs, weights="last")
        ends.append(load_file(train_fold(job) / "fold.safetensors"))
    job = fold_job(packed, tmp_path / "swa", **changes, epochs=4, weights="swa", swa=3)
    found = load_file(train_fold(job) / "fold.safetensors")
    weights = [name for name in found if "running" not in name and "tracked" not in name]
    for name in weights:
        assert torch.allclose(found[name], torch.stack([end[name] for end in ends]).mean(dim=0), atol=1e-5), name
    running = next(name for name in found if name.endswith("running_mean"))
    assert not torch.allclose(found[running], torch.stack([end[running] for end in ends]).mean(dim=0), rtol=1e-3)


def test_snapshots_are_the_networks_at_the_ends_of_the_cycles(packed: Path, tmp_path: Path) -> None:
    job = fold_job(packed, tmp_path / "all", epochs=6, snapshots=2, schedule={"cycles": 3, "warmup": 0.0})
    scratch = train_fold(job)
    assert sorted(p.name for p in scratch.glob("*.safetensors")) == ["fold.safetensors", "fold.snapshot1.safetensors"]
    two = fold_job(packed, tmp_path / "two", epochs=4, schedule={"cycles": 2, "warmup": 0.0})
    expected = load_file(train_fold(two) / "fold.safetensors")
    found = load_file(scratch / "fold.snapshot1.safetensors")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    net, meta = load_weights(scratch / "fold.snapshot1.safetensors")
    assert meta.config.snapshots == 2
    assert not net.training


def test_a_student_learns_what_its_teachers_say_of_test_rows(packed: Path, tmp_path: Path) -> None:
    """Teachers who call every test row "3" are believed, the more the larger their share."""
    store = open_packed(packed)
    soft = np.zeros((store.n_test, len(store.classes)), np.float32)
    soft[:, 3] = 1.0
    np.save(tmp_path / "soft.npy", soft)
    shares = []
    for fraction in (0.25, 0.75):
        job = fold_job(packed, tmp_path / str(fraction), epochs=3, pseudo={"fraction": fraction})
        curves = pd.read_csv(train_fold(replace(job, pseudo=tmp_path / "soft.npy")) / "curves.csv")
        shares.append(curves["train_accuracy"].iloc[-1])
    assert shares[0] >= 0.25
    assert shares[1] >= 0.75


@pytest.mark.slow
def test_a_compiled_net_learns_as_a_plain_one(packed: Path, tmp_path: Path) -> None:
    jobs = [fold_job(packed, tmp_path / str(wanted), net="logistic_regression", compile=wanted, epochs=3)
            for wanted in (False, True)]
    losses = [pd.read_csv(train_fold(job) / "curves.csv")["train_loss"].to_numpy() for job in jobs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    again = replace(jobs[1], scratch=tmp_path / "again")
    assert (train_fold(again) / "fold.safetensors").read_bytes() == \
        (jobs[1].scratch / "fold.safetensors").read_bytes()


def test_a_compiler_that_fails_is_one_line(packed: Path, tmp_path: Path) -> None:
    from torch._dynamo.exc import TorchDynamoException

    job = fold_job(packed, tmp_path, compile=True)
    with pytest.raises(UserError, match=r"models\.tiny\.compile: torch\.compile failed here \(no compiler\); fix: "
                                        r"compile: false, or a C\+\+ compiler"), refusing_compilers(job):
        raise TorchDynamoException("no compiler\n\nand much more")
    with pytest.raises(TorchDynamoException), refusing_compilers(fold_job(packed, tmp_path)):
        raise TorchDynamoException("not asked for")
