"""A trained network in one file: weights with everything that is needed to use them (safetensors)."""

import json
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pipeline.artefacts import atomic
from pipeline.config.model import LATER, HeadConfig, ModelConfig
from pipeline.errors import UserError, listed
from pipeline.nets.heads import head_net
from pipeline.nets.net import Net
from pipeline.training.checkpoint import fill
from pipeline.training.network import trunk_net


@dataclass(frozen=True)
class WeightsMeta:
    """What travels with the weights; the config holds the net's name and options, canvas, fit and fill."""

    model: str
    config: ModelConfig
    classes: tuple[str, ...]     # C names, in the order of the logits
    channels: int
    mean: tuple[float, ...]      # per channel, in units of x / 255
    std: tuple[float, ...]
    cell: int                    # repeat * k + fold: which rows it never saw
    fold_digest: str
    data_digest: str             # of the store whose labels it learnt
    precision: str               # "fp32" or "bf16": what it was trained in
    kept: str                    # "ema", "last" or "best"
    versions: dict[str, str]


def save_weights(path: Path, net: Net, meta: WeightsMeta) -> None:
    """Writes the network's state and `meta`, atomically; the same state gives the same bytes.

    What has no part in training one network (`LATER`) is left out of the config, and comes back as the default.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    text = json.dumps({**asdict(meta), "config": meta.config.model_dump(mode="json", exclude=LATER)}, sort_keys=True)
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata={"meta": text})  # one key: safetensors does not keep the order of many


def load_weights(path: Path) -> tuple[Net, WeightsMeta]:
    """The network in eval mode, on the CPU, channels_last, and its meta.

    Raises UserError, naming the file and the fix, for a missing or truncated file, or other or missing keys.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            text = (handle.metadata() or {}).get("meta")
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise _refusal(path, "the file is missing") from None
    except (SafetensorError, OSError) as error:
        raise _refusal(path, f"not a readable safetensors file ({str(error).splitlines()[0]})") from None
    meta = _parsed(path, text)
    net = _empty_net(meta, tensors)
    _check_tensors(path, tensors, net.state_dict())
    fill(net, tensors)
    return net.to(memory_format=torch.channels_last).eval(), meta  # type: ignore[call-overload]


def library_versions(net: str) -> dict[str, str]:
    """Versions of the libraries that decide the numbers of a net, among them the zoo that it comes from."""
    prefix, colon, _ = net.partition(":")
    return {name: version(name) for name in ("torch", "numpy", "opencv-python-headless", *([prefix] if colon else []))}


def _empty_net(meta: WeightsMeta, tensors: dict[str, torch.Tensor]) -> Net:
    """The net of the config; the widths of what is not in the config, hand-made and frozen features, are the file's."""
    def width(name: str) -> int:
        return tensors[name].shape[-1] if name in tensors else 1

    n_classes = len(meta.classes)
    if meta.config.frozen:
        return head_net(meta.config.head or HeadConfig(), n_features=width("trunk.0.running_mean"), n_classes=n_classes)
    return trunk_net(meta.config, n_classes=n_classes, channels=meta.channels, n_side=width("side.1.weight"))


def _parsed(path: Path, text: str | None) -> WeightsMeta:
    try:
        raw: dict[str, Any] = json.loads(text or "")
        expected = [f.name for f in fields(WeightsMeta)]
        if sorted(raw) != sorted(expected):
            raise _refusal(path, f"expected the metadata {listed(sorted(expected), limit=20)}, "
                                 f"found {listed(sorted(raw), limit=20)}")
        lists = {name: tuple(raw[name]) for name in ("classes", "mean", "std")}
        return WeightsMeta(**{**raw, **lists, "config": ModelConfig.model_validate(raw["config"])})
    except (ValueError, TypeError, ValidationError):
        raise _refusal(path, "no metadata of this pipeline in it") from None


def _check_tensors(path: Path, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    missing, foreign = [n for n in expected if n not in found], [n for n in found if n not in expected]
    if missing or foreign:
        raise _refusal(path, f"weights of another net; missing: {listed(missing, limit=3) or 'none'}, "
                             f"not expected: {listed(foreign, limit=3) or 'none'}")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise _refusal(path, f"weights of another net; '{name}' is {tuple(found[name].shape)}, "
                                 f"expected {tuple(tensor.shape)}")


def _refusal(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; fix: rerun the stage that writes it: dvc repro")
