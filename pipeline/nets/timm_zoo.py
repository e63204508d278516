"""Any timm classification model, where the extra `timm` is installed, and its published weights.

`build` gives fresh weights. The other functions are what a zoo offers for transfer: `outline` and `download` (the
published state dict, by the library's own names), `trunk_state` (the part of it that a trunk takes), `normalisation`.
"""

import importlib
import sys
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError, listed, nearest
from pipeline.nets.net import Net, Share
from pipeline.nets.stem import fit_stem


def build(
    *, name: str, n_classes: int, channels: int, canvas: int, small_stem: bool = False, drop_path: Share = 0.0,
    dropout: Share = 0.0,
) -> Net:
    """timm's `<name>` or `<name>.<tag>`, without its classifier, as the trunk of a Net.

    `small_stem` is `fit_stem`'s `small`; `drop_path` is the model's stochastic depth. Raises UserError where timm is
    missing or has no such model, or the model cannot take the canvas or the option.
    """
    _config(name)
    depth = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        trunk = _featured(name, canvas=canvas, in_chans=channels, **depth)
        if small_stem:
            fit_stem(trunk, channels=channels, small=True)
        with torch.no_grad():
            width = _width(trunk.eval()(torch.zeros(1, channels, canvas, canvas)))
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        said = " with small_stem" * small_stem + " with drop_path" * bool(drop_path)
        raise UserError(f"net 'timm:{name}' cannot take a canvas of {canvas} px{said} ({reason}); "
                        "fix: another canvas or net") from None
    return Net(trunk.train(), nn.Linear(width, n_classes), dropout=dropout)


def outline(name: str) -> dict[str, Tensor]:
    """Names and shapes of the published weights, as tensors without memory."""
    _published(name)
    with torch.device("meta"):
        return _timm().create_model(name, pretrained=False).state_dict()


def download(name: str) -> dict[str, Tensor]:
    """The published weights, from the cache or over the network; raises UserError where neither has them."""
    config = _published(name)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return _timm().create_model(name, pretrained=True).state_dict()
    except Exception as error:  # what it raises is up to the client that downloads
        source = f"model.safetensors of '{config.hf_hub_id}'" if config.hf_hub_id else config.url.rpartition("/")[2]
        file = f"pretrained/{name}.{'safetensors' if config.hf_hub_id else 'pth'}"
        raise UserError(f"pretrained: true: the weights of 'timm:{name}' could not be downloaded or read "
                        f"({' '.join(str(error).split())}); fix: put {source} at {file} and say pretrained: {file}"
                        ) from None


def trunk_state(name: str, state: dict[str, Tensor], *, trunk: nn.Module) -> dict[str, Tensor]:
    """The part of timm's `state` that `trunk` takes, by today's names; positions are resampled to its canvas."""
    adapted = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
    if adapted is not None:
        state = adapted(dict(state), trunk)
    classifier = _config(name).classifier or ()
    heads = tuple(f"{path}." for path in ((classifier,) if isinstance(classifier, str) else classifier))
    return {key: tensor for key, tensor in state.items() if not key.startswith(heads)}


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per RGB channel that the published weights expect, in units of x / 255."""
    config = _config(name)
    return tuple(config.mean), tuple(config.std)


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UserError(f"nets of timm need the extra 'timm' ({error}); "
                        "fix: pip install 'ensemble-pipeline[timm]'") from None


def _config(name: str) -> Any:
    """timm's PretrainedCfg of the model; raises UserError for an unknown name."""
    timm = _timm()
    names = [*timm.list_models(), *timm.list_pretrained()]
    if name not in names:
        raise UserError(f"unknown net 'timm:{name}'; allowed: timm:<name> with one of {listed(names)}"
                        f"{nearest(name, names)}")
    return timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()


def _published(name: str) -> Any:
    config = _config(name)
    if not config.has_weights:
        raise UserError(f"pretrained: true: timm publishes no weights of 'timm:{name}'; "
                        "fix: pretrained: pretrained/<file>, or another net")
    return config


def _featured(name: str, *, canvas: int, **options: Any) -> nn.Module:
    """The model without classifier, for the canvas where it is built for a fixed one."""
    size = {"img_size": canvas} if _config(name).fixed_input_size else {}
    model: nn.Module = _timm().create_model(name, pretrained=False, num_classes=0, **size, **options)
    return model


def _width(features: Any) -> int:
    """Width of features `(1, D)`; raises ValueError for anything else."""
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise ValueError("it gives no single vector of features per image")
    return features.shape[1]
