"""Any torchvision classification model, its first convolution fitted to the images, and its published weights.

`build` gives fresh weights. The other functions are what a zoo offers for transfer: `outline` and `download` (the
published state dict, by the library's own names), `trunk_state` (the part of it that a trunk takes), `normalisation`.
"""

import re
from http.client import HTTPException
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from pipeline.errors import UserError, listed, nearest
from pipeline.nets.net import Net, Share
from pipeline.nets.stem import fit_stem

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")     # GoogLeNet's and Inception's classifiers for training
RENAMED = (                                      # names in published files that are older than the models
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


def build(
    *, name: str, n_classes: int, channels: int, canvas: int, small_stem: bool = False, dropout: Share = 0.0
) -> Net:
    """`torchvision.models.<name>` as a Net; its own last linear layer is the head, what comes before it the trunk.

    `small_stem` is `fit_stem`'s `small`; `dropout` adds to the model's own. Raises UserError for an unknown name, or
    where the model cannot take the canvas.
    """
    names = models.list_models(module=models)
    if name not in names:
        raise UserError(f"unknown net 'torchvision:{name}'; allowed: torchvision:<name> with one of "
                        f"{listed(names)}{nearest(name, names)}")
    try:
        model = _fresh(name, n_classes=n_classes, canvas=canvas)
        fit_stem(model, channels=channels, small=small_stem)
        trunk, head = _split(model, n_classes=n_classes)
        with torch.no_grad():
            trunk.eval()(torch.zeros(1, channels, canvas, canvas))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"net 'torchvision:{name}' cannot take a canvas of {canvas} px"
                        f"{' with small_stem' * small_stem} ({reason}); fix: another canvas or net") from None
    return Net(trunk.train(), head, dropout=dropout)


def outline(name: str) -> dict[str, Tensor]:
    """Names and shapes of the published weights, as tensors without memory."""
    with torch.device("meta"):
        return _fresh(name, n_classes=1000, canvas=_weights(name).meta["min_size"][0]).state_dict()


def download(name: str) -> dict[str, Tensor]:
    """The published weights, from torch's cache or over the network; raises UserError where neither has them."""
    weights = _weights(name)
    try:
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, HTTPException, RuntimeError, UnpicklingError) as error:
        file = weights.url.rpartition("/")[2]
        raise UserError(f"pretrained: true: '{file}', the weights of 'torchvision:{name}', could not be downloaded or "
                        f"read ({' '.join(str(error).split())}); fix: put that file under pretrained/ and say "
                        f"pretrained: pretrained/{file}") from None


def trunk_state(name: str, state: dict[str, Tensor], *, trunk: nn.Module) -> dict[str, Tensor]:
    """The part of torchvision's `state` that `trunk` takes, by today's names: no auxiliary classifiers, no head."""
    heads = {path for path, module in trunk.named_modules() if isinstance(module, nn.Identity)}   # `_split` left it
    found = {}
    for key, tensor in state.items():
        for pattern, new in RENAMED:
            key = pattern.sub(new, key)
        if not key.startswith(AUXILIARY) and key.rpartition(".")[0] not in heads:
            found[key] = tensor
    return found


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per RGB channel that the published weights expect, in units of x / 255."""
    if name in ("googlenet", "inception_v3"):     # with these weights torchvision's model itself goes on to 1/2, 1/2
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    preset = _weights(name).transforms()
    return tuple(preset.mean), tuple(preset.std)


def _weights(name: str) -> models.WeightsEnum:
    return models.get_model_weights(name).DEFAULT


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


def _split(model: nn.Module, *, n_classes: int) -> tuple[nn.Module, nn.Linear]:
    """The model without its last layer, and that layer; SqueezeNet's is a 1x1 convolution, so it gets a linear one."""
    if isinstance(model, models.SqueezeNet):
        width = model.classifier[1].in_channels
        model.classifier[1] = nn.Identity()
        return model, nn.Linear(width, n_classes)
    path, head = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    model.set_submodule(path, nn.Identity())
    return model, head
