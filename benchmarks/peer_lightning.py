"""A PyTorch Lightning Trainer, without the logs, checkpoints and bars that it keeps by default."""

import logging
import warnings
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from peer_task import CONFIG, Task, loader, net
from torch import Tensor, nn


class Classifier(L.LightningModule):
    """Cross-entropy, SGD, and a cosine over all steps."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.losses: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of one batch."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.net(images), labels)
        self.losses.append(loss.detach())
        return loss

    def configure_optimizers(self) -> Any:
        """The optimiser, and the schedule by steps."""
        given = CONFIG.optimiser
        optimiser = torch.optim.SGD(self.net.parameters(), lr=given.lr, momentum=given.momentum, nesterov=True,
                                    weight_decay=given.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def train(task: Task) -> float:
    """Trains; returns the mean loss of the last epoch."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    module = Classifier(net(task))
    batches = loader(task)
    trainer = L.Trainer(
        max_epochs=task.epochs, accelerator="cpu", devices=1, precision="bf16-mixed" if task.tuned else "32-true",
        callbacks=[EMAWeightAveraging(decay=CONFIG.ema or 0.0)], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, batches)
    return float(torch.stack(module.losses[-len(batches):]).mean())
