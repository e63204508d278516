"""Nets by name, found lazily: naming one imports neither torch nor any other architecture.

Every stage that trains depends on this file, and none on the table in `families`: the stage `check` writes a net's
target and code into its model's plan, so a line added there retrains nothing.
"""

import importlib
import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import UserError, listed, nearest

if TYPE_CHECKING:
    from pipeline.nets.net import Net

FAMILIES = "pipeline.nets.families"     # named, not imported: a new family's line there is no change of this code
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
    return target_of(net).split(":")[0]


def target_of(net: str) -> str:
    """`module:function` of the builder of `net`; raises UserError with the nearest match for an unknown one."""
    table = importlib.import_module(FAMILIES)
    prefix, colon, name = net.partition(":")
    target: str | None = table.NETS.get(net) or (table.PREFIXES.get(prefix) if name else None)
    if target is not None:
        return target
    allowed = [*table.NETS, *(f"{p}:<name>" for p in table.PREFIXES)]
    close = nearest(prefix if colon else net, allowed)
    raise UserError(f"unknown net '{net}'; allowed: {listed(allowed, limit=40)}{close}")


def options_of(net: str) -> list[str]:
    """Names of the builder's options; raises UserError for an unknown net."""
    return [name for name in inspect.signature(_builder(net)).parameters if name not in GIVEN]


def _builder(net: str) -> Callable[..., "Net"]:
    module, function = target_of(net).split(":")
    builder: Callable[..., Net] = getattr(importlib.import_module(module), function)
    return builder


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
