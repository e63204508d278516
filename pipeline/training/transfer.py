"""Transfer: a trunk's weights from elsewhere, and layers that stay as they are."""

import functools
import importlib
import json
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from pipeline.config.model import ModelConfig
from pipeline.errors import UserError, listed, nearest
from pipeline.nets.net import Net
from pipeline.nets.registry import module_of
from pipeline.nets.stem import first_conv, fit_channels

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]     # mean and std per channel, in units of x / 255

FOLDER = Path("pretrained")                  # what DVC tracks
WRAPPERS = ("state_dict", "model")           # keys under which training scripts keep the state dict
NO_PART = ("dropout", "drop_path")           # options that change neither the weights nor what they compute


@dataclass(frozen=True)
class _Source:
    tensors: dict[str, Tensor]               # by the trunk's names
    normalisation: Normalisation | None      # per channel of the source; None where nothing says


def load_pretrained(net: Net, config: ModelConfig, *, channels: int) -> Normalisation | None:
    """Fills the trunk, in place, from `config.pretrained`; the head stays fresh.

    Returns how the weights want their `channels` inputs normalised, None where the source does not say. The first
    convolution is fitted by `fit_channels`; any other tensor that is missing, foreign or of another shape raises
    UserError, as do an unreadable file, a net without published weights, and a download that fails.
    """
    if not config.pretrained:
        return None
    source = _source(net, config, device="cpu")
    fitted = _fitted(source.tensors, net.trunk, config=config, channels=channels)
    state = net.trunk.state_dict()
    with torch.no_grad():
        for name, tensor in fitted.items():
            state[name].copy_(tensor)
    if source.normalisation is None:
        return None
    mean, std = (_per_channel(values, channels) for values in source.normalisation)
    return mean, std


def check_pretrained(net: Net, config: ModelConfig, *, channels: int) -> None:
    """Raises what `load_pretrained` would, without reading or downloading weights, and for a file outside FOLDER.

    `net` may be on the meta device. Published weights are checked by their outline; that they can be downloaded is
    not known.
    """
    if not config.pretrained:
        return
    if isinstance(config.pretrained, str):
        path = Path(os.path.normpath(config.pretrained))             # not resolved: DVC may put a link to its cache
        if FOLDER.absolute() not in path.absolute().parents:
            raise UserError(f"pretrained: '{config.pretrained}' is not below {FOLDER}/, which DVC tracks; "
                            f"fix: copy it there and say pretrained: {FOLDER / path.name}")
    _fitted(_source(net, config, device="meta").tensors, net.trunk, config=config, channels=channels)


def require_other_data(config: ModelConfig, *, data_digest: str) -> None:
    """Raises UserError where the pretrained file learnt the labels of the store with this digest.

    Its features would know the rows that they are scored on. Only files of this pipeline say what they learnt from.
    """
    path = Path(str(config.pretrained))
    if not isinstance(config.pretrained, str) or path.suffix != ".safetensors":
        return
    _, text = _read(path, device="meta")
    if text is not None and json.loads(text).get("data_digest") == data_digest:
        raise _refusal(path, "it was trained on the labels of these very images, so no out-of-fold score would be "
                             "honest; fix: weights that were trained on other images")


def freeze_until(net: Net, layer: str) -> None:
    """Layers of the trunk, in order of registration, up to and including `layer` learn no more, in place.

    They stay in eval mode, whatever `net.train()` says: running statistics are fixed, dropout is off. Deep copies
    stay frozen, the state dict is the same. Raises UserError for a name that `net.trunk.named_modules()` lacks.
    """
    modules = dict(net.trunk.named_modules())
    if layer not in modules or not layer:
        names = [name for name in modules if name]
        top = [name for name, _ in net.trunk.named_children()]
        raise UserError(f"freeze: until:{layer}: the net has no such layer; its layers: {listed(top, limit=20)} "
                        f"and what is inside them{nearest(layer, names)}")
    order = list(modules)
    last = max(i for i, name in enumerate(order) if f"{name}.".startswith(f"{layer}."))
    for name in order[:last + 1]:
        module = modules[name]
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if name == layer or (name and not layer.startswith(f"{name}.")):     # the rest holds layers that still learn
            module.eval()
            module.train = functools.partial(_unmoved, module)  # type: ignore[method-assign]


def _unmoved(module: nn.Module, mode: bool = True) -> nn.Module:
    """Stands for `module.train` of a frozen module; a partial of it is copied with the module, a closure is not."""
    return module


def _source(net: Net, config: ModelConfig, *, device: str) -> _Source:
    """Tensors on `device`; on "meta" they are names and shapes, and no weights are read."""
    prefix, _, name = config.net.partition(":")
    zoo: ModuleType | None = importlib.import_module(module_of(config.net)) if name else None
    if config.pretrained is True:
        if zoo is None:
            raise UserError(f"pretrained: true: net '{prefix}' has no published weights; fix: pretrained: "
                            f"{FOLDER}/<file>, or a net of a zoo such as torchvision:resnet18")
        state = zoo.outline(name) if device == "meta" else zoo.download(name)
        return _Source(zoo.trunk_state(name, state, trunk=net.trunk), zoo.normalisation(name))
    path = Path(str(config.pretrained))
    state, meta = _read(path, device=device)
    own = {key.removeprefix("trunk."): tensor for key, tensor in state.items() if key.startswith("trunk.")}
    said = zoo.normalisation(name) if zoo else None
    if meta is not None:
        return _Source(own, _own_normalisation(path, meta, config=config))
    if own or zoo is None:
        return _Source(own or state, said)
    return _Source(zoo.trunk_state(name, state, trunk=net.trunk), said)


def _read(path: Path, *, device: str) -> tuple[dict[str, Tensor], str | None]:
    """Tensors of a file, and the text that a fold's file of this pipeline holds beside them."""
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path, device=device)
        loaded = torch.load(path, map_location=device, weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise UserError(f"pretrained: there is no file '{path}'; fix: put it there, or correct the name") from None
    except UnpicklingError:
        raise _refusal(path, "it holds more than tensors, or is damaged; fix: save the state dict alone, by "
                             "torch.save(model.state_dict(), ...)") from None
    except Exception as error:  # an unpickler that meets damaged bytes raises anything
        raise _refusal(path, f"it cannot be read ({(str(error) or type(error).__name__).splitlines()[0]}); "
                             "fix: a whole .safetensors file, or a state dict that torch.save wrote") from None
    for wrapper in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    tensors = {str(key).removeprefix("module."): value for key, value in loaded.items()
               if isinstance(value, Tensor)} if isinstance(loaded, dict) else {}
    if not tensors:
        raise _refusal(path, "no tensors by name in it; fix: save a state dict, by "
                             "torch.save(model.state_dict(), ...)")
    return tensors, None


def _read_safetensors(path: Path, *, device: str) -> tuple[dict[str, Tensor], str | None]:
    with safe_open(path, framework="pt") as handle:
        tensors = {
            key: torch.empty(handle.get_slice(key).get_shape(), device="meta") if device == "meta"
            else handle.get_tensor(key) for key in handle.keys()  # noqa: SIM118 (not a dict)
        }
        return tensors, (handle.metadata() or {}).get("meta")


def _own_normalisation(path: Path, text: str, *, config: ModelConfig) -> Normalisation:
    """What a fold's network was trained with; raises UserError where that was another net than `config`'s.

    Reads the few keys that it needs, so that a file outlives the config's other keys.
    """
    try:
        meta: dict[str, Any] = json.loads(text)
        theirs, mean, std = meta["config"], tuple(meta["mean"]), tuple(meta["std"])
        net, options, whiten = theirs["net"], theirs["options"], theirs.get("whiten")
    except (ValueError, TypeError, KeyError):
        raise _refusal(path, "no metadata of this pipeline in it; fix: a fold*.safetensors below models/") from None
    pairs = {"net": (net, config.net), "options": (_essential(options), _essential(config.options)),
             "whiten": (whiten, config.whiten)}
    for key, (found, expected) in pairs.items():
        if found != expected:
            raise _refusal(path, f"{key} is {expected!r} here and was {found!r} there; fix: {key} as it was there")
    return mean, std


def _essential(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in NO_PART}


def _fitted(
    tensors: dict[str, Tensor], trunk: nn.Module, *, config: ModelConfig, channels: int
) -> dict[str, Tensor]:
    """The tensors with the trunk's names and shapes; batch norm's counters, which old files lack, may be missing."""
    expected, found = trunk.state_dict(), dict(tensors)
    stem = first_conv(trunk)
    if stem is not None:
        key = f"{stem[0]}.weight"
        if key in found and found[key].ndim == 4 and expected[key].shape[1] == channels:   # it reads the image itself
            found[key] = fit_channels(found[key], channels)
    missing = [f"{k} {tuple(t.shape)}" for k, t in expected.items()
               if k not in found and not k.endswith("num_batches_tracked")]
    foreign = [f"{k} {tuple(t.shape)}" for k, t in tensors.items() if k not in expected]
    misshapen = [f"{k} {tuple(tensors[k].shape)} for {tuple(t.shape)}" for k, t in expected.items()
                 if k in found and found[k].shape != t.shape]
    problems = {"missing": missing, "not expected": foreign, "other shapes": misshapen}
    if any(problems.values()):
        text = "; ".join(f"{what}: {listed(keys, limit=3)}" for what, keys in problems.items() if keys)
        source = "true" if config.pretrained is True else config.pretrained
        raise UserError(f"pretrained: {source}: weights of another net than '{config.net}' with these options and "
                        f"canvas {config.canvas}; {text}; fix: net, options and canvas as the weights had them")
    return found


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Values of the source's channels as `fit_channels` fits kernels: channels that become one are averaged."""
    shared = math.gcd(len(values), channels)
    copies = len(values) // shared
    return tuple(sum(values[i::shared]) / copies for i in range(shared)) * (channels // shared)


def _refusal(path: Path, what: str) -> UserError:
    return UserError(f"pretrained: {path}: {what}")
