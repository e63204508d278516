"""The pure parts of training: schedule, optimiser groups, EMA, holdout, batches, normalisation, precision, curves."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_jobs import model_config, pack_digits, relabelled

from pipeline.augment.affine import draw_matrices, fit_matrices
from pipeline.augment.warp import warp_batch
from pipeline.config.model import OptimiserConfig, ScheduleConfig
from pipeline.data.store import Packed, open_packed
from pipeline.errors import UserError
from pipeline.nets.registry import build
from pipeline.rng import generator
from pipeline.training import feed as feed_module
from pipeline.training.averages import ema_share, make_mover, refresh_norms, swa_share
from pipeline.training.batches import epoch_shape, prefetch, to_tensors, training_batches
from pipeline.training.checkpoint import read_checkpoint, write_checkpoint
from pipeline.training.curves import CURVES, write_table
from pipeline.training.feed import Images
from pipeline.training.holdout import split_holdout
from pipeline.training.normalise import mean_and_std
from pipeline.training.optimiser import make_optimiser
from pipeline.training.precision import autocast, resolve_precision
from pipeline.training.schedule import cycle_ends, factor, momentum_factor
from pipeline.training.targets import make_targets


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return open_packed(pack_digits(tmp_path_factory.mktemp("digits") / "packed"))


def test_warmup_rises_linearly_to_one() -> None:
    config = ScheduleConfig(name="cosine", warmup=0.1)
    found = [factor(step, config, steps=5, epochs=20) for step in (0, 4, 9, 10)]
    assert found == pytest.approx([1 / 11, 5 / 11, 10 / 11, 1.0])


def test_cosine_is_a_half_at_the_middle_and_nearly_zero_at_the_last_step() -> None:
    config = ScheduleConfig(name="cosine", warmup=0.0)
    assert factor(0, config, steps=10, epochs=100) == 1.0
    assert factor(500, config, steps=10, epochs=100) == pytest.approx(0.5)
    assert factor(999, config, steps=10, epochs=100) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.999)))


def test_step_schedule_falls_at_its_shares() -> None:
    config = ScheduleConfig(name="step", warmup=0.0, steps=(0.5, 0.9), factor=0.1)
    found = [factor(step, config, steps=1, epochs=10) for step in (0, 4, 5, 8, 9)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_constant_schedule_stays() -> None:
    config = ScheduleConfig(name="constant", warmup=0.0)
    assert {factor(step, config, steps=5, epochs=10) for step in range(50)} == {1.0}


def test_cosine_ends_at_its_floor() -> None:
    config = ScheduleConfig(warmup=0.0, floor=0.1)
    assert factor(50, config, steps=1, epochs=100) == pytest.approx(0.55)
    assert factor(9999, config, steps=100, epochs=100) == pytest.approx(0.1, abs=1e-6)


def test_cycles_end_with_an_epoch_and_start_from_the_top() -> None:
    config = ScheduleConfig(warmup=0.1, cycles=3)
    assert cycle_ends(config, epochs=10) == [3, 6, 10]
    rates = [factor(step, config, steps=10, epochs=10) for step in range(100)]
    assert [step for step in range(100) if rates[step] == 1.0] == [10, 30, 60]         # after the warm-up, then at once
    assert rates[9] == pytest.approx(10 / 11)
    for start, end in ((10, 30), (30, 60), (60, 100)):
        assert rates[start:end] == pytest.approx([0.5 * (1 + math.cos(math.pi * i / (end - start)))
                                                  for i in range(end - start)])


def test_warmup_longer_than_the_first_cycle_still_ends_below_one() -> None:
    config = ScheduleConfig(warmup=0.5, cycles=5)
    rates = [factor(step, config, steps=4, epochs=5) for step in range(20)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert all(0 < rate <= 1 for rate in rates)


def test_one_cycle_is_torch_s() -> None:
    config = ScheduleConfig(name="one_cycle", warmup=0.3)
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, total_steps=1001, pct_start=0.3, div_factor=25,
                                                 final_div_factor=1e9, cycle_momentum=False)
    for step in range(1000):
        assert factor(step, config, steps=100, epochs=10) == pytest.approx(theirs.get_last_lr()[0], abs=0.012), step
        optimiser.step()
        theirs.step()
    momenta = [momentum_factor(step, config, steps=100, epochs=10) for step in (0, 300, 999)]
    assert momenta == pytest.approx([1, 0.9, 1], abs=0.005)
    assert momentum_factor(300, ScheduleConfig(), steps=100, epochs=10) == 1.0


def test_plateau_falls_by_its_factor_for_every_drop() -> None:
    config = ScheduleConfig(name="plateau", warmup=0.0, factor=0.5)
    assert [factor(7, config, steps=5, epochs=10, drops=drops) for drops in (0, 1, 3)] == [1.0, 0.5, 0.125]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norms_and_biases_do_not_decay(name: str) -> None:
    net = build("resnet18", options={"width": 8}, n_classes=3, channels=1, canvas=24)
    groups = make_optimiser(net, OptimiserConfig(name=name, weight_decay=0.3)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(decay) == len(list(net.parameters()))
    for parameter_name, parameter in net.named_parameters():
        expected = 0.3 if parameter_name.endswith("weight") and parameter.ndim > 1 else 0.0
        assert decay[id(parameter)] == expected, parameter_name


def test_average_follows_a_float64_loop() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    averaged = copy.deepcopy(net)
    move = make_mover(averaged, net)
    expected = {name: value.double() for name, value in net.state_dict().items()}
    for step in range(40):
        for tensor in net.state_dict().values():
            tensor.copy_(torch.randn_like(tensor) if tensor.is_floating_point() else tensor + 1)
        move(ema_share(step, decay=0.7))
        decay = min(0.7, (1 + step) / (10 + step))
        expected = {n: decay * expected[n] + (1 - decay) * v.double() if v.is_floating_point() else v.double()
                    for n, v in net.state_dict().items()}
    for name, value in averaged.state_dict().items():
        assert torch.allclose(value.double(), expected[name], atol=1e-6), name


def test_even_average_is_the_mean_of_the_last_epochs() -> None:
    net = nn.Linear(3, 2)
    averaged, seen = copy.deepcopy(net), []
    move = make_mover(averaged, net)
    for epoch in range(1, 8):
        with torch.no_grad():
            net.weight.normal_()
        seen.append(net.weight.detach().clone())
        move(swa_share(epoch, epochs=7, last=3))
        if epoch <= 5:
            assert torch.equal(averaged.weight, net.weight)         # before those epochs, and with the first of them
    assert torch.allclose(averaged.weight, torch.stack(seen[-3:]).mean(dim=0), atol=1e-6)
    assert [swa_share(e, epochs=2, last=5) for e in (1, 2)] == [1.0, 0.5]


def test_refreshed_norms_have_the_statistics_of_the_batches() -> None:
    torch.manual_seed(0)
    net = build("resnet18", options={"width": 8}, n_classes=3, channels=1, canvas=24)
    batches = [(torch.randn(16, 1, 24, 24) + 2,) for _ in range(4)]
    weights = {name: value.clone() for name, value in net.named_parameters()}
    first = next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    refresh_norms(net, batches)
    with torch.no_grad():
        outputs = [conv(batch) for batch, in batches]                                                    # (B, W, H, W)
    assert torch.allclose(first.running_mean, torch.stack([o.mean(dim=(0, 2, 3)) for o in outputs]).mean(0), atol=1e-5)
    assert torch.allclose(first.running_var, torch.stack([o.var(dim=(0, 2, 3)) for o in outputs]).mean(0), atol=1e-4)
    assert (first.momentum, net.training, first.training) == (0.1, False, False)
    assert all(torch.equal(value, weights[name]) for name, value in net.named_parameters())


def test_holdout_is_stratified_and_keeps_a_row_of_every_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [100, 50, 10, 1])
    rows = np.arange(len(labels)) + 1000
    learned, watched = split_holdout(rows, labels, share=0.2, rng=np.random.default_rng(0), where="models.m")
    assert sorted([*learned, *watched]) == rows.tolist()
    assert np.bincount(labels[watched - 1000], minlength=4).tolist() == [20, 10, 2, 0]
    again, _ = split_holdout(rows, labels, share=0.2, rng=np.random.default_rng(0), where="models.m")
    assert (again == learned).all()


def test_holdout_without_rows_to_watch_is_refused() -> None:
    with pytest.raises(UserError, match=r"models\.m\.early_stopping\.holdout: 0.1 of 3 rows leaves none to watch; fix"):
        split_holdout(np.arange(3), np.arange(3), share=0.1, rng=np.random.default_rng(0), where="models.m")


def test_an_epoch_takes_every_row_once_with_its_label(digits: Packed) -> None:
    rows = np.arange(100, 196)
    config = model_config(batch=32, canvas=8, augment={})
    seen = [
        (image.tobytes(), int(row))
        for (images,), found in training_batches(
            Images(digits, config), rows, labels=digits.labels[rows], shape=epoch_shape(len(rows), config),
            sampling="natural", rng=np.random.default_rng(0))
        for image, row in zip(images, found, strict=True)
    ]
    assert sorted(seen) == sorted((digits.image(row).tobytes(), int(row)) for row in rows)


def test_a_partial_batch_is_dropped_unless_it_is_the_only_one() -> None:
    shapes = [epoch_shape(n, model_config(batch=32)) for n in (1, 31, 32, 63, 96)]
    assert [(s.steps, s.accumulate, s.labelled, s.unlabelled) for s in shapes] == [
        (1, 1, 1, 0), (1, 1, 31, 0), (1, 1, 32, 0), (1, 1, 32, 0), (3, 1, 32, 0)]


def test_a_step_accumulates_whole_batches_as_far_as_the_rows_go() -> None:
    shapes = [epoch_shape(n, model_config(batch=32, accumulate=3)) for n in (40, 95, 96, 300)]
    assert [(s.steps, s.accumulate, s.batches) for s in shapes] == [(1, 1, 1), (1, 2, 2), (1, 3, 3), (3, 3, 9)]


def test_a_share_of_every_batch_is_test_rows_that_take_turns(digits: Packed) -> None:
    config = model_config(batch=32, pseudo={"fraction": 0.25})
    rows, unlabelled = np.arange(100, 196), np.arange(1000, 1010)
    shape = epoch_shape(len(rows), config)
    assert (shape.steps, shape.labelled, shape.unlabelled, shape.batch) == (4, 24, 8, 32)
    found = [batch.copy() for _, batch in training_batches(
        Images(digits, config), rows, labels=digits.labels[rows], shape=shape, sampling="natural",
        rng=np.random.default_rng(0), unlabelled=unlabelled)]
    assert sorted(np.concatenate([batch[:24] for batch in found])) == rows.tolist()
    taken = np.concatenate([batch[24:] for batch in found])                                                    # (32,)
    assert sorted(np.bincount(taken - 1000, minlength=10)) == [3] * 8 + [4] * 2


@pytest.mark.parametrize(("batch", "fraction", "expected"), [(2, 0.01, (1, 1)), (2, 0.99, (1, 1)), (10, 0.33, (7, 3))])
def test_every_batch_has_a_labelled_and_a_test_row(batch: int, fraction: float, expected: tuple[int, int]) -> None:
    shape = epoch_shape(100, model_config(batch=batch, pseudo={"fraction": fraction}))
    assert (shape.labelled, shape.unlabelled) == expected


def test_targets_are_labels_and_for_test_rows_the_teachers_probabilities() -> None:
    labels, soft = np.array([2, 0, 1]), np.array([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]], np.float32)
    targets_of = make_targets(labels, n_classes=3, soft=soft, device=torch.device("cpu"))
    assert targets_of(np.array([4, 0, 3, 1])).tolist() == pytest.approx(
        np.array([[0.6, 0.4, 0.0], [0, 0, 1], [0.2, 0.3, 0.5], [1, 0, 0]]))
    plain = make_targets(labels, n_classes=3, soft=None, device=torch.device("cpu"))
    assert plain(np.array([1, 2])).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_augmentation_never_repeats_across_batches_epochs_folds_and_models(
    digits: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def recorded(images: list[np.ndarray], matrices: np.ndarray, *, canvas: int, out: np.ndarray) -> np.ndarray:
        seen.extend(matrix.tobytes() for matrix in matrices)
        return warp_batch(images, matrices, canvas=canvas, out=out)

    monkeypatch.setattr(feed_module, "warp_batch", recorded)
    rows, shape = np.arange(64), epoch_shape(64, model_config())
    for purpose in [("a", 0, "batches", 1), ("a", 0, "batches", 2), ("a", 1, "batches", 1), ("b", 0, "batches", 1)]:
        for _ in training_batches(Images(digits, model_config()), rows, labels=digits.labels[rows], shape=shape,
                                  sampling="natural", rng=generator(7, *purpose)):
            pass
    assert len(seen) == len(set(seen)) == 4 * 64


def test_a_training_batch_is_the_warp_of_its_rows_by_the_drawn_maps(digits: Packed) -> None:
    config, rows = model_config(batch=8), np.arange(20, 28)
    (images,), _ = next(training_batches(Images(digits, config), rows, labels=digits.labels[rows],
                                         shape=epoch_shape(8, config), sampling="natural",
                                         rng=np.random.default_rng(3)))
    rng = np.random.default_rng(3)
    order = rng.permutation(8)
    drawn = draw_matrices(rng, 8, augment=config.augment, canvas=16)
    fit = fit_matrices(np.full((8, 2), 8), 16, fit="longest", fill=1.0)
    expected = warp_batch([digits.image(row) for row in rows[order]], drawn @ fit, canvas=16)
    assert (images == expected).all()


def test_views_keep_order_and_the_last_partial_batch(digits: Packed) -> None:
    config, rows = model_config(canvas=8), np.array([5, 3, 9, 1, 7])
    found = [b.copy() for b, in Images(digits, config).view(rows, None, batch=2)]
    assert [len(b) for b in found] == [2, 2, 1]
    assert (np.concatenate(found) == np.stack([digits.image(row) for row in rows])).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_input_is_normalised_and_channels_last(channels: int) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (4, 6, 6, channels), np.uint8)
    mean, std = torch.full((channels, 1, 1), 0.25), torch.full((channels, 1, 1), 0.5)
    found, = to_tensors((batch,), mean=mean, std=std)
    expected = (batch.transpose(0, 3, 1, 2) / 255 - 0.25) / 0.5
    assert np.allclose(found.numpy(), expected, atol=1e-6)
    assert found.stride() == (36 * channels, 1, 6 * channels, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_really_run_in_bf16_and_channels_last(channels: int) -> None:
    net = build("resnet18", options={"width": 8}, n_classes=3, channels=channels, canvas=24)
    net.to(memory_format=torch.channels_last)
    outputs: list[torch.Tensor] = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    one = torch.ones(channels, 1, 1)
    with autocast("bf16", torch.device("cpu")):
        net(*to_tensors((np.zeros((2, 24, 24, channels), np.uint8),), mean=one, std=one))
    assert len(outputs) == 20
    assert {output.dtype for output in outputs} == {torch.bfloat16}
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in outputs)


def test_prefetch_gives_the_same_items_and_errors() -> None:
    assert list(prefetch(iter(range(50)), 3)) == list(range(50))

    def failing() -> object:
        yield 1
        raise UserError("no more")

    items = prefetch(failing(), 2)
    assert next(items) == 1
    with pytest.raises(UserError, match="no more"):
        next(items)


def test_normalisation_is_of_the_given_rows_alone(digits: Packed) -> None:
    rows = np.arange(0, 300, 3)
    config = model_config(canvas=8, fill=1.0)
    pixels = np.stack([digits.image(row) for row in rows]) / 255
    mean, std = mean_and_std(Images(digits, config), rows)
    assert mean == pytest.approx([pixels.mean()], rel=1e-12)
    assert std == pytest.approx([pixels.std()], rel=1e-9)


def test_normalisation_samples_evenly_spaced_rows(digits: Packed) -> None:
    config = model_config(canvas=8)
    feed = Images(digits, config)
    assert mean_and_std(feed, np.arange(101), sample=11) == mean_and_std(feed, np.arange(0, 101, 10))


def test_blank_images_have_a_floor_under_their_deviation(digits: Packed) -> None:
    config = model_config(canvas=8, fit="fixed", fill=1e-3)
    assert mean_and_std(Images(digits, config), np.arange(3)) == ((0.0,), (1 / 255,))


def test_explicit_precision_is_kept_and_auto_reads_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [resolve_precision(wanted, "cpu") for wanted in ("fp32", "bf16")] == ["fp32", "bf16"]
    for text, expected in [("flags : fpu avx512_bf16\n", "bf16"), ("flags : fpu avx2\n", "fp32"), ("", "fp32")]:
        monkeypatch.setattr(Path, "read_text", lambda _path, text=text: text)
        assert resolve_precision("auto", "cpu") == expected


def test_a_truncated_checkpoint_counts_as_none_and_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert read_checkpoint(path) is None
    write_checkpoint(path, {"epoch": 3, "net": {"w": torch.arange(1000.0)}})
    assert read_checkpoint(path)["epoch"] == 3  # type: ignore[index]
    for size in (0, 10, path.stat().st_size // 2, path.stat().st_size - 1):
        write_checkpoint(path, {"epoch": 3, "net": {"w": torch.arange(1000.0)}})
        path.write_bytes(path.read_bytes()[:size])
        assert read_checkpoint(path) is None
        assert not path.exists()


def test_curves_leave_unmeasured_fields_empty(tmp_path: Path) -> None:
    row = dict.fromkeys(CURVES) | {"model": "m", "fold": 0, "epoch": 1, "lr": 0.5, "train_loss": 1.25}
    write_table(tmp_path / "curves.csv", CURVES, [row])
    assert (tmp_path / "curves.csv").read_text().splitlines() == [",".join(CURVES), "m,0,,1,0.5,1.25,,,,,"]


def test_a_relabelled_store_differs_in_those_rows_alone(digits: Packed, tmp_path: Path) -> None:
    packed = pack_digits(tmp_path / "packed")
    other = open_packed(relabelled(packed, tmp_path / "other", np.arange(160, 200)))
    assert np.flatnonzero(other.labels != digits.labels).tolist() == list(range(160, 200))
