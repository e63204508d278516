"""Any torchvision classification model with fresh weights, its first convolution fitted to the images."""

from typing import Any, cast

import torch
from torch import nn
from torchvision import models

from pipeline.errors import UserError, listed, nearest
from pipeline.nets.net import Net, Share


def build(
    *, name: str, n_classes: int, channels: int, canvas: int, small_stem: bool = False, dropout: Share = 0.0
) -> Net:
    """`torchvision.models.<name>` as a Net; its own last linear layer is the head, what comes before it the trunk.

    `small_stem` keeps the resolution: a ResNet's stem becomes one 3x3 convolution without pooling, any other net's
    first convolution gets stride 1. `dropout` adds to the model's own. Raises UserError for an unknown name, or where
    the model cannot take the canvas.
    """
    names = models.list_models(module=models)
    if name not in names:
        raise UserError(f"unknown net 'torchvision:{name}'; allowed: torchvision:<name> with one of "
                        f"{listed(names)}{nearest(name, names)}")
    try:
        model = _fresh(name, n_classes=n_classes, canvas=canvas)
        _fit_stem(model, channels=channels, small_stem=small_stem)
        trunk, head = _split(model, n_classes=n_classes)
        with torch.no_grad():
            trunk.eval()(torch.zeros(1, channels, canvas, canvas))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"net 'torchvision:{name}' cannot take a canvas of {canvas} px"
                        f"{' with small_stem' * small_stem} ({reason}); fix: another canvas or net") from None
    return Net(trunk.train(), head, dropout=dropout)


def _fresh(name: str, *, n_classes: int, canvas: int) -> nn.Module:
    """The model as torchvision makes it, on the default device, with what single families need."""
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options = {"image_size": canvas}
    elif name.startswith("maxvit"):
        options = {"input_size": (canvas, canvas)}
    elif name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": False}
    device = torch.get_default_device()
    # RegNet reads its widths from tensors, which have no values on the meta device of a dry build.
    with torch.device("cpu" if name.startswith("regnet") else device):
        return models.get_model(name, weights=None, num_classes=n_classes, **options).to(device)


def _fit_stem(model: nn.Module, *, channels: int, small_stem: bool) -> None:
    """Replaces the first convolution where it does not fit, with He initialisation."""
    path, old = next((p, m) for p, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if channels == old.in_channels and not small_stem:
        return
    resnet = small_stem and isinstance(model, models.ResNet)
    if resnet:
        model.maxpool = nn.Identity()
    new = nn.Conv2d(
        channels,
        old.out_channels,
        kernel_size=3 if resnet else cast("tuple[int, int]", old.kernel_size),
        stride=1 if small_stem else cast("tuple[int, int]", old.stride),
        padding=1 if resnet else cast("tuple[int, int]", old.padding),
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    model.set_submodule(path, new)


def _split(model: nn.Module, *, n_classes: int) -> tuple[nn.Module, nn.Linear]:
    """The model without its last layer, and that layer; SqueezeNet's is a 1x1 convolution, so it gets a linear one."""
    if isinstance(model, models.SqueezeNet):
        width = model.classifier[1].in_channels
        model.classifier[1] = nn.Identity()
        return model, nn.Linear(width, n_classes)
    path, head = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    model.set_submodule(path, nn.Identity())
    return model, head
