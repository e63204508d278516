"""A fastai Learner; it keeps no average of the weights. Its to_bf16 is for CUDA alone, so tuned is a wrapped net."""

import numpy as np
import torch
from fastai.callback.core import Callback, CancelValidException
from fastai.callback.schedule import ParamScheduler, SchedCos
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from peer_task import CONFIG, Task, loader, net
from torch import Tensor, autocast, bfloat16, nn


class InBfloat16(nn.Module):
    """A net whose forward pass runs in bf16 autocast."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        with autocast("cpu", bfloat16):
            return self.net(images).float()


class TrainOnly(Callback):
    """Keeps the losses, and spares the Learner its validation after each epoch."""

    def before_fit(self) -> None:
        """No losses yet."""
        self.losses: list[float] = []

    def before_validate(self) -> None:
        """Nothing to validate on."""
        raise CancelValidException

    def after_loss(self) -> None:
        """The loss of one batch."""
        self.losses.append(float(self.learn.loss))


def train(task: Task) -> float:
    """Trains; returns the mean loss of the last epoch."""
    batches, given, watcher = loader(task), CONFIG.optimiser, TrainOnly()
    model = InBfloat16(net(task)) if task.tuned else net(task)

    def optimiser(parameters: list[nn.Parameter], lr: float) -> OptimWrapper:
        return OptimWrapper(parameters, torch.optim.SGD, lr=lr, momentum=given.momentum, nesterov=True,
                            weight_decay=given.weight_decay)

    learner = Learner(DataLoaders(batches, batches), model, loss_func=nn.CrossEntropyLoss(), opt_func=optimiser,
                      lr=given.lr, cbs=[watcher, ParamScheduler({"lr": SchedCos(given.lr, 0.0)})])
    with learner.no_bar(), learner.no_logging():
        learner.fit(task.epochs)
    return float(np.mean(watcher.losses[-len(batches):]))
