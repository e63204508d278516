"""Every net of the registry: the contract, goldens of cost, learning, seeds, laziness, and the registry's errors.

`python tests/test_nets.py` writes net_goldens.csv anew.
"""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from pipeline.errors import UserError
from pipeline.nets.cost import cost
from pipeline.nets.families import FAMILIES, NETS
from pipeline.nets.net import Net
from pipeline.nets.registry import build, module_of

CANVASES, CHANNELS = (32, 64, 96, 224), (1, 3)
GOLDENS = Path(__file__).with_name("net_goldens.csv")                 # n_classes 10, default options
COLUMNS = ["net", "channels", "canvas", "parameters", "flops"]
NARROW = {"width": 8, "dense": 32, "growth": 8, "dropout": 0.0}       # of these, the options that a net takes
STEPS, LEARNT = 60, 0.1                                               # most steps of AdamW, and the loss to get below
LEARNING_RATE, SLOWER = 0.01, {"alexnet": 0.001}                      # no normalisation
EXCEPTIONS: dict[str, dict[str, object]] = {                          # laid over NARROW
    "mlp": {"width": 64},
    "densenet": {"blocks": [2, 2, 2]},
}


def make(net: str, *, channels: int = 1, canvas: int = 32, seed: int = 0, **options: object) -> Net:
    torch.manual_seed(seed)
    return build(net, options=options, n_classes=10, channels=channels, canvas=canvas)


def small(name: str, *, channels: int = 1, seed: int = 0) -> tuple[Net, int]:
    """A narrow instance with real weights, and the least canvas of the sweep that it takes."""
    module, function = NETS[name].split(":")
    taken = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    options = {key: value for key, value in NARROW.items() if key in taken} | EXCEPTIONS.get(name, {})
    canvas = next(c for c in CANVASES if refused(name, canvas=c) is None)
    return make(name, channels=channels, canvas=canvas, seed=seed, **options), canvas


def refused(name: str, *, channels: int = 1, canvas: int) -> str | None:
    """What the net at its default options says against a canvas, or None."""
    try:
        with torch.device("meta"):
            make(name, channels=channels, canvas=canvas)
    except UserError as error:
        return str(error)
    return None


def noise(n: int, *, channels: int, canvas: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, channels, canvas, canvas, generator=generator).to(memory_format=torch.channels_last)


def measured(name: str, channels: int, canvas: int) -> tuple[int, int]:
    return cost(name, options={}, n_classes=10, channels=channels, canvas=canvas)


@pytest.fixture(scope="module")
def goldens() -> dict[tuple[str, int, int], tuple[int, int]]:
    table = pd.read_csv(GOLDENS)
    assert list(table.columns) == COLUMNS
    return {(row.net, row.channels, row.canvas): (row.parameters, row.flops) for row in table.itertuples()}


def test_every_name_of_every_family_is_in_the_registry_once() -> None:
    names = [name for group in FAMILIES.values() for name in group]
    assert sorted(names) == sorted(NETS)


@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", NETS)
def test_full_size_builds_and_costs_what_the_golden_says(name: str, channels: int, canvas: int, goldens) -> None:
    refusal = refused(name, channels=channels, canvas=canvas)
    if refusal is not None:
        assert refusal.startswith(f"net '{name}': canvas {canvas} is too small; fix: canvas: ")
        assert (name, channels, canvas) not in goldens
        return
    assert (name, channels, canvas) in goldens, "no golden; make it with: python tests/test_nets.py"
    assert measured(name, channels, canvas) == goldens[name, channels, canvas]


def test_goldens_name_no_net_that_is_gone(goldens) -> None:
    assert {name for name, _, _ in goldens} == set(NETS)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])                    # grey and RGB, alone and at two scales
@pytest.mark.parametrize("name", NETS)
def test_contract(name: str, channels: int) -> None:
    net, canvas = small(name, channels=channels)
    net.to(memory_format=torch.channels_last).eval()
    x = noise(2, channels=channels, canvas=canvas)
    with torch.no_grad():
        logits, features = net.forward_both(x)
        torch.testing.assert_close(net(x), logits)
        torch.testing.assert_close(net.head(net.embed(x)), logits)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net(x)
    assert isinstance(net.head, torch.nn.Linear)
    assert logits.shape == rounded.shape == (2, 10)
    assert features.shape == (2, net.feature_width)
    assert net.head.in_features == net.feature_width
    assert torch.isfinite(logits).all()
    assert torch.isfinite(rounded).all()


@pytest.mark.parametrize("name", NETS)
def test_a_batch_is_learnt_and_every_parameter_takes_part(name: str) -> None:
    net, canvas = small(name)
    net.to(memory_format=torch.channels_last).train()
    x, y = noise(10, channels=1, canvas=canvas), torch.arange(10)
    optimiser = torch.optim.AdamW(net.parameters(), lr=SLOWER.get(name, LEARNING_RATE))
    moved = dict.fromkeys(dict(net.named_parameters()), False)
    for _ in range(STEPS):
        logits = net(x)
        loss = F.cross_entropy(logits, y)
        if loss.item() < LEARNT:
            break
        optimiser.zero_grad()
        loss.backward()
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None, key
            moved[key] |= bool(parameter.grad.abs().max() > 0)
        optimiser.step()
    assert [key for key, some in moved.items() if not some] == []
    assert loss.item() < LEARNT
    assert torch.equal(logits.argmax(dim=1), y)


@pytest.mark.parametrize("name", NETS)
def test_the_seed_decides_the_weights(name: str) -> None:
    first, again = small(name)[0].state_dict(), small(name)[0].state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = small(name, seed=1)[0]
    assert not torch.equal(first["head.weight"], other.head.weight)


def test_dropout_is_before_the_head_and_not_in_the_features() -> None:
    net = make("mlp", width=64, dropout=0.9).train()
    x = noise(4, channels=1, canvas=32)
    assert torch.equal(net.embed(x), net.embed(x))
    assert not torch.equal(net(x), net(x))


def test_registry_is_lazy() -> None:
    code = ("import sys; from pipeline.nets import registry; registry.module_of('resnet18'); "
            "from pipeline.nets.families import NETS; families = {target.split(':')[0] for target in NETS.values()}; "
            "print('torch' in sys.modules, *(families & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_building_one_net_imports_no_other_family() -> None:
    code = ("import sys; from pipeline.nets import registry; "
            "registry.build('lenet5', options={}, n_classes=2, channels=1, canvas=28); "
            "from pipeline.nets.families import NETS; families = {target.split(':')[0] for target in NETS.values()}; "
            "print('torchvision' in sys.modules, *(families & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "pipeline.nets.lenet5"]


def test_module_of() -> None:
    assert module_of("mlp") == "pipeline.nets.baselines"
    assert module_of("torchvision:anything") == "pipeline.nets.torchvision_zoo"


@pytest.mark.parametrize(
    ("net", "parts"),
    [
        ("resnet81", ["unknown net 'resnet81'", "'lenet5'", "'torchvision:<name>'", "did you mean 'resnet18'?"]),
        ("torchvison:resnet50", ["unknown net 'torchvison:resnet50'", "did you mean 'torchvision:<name>'?"]),
        ("torchvision:", ["unknown net 'torchvision:'"]),
    ],
)
def test_unknown_nets_are_refused_by_name(net: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        module_of(net)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("net", "options", "parts"),
    [
        ("mlp", {"wdith": 4}, ["options.wdith: unknown option", "allowed: 'width', 'dropout'", "mean 'width'?"]),
        ("mlp", {"canvas": 4}, ["options.canvas: unknown option"]),
        ("resnet18", {"name": "resnet34"}, ["options.name: unknown option"]),
        ("logistic_regression", {"width": 4}, ["options.width: unknown option; it has no options"]),
        ("mlp", {"width": "wide"}, ["options.width", "valid integer", "found 'wide'"]),
        ("mlp", {"width": 8.0}, ["options.width", "valid integer", "found 8.0"]),
        ("mlp", {"width": 0}, ["options.width", "greater than or equal to 1", "found 0"]),
        ("mlp", {"dropout": 1.0}, ["options.dropout", "less than 1", "found 1.0"]),
        ("deepsea", {"blocks": []}, ["options.blocks", "at least 1 item"]),
        ("deepsea", {"norm": "yes please"}, ["options.norm", "valid boolean"]),
    ],
)
def test_bad_options_are_one_clear_line(net: str, options: dict[str, object], parts: list[str]) -> None:
    with torch.device("meta"), pytest.raises(UserError) as caught:
        build(net, options=options, n_classes=2, channels=1, canvas=32)
    assert str(caught.value).startswith(f"net '{net}': options.")
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NETS)
def test_the_smallest_canvas_that_is_named_works_and_the_next_smaller_does_not(name: str) -> None:
    """Config allows canvases from 8 px on: a net takes that, or says from which on, and means it."""
    least, refusal = 8, refused(name, canvas=8)
    if refusal is not None:
        found = re.fullmatch(rf"net '{name}': canvas 8 is too small; fix: canvas: (\d+) or more", refusal)
        assert found, refusal
        least = int(found[1])
        assert refused(name, canvas=least - 1) is not None
    with torch.device("meta"), torch.no_grad():
        assert make(name, canvas=least).eval()(torch.zeros(1, 1, least, least)).shape == (1, 10)


def write_goldens() -> None:
    rows = []
    for name in NETS:
        for channels in CHANNELS:
            for canvas in CANVASES:
                if refused(name, channels=channels, canvas=canvas) is None:
                    rows.append((name, channels, canvas, *measured(name, channels, canvas)))
    pd.DataFrame(rows, columns=COLUMNS).to_csv(GOLDENS, index=False, lineterminator="\n")


if __name__ == "__main__":
    write_goldens()
