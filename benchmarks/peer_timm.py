"""The loop of timm's train.py on one device: its optimiser, schedule, average of the weights and meter."""

from peer_task import BATCH, CONFIG, Task, loader, net
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, ModelEmaV3
from torch import autocast, bfloat16, nn


def train(task: Task) -> float:
    """Trains; returns the mean loss of the last epoch. Tuned is `--amp --amp-dtype bfloat16 --channels-last`."""
    model, batches, given = net(task), loader(task), CONFIG.optimiser
    optimiser = create_optimizer_v2(model, opt="sgd", lr=given.lr, momentum=given.momentum,
                                    weight_decay=given.weight_decay)
    schedule, _ = create_scheduler_v2(optimiser, sched="cosine", num_epochs=task.epochs, step_on_epochs=False,
                                      updates_per_epoch=len(batches))
    average = ModelEmaV3(model, decay=CONFIG.ema or 0.0)
    loss_of = nn.CrossEntropyLoss()
    updates, meter = 0, AverageMeter()
    for _ in range(task.epochs):
        model.train()
        meter.reset()
        for images, labels in batches:
            with autocast("cpu", bfloat16, enabled=task.tuned):
                loss = loss_of(model(images), labels)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            average.update(model, step=updates)
            updates += 1
            meter.update(loss.item(), BATCH)
            schedule.step_update(num_updates=updates)
    return float(meter.avg)
