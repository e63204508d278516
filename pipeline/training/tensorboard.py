"""TensorBoard files of one network, where the extra `tensorboard` is installed: scalars and histograms."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.nets.net import Net
from pipeline.training.batches import to_tensors
from pipeline.training.feed import Feed
from pipeline.training.normalise import spaced

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TAGS = {                # column of the curves or the timing -> tag
    "train_loss": "loss/train", "holdout_loss": "loss/holdout", "valid_loss": "loss/valid",
    "train_accuracy": "accuracy/train", "holdout_accuracy": "accuracy/holdout", "valid_accuracy": "accuracy/valid",
    "lr": "lr", "images_per_second": "images_per_second",
}
SAMPLE = 64             # images whose activations are looked at
LAYERS = 16             # layers whose activations are looked at
VALUES = 2**17          # of one layer: the first images that give no more
BINS = 64


class Board:
    """An open event file, to be closed. What it logs changes neither the network nor any random state."""

    def __init__(self, writer: "SummaryWriter") -> None:
        self._writer = writer

    def epoch(self, row: Mapping[str, Any], net: Net | None = None, *, sample: tuple[Tensor, ...] = ()) -> None:
        """Logs what `row` has under a column of `TAGS` and is not None, as step `row["epoch"]`, and flushes.

        With `net`, histograms too: of its parameters of two or more dimensions, and of what its layers put out for
        `sample`, arguments of the network on its device (see `plain_sample`).
        """
        step = row["epoch"]
        for column, tag in TAGS.items():
            if row.get(column) is not None:
                self._writer.add_scalar(tag, row[column], step)
        if net is not None:
            for name, parameter in net.named_parameters():
                if parameter.ndim > 1:
                    self._histogram(f"weights/{name}", parameter, step)
            watch_layers(net, sample, lambda name, output: self._histogram(f"activations/{name}", output, step))
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()

    def _histogram(self, tag: str, tensor: Tensor, step: int) -> None:
        """Of the finite values, in bins of one width: those of `add_histogram` take a sort."""
        values = tensor.detach().float().cpu().numpy().ravel()
        values = values[np.isfinite(values)].astype(np.float64)
        if len(values):
            counts, edges = np.histogram(values, bins=BINS)
            self._writer.add_histogram_raw(
                tag, min=values.min(), max=values.max(), num=len(values), sum=values.sum(),
                sum_squares=values @ values, bucket_limits=edges[1:].tolist(), bucket_counts=counts.tolist(),
                global_step=step,
            )


def open_board(directory: Path, *, done: int) -> Board | None:
    """A board that writes to `directory` after `done` epochs, or None where the package is not installed.

    Later epochs that a killed run left there are void: TensorBoard drops them.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return Board(SummaryWriter(str(directory), purge_step=done + 1))


def plain_sample(feed: Feed, rows: np.ndarray, *, mean: Tensor, std: Tensor) -> tuple[Tensor, ...]:
    """A network's arguments for up to 64 of `rows`, evenly spaced and not augmented; `mean`, `std` as `to_tensors`."""
    return to_tensors(next(iter(feed.view(spaced(rows, SAMPLE), None, batch=SAMPLE))), mean=mean, std=std)


def watch_layers(net: Net, sample: tuple[Tensor, ...], see: Callable[[str, Tensor], None]) -> None:
    """Calls `see(name, output)` for up to 16 convolutions and linear layers, evenly spaced, in evaluation mode.

    The output is that of the first images of `sample` with at most 2**17 values, and of one image at least.
    """
    layers = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layers[i][1].register_forward_hook(partial(_see, see, layers[i][0]))
             for i in spaced(np.arange(len(layers)), LAYERS)]
    try:
        with _evaluating(net), torch.inference_mode():
            net(*sample)
    finally:
        for hook in hooks:
            hook.remove()


def _see(see: Callable[[str, Tensor], None], name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
    see(name, output[:max(1, VALUES // output[0].numel())])


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; each module has its own mode back afterwards."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
