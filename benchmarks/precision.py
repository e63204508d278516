"""Training steps per second in fp32 and bf16, channels_last, one thread: what `precision: auto` decides by.

Writes benchmarks/results/precision.json: a ResNet-18 of width 16 at 48 px grey, batch 64, forward, backward, update.
"""

import torch
from report import interleaved, summary, write

from pipeline.config.model import OptimiserConfig
from pipeline.nets.registry import build
from pipeline.training.optimiser import make_optimiser
from pipeline.training.precision import autocast, resolve_precision

BATCH, CANVAS, REPEATS = 64, 48, 12


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = build("resnet18", options={"width": 16}, n_classes=121, channels=1, canvas=CANVAS)
    net.to(memory_format=torch.channels_last)
    optimiser = make_optimiser(net, OptimiserConfig())
    images = torch.randn(BATCH, CANVAS, CANVAS, 1).permute(0, 3, 1, 2)              # (B, 1, S, S) channels_last
    labels = torch.randint(0, 121, (BATCH,))

    def step(precision: str) -> None:
        with autocast(precision, images.device):
            logits = net(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    seconds = interleaved({name: lambda p=name: step(p) for name in ("fp32", "bf16")}, repeats=REPEATS)
    write("precision", {
        "net": "resnet18 width 16", "canvas": CANVAS, "batch": BATCH, "threads": 1,
        "auto": resolve_precision("auto", "cpu"),
        "images_per_second": {name: round(BATCH / summary(taken)["median"], 1) for name, taken in seconds.items()},
        "seconds_per_step": {name: summary(taken) for name, taken in seconds.items()},
    })


if __name__ == "__main__":
    main()
