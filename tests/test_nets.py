"""Nets: the contract, parameter counts, gradients, symmetries, and the errors of the registry."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision import models

from pipeline.errors import UserError
from pipeline.nets.deepsea import default_blocks
from pipeline.nets.net import Net
from pipeline.nets.registry import NETS, build, module_of

ZOO = "torchvision:resnet18"
TINY = {                                                              # options that keep a test of learning fast
    "lenet5": {},
    "deepsea": {"width": 8, "dense": 32, "dropout": 0.0},
    "resnet18": {"width": 8},
    "densenet": {"growth": 16, "blocks": [2, 2, 2]},
    "logistic_regression": {},
    "mlp": {"width": 64},
    "torchvision:shufflenet_v2_x0_5": {"small_stem": True},
}
PARAMETERS = {                                                        # 10 classes, grey, 32 px
    "lenet5": 82_826,
    "deepsea": 1_027_498,
    "resnet18": 11_172_810,
    "densenet": 303_562,
    "logistic_regression": 10_250,
    "mlp": 1_059_850,
}


def make(net: str, *, n_classes: int = 10, channels: int = 1, canvas: int = 32, **options: object) -> Net:
    torch.manual_seed(0)
    return build(net, options=options, n_classes=n_classes, channels=channels, canvas=canvas)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("canvas", [24, 32, 48, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*NETS, ZOO])
def test_every_net_keeps_the_contract(name: str, channels: int, canvas: int) -> None:
    net = make(name, n_classes=7, channels=channels, canvas=canvas).eval()
    x = torch.rand(2, channels, canvas, canvas).to(memory_format=torch.channels_last)
    with torch.no_grad():
        logits, features = net.forward_both(x)
        assert logits.shape == (2, 7)
        assert features.shape == (2, net.feature_width)
        torch.testing.assert_close(net(x), logits)
        torch.testing.assert_close(net.head(net.embed(x)), logits)
    assert isinstance(net.head, torch.nn.Linear)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name: str) -> None:
    assert count(make(name)) == PARAMETERS[name]


def test_every_net_has_a_parameter_count() -> None:
    assert set(PARAMETERS) == set(NETS)


def test_lenet5_at_28_px_has_the_papers_parameters() -> None:
    assert count(make("lenet5", canvas=28)) == 61_706


def test_densenet_bc_100_has_the_papers_parameters() -> None:
    net = make("densenet", channels=3, growth=12, blocks=[16, 16, 16], stem_stride=1)
    assert count(net) == 769_162                                      # "0.8M", Huang et al. 2017, table 2


def test_resnet18_has_torchvisions_parameters() -> None:
    theirs = models.resnet18(weights=None)
    stem = 64 * 3 * 7 * 7 - 64 * 3 * 3 * 3                            # their 7x7 first convolution against our 3x3
    assert count(make("resnet18", n_classes=1000, channels=3, width=64)) == count(theirs) - stem
    assert count(make(ZOO, n_classes=1000, channels=3, small_stem=True)) == count(theirs) - stem


def test_resnet18_computes_what_torchvisions_does() -> None:
    ours, theirs = make("resnet18", channels=3, width=64).eval(), make(ZOO, channels=3, small_stem=True).eval()
    state = dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    ours.load_state_dict(state)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("name", TINY)
def test_a_batch_is_learnt_and_every_parameter_takes_part(name: str) -> None:
    net = make(name, canvas=24, **TINY[name]).train()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 1, 24, 24, generator=generator)
    y = torch.randint(10, (16,), generator=generator)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    moved = dict.fromkeys(dict(net.named_parameters()), False)
    for _ in range(40):
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None, key
            moved[key] |= bool(parameter.grad.abs().max() > 0)
        optimiser.step()
    assert [key for key, some in moved.items() if not some] == []
    assert loss.item() < 0.1
    assert (net(x).argmax(dim=1) == y).all()


def test_cyclic_deepsea_does_not_see_quarter_turns() -> None:
    net = make("deepsea", canvas=24, width=8, dense=32, cyclic=True).eval()
    plain = make("deepsea", canvas=24, width=8, dense=32).eval()
    x = torch.rand(3, 1, 24, 24)
    with torch.no_grad():
        for k in (1, 2, 3):
            turned = torch.rot90(x, k, (2, 3))
            torch.testing.assert_close(net.embed(turned), net.embed(x))
            assert not torch.allclose(plain.embed(turned), plain.embed(x), atol=1e-3)


def test_cyclic_pooling_is_the_root_mean_square_over_the_turns() -> None:
    pooled = make("deepsea", canvas=24, width=4, dense=8, cyclic=True).eval().trunk[0]
    x = torch.rand(2, 1, 24, 24)
    with torch.no_grad():
        each = np.stack([pooled.inner(torch.rot90(x, k, (2, 3))).numpy() for k in range(4)])
        np.testing.assert_allclose(pooled(x).numpy(), np.sqrt((each**2).mean(axis=0)), rtol=1e-4, atol=1e-4)


def test_dropout_is_before_the_head_and_not_in_the_features() -> None:
    net = make("mlp", width=64, dropout=0.9).train()
    x = torch.rand(4, 1, 32, 32)
    torch.testing.assert_close(net.embed(x), net.embed(x))
    assert not torch.equal(net(x), net(x))


def test_residual_blocks_start_as_their_shortcut() -> None:
    net = make("resnet18", width=8).eval()
    block, x = net.trunk[3], torch.rand(2, 8, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(("canvas", "blocks"), [(8, (2,)), (24, (2, 2, 3)), (40, (2, 2, 3)), (95, (2, 2, 3, 3, 3))])
def test_deepsea_fits_its_depth_to_the_canvas(canvas: int, blocks: tuple[int, ...]) -> None:
    assert default_blocks(canvas) == blocks


@pytest.mark.parametrize("name", [*NETS, ZOO])
def test_the_seed_decides_the_weights(name: str) -> None:
    first, again = make(name, canvas=12).state_dict(), make(name, canvas=12).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", [*NETS, ZOO, "torchvision:regnet_y_400mf"])
def test_builds_without_memory_for_a_dry_check(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        net = make(name).eval()
        assert net(torch.zeros(1, 1, 32, 32)).shape == (1, 10)
    assert {p.device.type for p in net.parameters()} == {"meta"}


@pytest.mark.parametrize(
    "name",
    ["squeezenet1_1", "vgg11", "mobilenet_v3_small", "densenet121", "googlenet", "swin_t", "vit_b_32", "convnext_tiny",
     "efficientnet_b0", "mnasnet0_5", "alexnet"],
)
def test_torchvision_families_give_logits_and_features(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        net = make(f"torchvision:{name}", n_classes=7, canvas=64).eval()
        logits, features = net.forward_both(torch.zeros(2, 1, 64, 64))
    assert logits.shape == (2, 7)
    assert features.shape == (2, net.feature_width)


def test_small_stem_keeps_the_resolution() -> None:
    small, plain = make(ZOO, small_stem=True).trunk, make(ZOO).trunk
    assert (small.conv1.kernel_size, small.conv1.stride, type(small.maxpool)) == ((3, 3), (1, 1), torch.nn.Identity)
    assert (plain.conv1.kernel_size, plain.conv1.stride) == ((7, 7), (2, 2))
    assert make("torchvision:vgg11", channels=3, canvas=32).trunk.features[0].in_channels == 3


def test_registry_is_lazy() -> None:
    code = ("import sys; from pipeline.nets import registry; registry.module_of('resnet18'); "
            "print([m for m in sys.modules if m == 'torch' or m.startswith('pipeline.nets.')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['pipeline.nets.registry']"


def test_building_one_net_imports_no_other_family() -> None:
    code = ("import sys; from pipeline.nets import registry; "
            "registry.build('lenet5', options={}, n_classes=2, channels=1, canvas=28); "
            "print(sorted(m for m in sys.modules if m.startswith('pipeline.nets.')), 'torchvision' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['pipeline.nets.lenet5', 'pipeline.nets.net', 'pipeline.nets.registry'] False"


def test_module_of() -> None:
    assert module_of("resnet18") == "pipeline.nets.resnet"
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
    ("net", "canvas", "options", "parts"),
    [
        ("torchvision:resnet81", 32, {}, ["unknown net 'torchvision:resnet81'", "did you mean 'resnet18'?"]),
        ("resnet18", 32, {"wdith": 4}, ["options.wdith: unknown", "allowed: 'width', 'dropout'", "mean 'width'?"]),
        ("resnet18", 32, {"canvas": 4}, ["options.canvas: unknown option"]),
        ("logistic_regression", 32, {"width": 4}, ["options.width: unknown option; it has no options"]),
        ("resnet18", 32, {"width": "wide"}, ["options.width", "valid integer", "found 'wide'"]),
        ("resnet18", 32, {"width": 0}, ["options.width", "greater than or equal to 1", "found 0"]),
        ("mlp", 32, {"dropout": 1.0}, ["options.dropout", "less than 1", "found 1.0"]),
        ("deepsea", 32, {"blocks": []}, ["options.blocks", "at least 1 item"]),
        ("deepsea", 32, {"cyclic": "yes please"}, ["options.cyclic", "valid boolean"]),
        ("deepsea", 32, {"blocks": [2] * 6}, ["canvas 32 is too small", "64 or more"]),
        ("lenet5", 11, {}, ["net 'lenet5': canvas 11 is too small; fix: canvas: 12 or more"]),
        ("densenet", 8, {"blocks": [2, 2, 2, 2, 2]}, ["canvas 8 is too small", "16 or more"]),
        ("torchvision:inception_v3", 32, {}, ["'torchvision:inception_v3' cannot take a canvas of 32 px"]),
        ("torchvision:vit_b_16", 40, {}, ["'torchvision:vit_b_16' cannot take a canvas of 40 px"]),
    ],
)
def test_bad_options_are_one_clear_line(net: str, canvas: int, options: dict[str, object], parts: list[str]) -> None:
    with torch.device("meta"), pytest.raises(UserError) as caught:
        build(net, options=options, n_classes=2, channels=1, canvas=canvas)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("net", ["lenet5", "deepsea", "resnet18", "densenet"])
def test_the_smallest_canvas_that_is_allowed_works(net: str) -> None:
    canvas = 12 if net == "lenet5" else 8
    assert make(net, canvas=canvas).eval()(torch.rand(1, 1, canvas, canvas)).shape == (1, 10)
