"""TensorBoard files: the numbers that were logged, epochs once each after a kill, and no trace in the training."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training_jobs import model_config, pack_digits

from pipeline.data.store import open_packed
from pipeline.nets.net import Net
from pipeline.nets.registry import build
from pipeline.training.batches import to_tensors
from pipeline.training.feed import Images
from pipeline.training.normalise import column
from pipeline.training.tensorboard import LAYERS, SAMPLE, VALUES, Board, open_board, plain_sample, watch_layers
from pipeline.training.transfer import freeze_until

ROW = {"epoch": 1, "model": "tiny", "lr": 0.05, "train_loss": 1.5, "train_accuracy": 0.5, "holdout_loss": None,
       "valid_loss": 1.25, "valid_accuracy": 0.625, "images_per_second": 640.0}


class Spy:
    """Stands for the writer: keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def add_scalar(self, *arguments: Any) -> None:
        self.calls.append(arguments)

    def add_histogram_raw(self, tag: str, **facts: Any) -> None:
        self.calls.append((tag, facts))

    def flush(self) -> None:
        self.calls.append(("flush",))


def lenet() -> Net:
    torch.manual_seed(0)
    return build("lenet5", options={}, n_classes=10, channels=1, canvas=16)


def logged(directory: Path) -> Any:
    """What TensorBoard itself reads from a directory."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(directory), size_guidance={"scalars": 0, "histograms": 0}).Reload()


def board(directory: Path, *, done: int = 0) -> Board:
    pytest.importorskip("tensorboard")
    opened = open_board(directory, done=done)
    assert opened is not None
    return opened


def test_without_the_package_there_is_no_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert open_board(tmp_path / "tensorboard", done=0) is None
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_reads_the_numbers_that_were_logged(tmp_path: Path) -> None:
    net, sample = lenet(), (torch.rand(4, 1, 16, 16),)
    opened = board(tmp_path)
    opened.epoch(ROW, net, sample=sample)
    opened.epoch(ROW | {"epoch": 2, "train_loss": 0.75})
    found = logged(tmp_path)        # before it is closed: a killed run's epochs are there
    opened.close()
    assert [(e.step, e.value) for e in found.Scalars("loss/train")] == [(1, 1.5), (2, 0.75)]
    assert {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]} == pytest.approx({
        "loss/train": 1.5, "accuracy/train": 0.5, "loss/valid": 1.25, "accuracy/valid": 0.625, "lr": 0.05,
        "images_per_second": 640.0})

    weights = {f"weights/{name}": p.detach().double() for name, p in net.named_parameters() if p.ndim > 1}
    layers = [f"activations/{name}" for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert set(found.Tags()["histograms"]) == set(weights) | set(layers)
    for tag, values in weights.items():
        (event,) = found.Histograms(tag)
        seen = event.histogram_value
        assert (event.step, seen.num, sum(seen.bucket)) == (1, values.numel(), values.numel())
        assert (seen.min, seen.max, seen.sum, seen.sum_squares) == pytest.approx(
            (values.min().item(), values.max().item(), values.sum().item(), values.square().sum().item()))
        below = [(values <= limit).sum().item() for limit in seen.bucket_limit]
        assert np.cumsum(seen.bucket) == pytest.approx(below, abs=1)      # numpy's bins are closed on the left
    logits = net.eval()(*sample).detach()
    seen = found.Histograms("activations/head")[0].histogram_value
    assert (seen.num, seen.min, seen.max) == pytest.approx((40, logits.min().item(), logits.max().item()))


def test_a_resumed_training_shows_every_epoch_once(tmp_path: Path) -> None:
    for done, loss in ((0, 1.0), (2, 2.0), (1, 3.0)):        # epoch 3 of the first run was not in its checkpoint
        opened = board(tmp_path, done=done)
        for epoch in (done + 1, done + 2, done + 3):
            opened.epoch({"epoch": epoch, "train_loss": loss})
        opened.close()
    assert [(e.step, e.value) for e in logged(tmp_path).Scalars("loss/train")] == [(1, 1.0), (2, 3.0), (3, 3.0),
                                                                                  (4, 3.0)]


@pytest.mark.parametrize("name", ["lenet5", "deepsea", "densenet"])
def test_logging_leaves_no_trace_in_the_network_and_no_random_number_is_drawn(name: str) -> None:
    torch.manual_seed(0)
    options = {"densenet": {"growth": 4, "blocks": [2, 2]}, "deepsea": {"width": 4, "dense": 16}}.get(name, {})
    net = build(name, options=options, n_classes=10, channels=1, canvas=32).train()
    freeze_until(net, next(iter(dict(net.trunk.named_children()))))
    sample = (torch.rand(4, 1, 32, 32),)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(*sample).sum().backward()

    def state() -> tuple[Any, ...]:
        return (
            {key: tensor.numpy().tobytes() for key, tensor in net.state_dict().items()},
            {key: p.grad.numpy().tobytes() for key, p in net.named_parameters() if p.grad is not None},
            {key: (m.training, len(m._forward_hooks)) for key, m in net.named_modules()},
            torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes(),
        )

    before = state()
    Board(Spy()).epoch(ROW, net, sample=sample)     # type: ignore[arg-type]
    assert state() == before
    optimiser.zero_grad()
    net(*sample).sum().backward()                   # nothing of inference mode is left in it
    optimiser.step()


def test_modes_and_hooks_are_restored_after_an_error() -> None:
    net = lenet().train()
    with pytest.raises(RuntimeError):
        watch_layers(net, (torch.rand(1, 3, 16, 16),), lambda name, output: None)
    assert all(module.training and not module._forward_hooks for module in net.modules())


def test_layers_are_few_and_evenly_spaced_and_outputs_are_cut() -> None:
    trunk = nn.Sequential(*(nn.Linear(5, 5) for _ in range(39)))
    net = Net(trunk, nn.Linear(5, VALUES // 2))
    seen: dict[str, tuple[int, ...]] = {}
    watch_layers(net, (torch.rand(3, 5),), lambda name, output: seen.update({name: tuple(output.shape)}))
    assert len(seen) == LAYERS
    assert [name for name in seen if name != "head"] == [f"trunk.{round(i * 39 / 15)}" for i in range(15)]
    assert seen["trunk.0"] == (3, 5)
    assert seen["head"] == (2, VALUES // 2)


def test_histograms_hold_finite_values_only_and_constants_too() -> None:
    net = Net(nn.Linear(3, 2), nn.Linear(2, 4, bias=False))
    with torch.no_grad():
        net.trunk.weight.copy_(torch.tensor([[1.0, float("nan"), 2.0], [float("inf"), 3.0, 3.0]]))
        net.head.weight.fill_(0.5)
    spy = Spy()
    Board(spy).epoch({"epoch": 7}, net, sample=(torch.full((1, 3), float("nan")),))   # type: ignore[arg-type]
    found = {call[0]: call[1] for call in spy.calls[:-1]}
    assert spy.calls[-1] == ("flush",)
    assert set(found) == {"weights/trunk.weight", "weights/head.weight"}        # all activations are NaN
    facts = found["weights/trunk.weight"]
    assert (facts["num"], facts["min"], facts["max"], facts["sum"], facts["sum_squares"]) == (4, 1.0, 3.0, 9.0, 23.0)
    assert (facts["global_step"], facts["bucket_counts"][0], facts["bucket_counts"][-1]) == (7, 1, 2)
    constant = found["weights/head.weight"]
    assert (constant["num"], constant["min"], constant["max"], sum(constant["bucket_counts"])) == (8, 0.5, 0.5, 8)


def test_the_sample_is_of_plain_images_of_the_rows(tmp_path: Path) -> None:
    feed = Images(open_packed(pack_digits(tmp_path / "packed")), model_config())
    mean, std = column((0.3,)), column((0.2,))
    rows = np.arange(100, 400)
    (images,) = plain_sample(feed, rows, mean=mean, std=std)
    picked = rows[np.linspace(0, 299, SAMPLE).round().astype(int)]
    (expected,) = to_tensors(next(feed.view(picked, None, batch=SAMPLE)), mean=mean, std=std)
    assert torch.equal(images, expected)
    assert len(plain_sample(feed, rows[:5], mean=mean, std=std)[0]) == 5
