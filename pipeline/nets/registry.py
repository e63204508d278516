"""Nets by name, found lazily: naming one imports neither torch nor any other architecture."""

import importlib
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import UserError, listed, nearest

if TYPE_CHECKING:
    from pipeline.nets.net import Net

FAMILIES = {                     # builder -> the names that it builds; a builder of several is told which by `name`
    "pipeline.nets.baselines:logistic_regression": ("logistic_regression",),
    "pipeline.nets.baselines:mlp": ("mlp",),
    "pipeline.nets.lenet5:lenet5": ("lenet5",),
    "pipeline.nets.cats_and_dogs:cats_and_dogs": ("cats_and_dogs",),
    "pipeline.nets.alexnet:alexnet": ("alexnet",),
    "pipeline.nets.vgg:vgg": ("vgg11", "vgg13", "vgg16", "vgg19", "vgg16_small"),
    "pipeline.nets.inception:inception": ("inception_v1", "inception_v3"),
    "pipeline.nets.deepsea:deepsea": ("deepsea",),
    "pipeline.nets.resnet:resnet": ("resnet18", "resnet34", "resnet50", "resnet101"),
    "pipeline.nets.cifar_resnet:cifar_resnet": ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    "pipeline.nets.densenet:densenet": ("densenet", "densenet121"),
    "pipeline.nets.efficientnet:efficientnet": ("efficientnet_atto", "efficientnet_pico", "efficientnet_v2_s"),
}
PREFIXES = {"torchvision": "pipeline.nets.torchvision_zoo:build",   # "torchvision:<name>": the builder gets `name`
            "timm": "pipeline.nets.timm_zoo:build"}
NETS = {name: builder for builder, names in FAMILIES.items() for name in names}
GIVEN = ("name", "n_classes", "channels", "canvas")                 # arguments that are not the user's options


def build(net: str, *, options: dict[str, Any], n_classes: int, channels: int, canvas: int) -> "Net":
    """The net with fresh weights from torch's generator; `options` are keyword arguments of its builder.

    Raises UserError for an unknown net or option, a value of the wrong type or out of range, a canvas too small.
    """
    builder = _builder(net)
    arguments = _checked(options, builder, net=net)
    if "name" in inspect.signature(builder).parameters:
        arguments["name"] = net.partition(":")[2] or net
    return builder(**arguments, n_classes=n_classes, channels=channels, canvas=canvas)


def module_of(net: str) -> str:
    """Name of the module that builds `net`; raises UserError with the nearest match for an unknown one."""
    return _target(net).split(":")[0]


def options_of(net: str) -> list[str]:
    """Names of the builder's options; raises UserError for an unknown net."""
    return [name for name in inspect.signature(_builder(net)).parameters if name not in GIVEN]


def _builder(net: str) -> Callable[..., "Net"]:
    module, function = _target(net).split(":")
    builder: Callable[..., Net] = getattr(importlib.import_module(module), function)
    return builder


def _target(net: str) -> str:
    prefix, colon, name = net.partition(":")
    if net in NETS:
        return NETS[net]
    if prefix in PREFIXES and name:
        return PREFIXES[prefix]
    allowed = [*NETS, *(f"{p}:<name>" for p in PREFIXES)]
    close = nearest(prefix if colon else net, allowed)
    raise UserError(f"unknown net '{net}'; allowed: {listed(allowed, limit=30)}{close}")


def _checked(options: dict[str, Any], builder: Callable[..., Any], *, net: str) -> dict[str, Any]:
    """`options` as the builder's signature types them; strict as JSON is: no text for a number, lists for tuples."""
    hints = get_type_hints(builder, include_extras=True)
    allowed = [name for name in inspect.signature(builder).parameters if name not in GIVEN]
    checked = {}
    for name, value in options.items():
        if name not in allowed:
            choice = f"allowed: {listed(allowed, limit=30)}" if allowed else "it has no options"
            raise UserError(f"net '{net}': options.{name}: unknown option; {choice}{nearest(name, allowed)}")
        try:
            checked[name] = TypeAdapter(hints[name]).validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError as error:
            raise UserError(f"net '{net}': options.{name}: {error.errors()[0]['msg']}; found {value!r}") from None
    return checked
