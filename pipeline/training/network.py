"""The network that a model's section describes, with fresh weights."""

from pipeline.config.model import ModelConfig
from pipeline.nets.net import Net
from pipeline.nets.registry import build
from pipeline.nets.whiten import Whiten


def trunk_net(config: ModelConfig, *, n_classes: int, channels: int, n_side: int = 0) -> Net:
    """The net of a section on images of `channels`, weights drawn from torch's generator; one that is frozen too.

    `n_side` is the number of hand-made features, used where `handmade` names some. Raises UserError as
    `registry.build` does.
    """
    channels *= 1 + len(config.scales)
    net = build(config.net, options=config.options, n_classes=n_classes, channels=channels, canvas=config.canvas)
    if config.handmade:
        net.fuse(n_side)
    if config.whiten is not None:
        net.whiten = Whiten(channels, config.canvas)
    return net
