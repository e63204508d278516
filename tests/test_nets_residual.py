"""Residual, dense and efficient families: torchvision and the papers as oracles, stems, shortcuts, stochastic depth."""

from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.ops import StochasticDepth

from pipeline.errors import UserError
from pipeline.nets.cifar_resnet import PlainShortcutBlock
from pipeline.nets.cost import cost, parameters
from pipeline.nets.efficientnet import InvertedBottleneck
from pipeline.nets.families import NETS
from pipeline.nets.net import Net
from pipeline.nets.registry import build
from pipeline.nets.resnet import BasicBlock, Bottleneck

FULL = {                                                              # options that give torchvision's stem at 64 px
    "resnet18": {"stem": "full"},
    "resnet34": {"stem": "full"},
    "resnet50": {"stem": "full"},
    "resnet101": {"stem": "full"},
    "densenet121": {"stem": "full"},
    "efficientnet_v2_s": {"stem_stride": 2},
}
NARROW = {
    "resnet18": {"width": 8},
    "resnet50": {"width": 4},
    "resnet20": {"width": 4},
    "densenet": {"growth": 4, "blocks": [2, 2, 2]},
    "efficientnet_atto": {"width": 8},
}
FAMILIES = ("resnet", "cifar_resnet", "densenet", "efficientnet")
OURS = [name for name, builder in NETS.items() if builder.split(":")[1] in FAMILIES]
BLOCKS = [
    lambda skip: BasicBlock(6, 6, skip=skip),
    lambda skip: Bottleneck(8, 8, skip=skip),
    lambda skip: PlainShortcutBlock(6, 6, skip=skip),
    lambda skip: InvertedBottleneck(8, 8, ratio=4, stride=1, fused=True, skip=skip),
    lambda skip: InvertedBottleneck(8, 8, ratio=4, stride=1, fused=False, skip=skip),
]


def make(net: str, *, n_classes: int = 10, channels: int = 3, canvas: int = 32, **options: object) -> Net:
    torch.manual_seed(0)
    return build(net, options=options, n_classes=n_classes, channels=channels, canvas=canvas)


def unsettle_norms(module: nn.Module) -> None:
    """Gives every batch norm other numbers than it starts with, so that swapped layers show."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.running_var):
                tensor.data.uniform_(0.7, 1.1, generator=generator)
            for tensor in (norm.bias, norm.running_mean):
                tensor.data.uniform_(-0.2, 0.2, generator=generator)


@pytest.mark.parametrize("name", FULL)
def test_parameters_and_flops_are_those_torchvision_publishes(name: str) -> None:
    published = models.get_model_weights(name).DEFAULT.meta
    canvas = 384 if name == "efficientnet_v2_s" else 224
    found, flops = cost(name, options={}, n_classes=1000, channels=3, canvas=canvas)
    assert found == published["num_params"]
    assert flops / 2e9 == pytest.approx(published["_ops"], abs=0.006)   # theirs: multiply-adds in 10^9, 3 decimals


@pytest.mark.parametrize("name", FULL)
def test_outputs_are_torchvisions(name: str) -> None:
    torch.manual_seed(2)
    theirs = models.get_model(name, weights=None, num_classes=10).eval()
    unsettle_norms(theirs)
    ours = make(name, canvas=64, **FULL[name]).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "n", "published"),
    [("resnet20", 3, 0.27), ("resnet32", 5, 0.46), ("resnet44", 7, 0.66), ("resnet56", 9, 0.85),
     ("resnet110", 18, 1.7)],
)
def test_cifar_resnets_have_the_papers_layers_and_parameters(name: str, n: int, published: float) -> None:
    with torch.device("meta"):
        net = make(name)
    stage = [18 * c * c * n + 4 * c * n for c in (16, 32, 64)]         # two 3x3 convolutions and two norms per block
    fewer = 9 * 32 * (32 - 16) + 9 * 64 * (64 - 32)                   # the first block of a stage reads half of them
    assert parameters(net) == 27 * 16 + 32 + sum(stage) - fewer + 64 * 10 + 10
    assert parameters(net) / 1e6 == pytest.approx(published, abs=0.03 if published == 1.7 else 0.005)
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules()) == 6 * n + 2 == int(name[6:])


def test_densenet_bc_100_has_the_papers_parameters() -> None:
    net = make("densenet", growth=12, blocks=[16, 16, 16], stem_stride=1)
    assert parameters(net) == 769_162                                 # "0.8M", Huang et al. 2017, table 2


def test_variants_differ_by_what_their_row_says() -> None:
    given = make("densenet", growth=32, blocks=[6, 12, 24, 16])
    with torch.device("meta"):
        assert parameters(make("densenet121")) == parameters(given)
        assert parameters(make("efficientnet_pico", width=24)) == parameters(make("efficientnet_pico"))
        assert make("efficientnet_atto", width=8).feature_width == 256
        assert make("resnet34", width=12).feature_width == 96
        assert make("resnet50", width=12).feature_width == 384


@pytest.mark.parametrize(
    ("name", "small", "full"),
    [("resnet18", 95, 96), ("resnet50", 95, 96), ("densenet121", 95, 96), ("densenet", 224, None),
     ("resnet110", 224, None)],
)
def test_the_full_stem_starts_at_96_px(name: str, small: int, full: int | None) -> None:
    with torch.device("meta"):
        assert make(name, canvas=small).trunk[0].kernel_size == (3, 3)
        assert not isinstance(make(name, canvas=small).trunk[3], nn.MaxPool2d)
        if full:
            trunk = make(name, canvas=full).trunk
            assert (trunk[0].kernel_size, trunk[0].stride) == ((7, 7), (2, 2))
            assert isinstance(trunk[3], nn.MaxPool2d)


@pytest.mark.parametrize(
    ("name", "canvas", "side"),
    [("resnet18", 32, 4), ("resnet18", 95, 12), ("resnet18", 96, 3), ("resnet20", 33, 9), ("densenet", 31, 7),
     ("densenet", 32, 4), ("densenet121", 64, 4), ("densenet121", 96, 3), ("efficientnet_atto", 16, 2),
     ("efficientnet_atto", 47, 6), ("efficientnet_atto", 48, 3), ("efficientnet_pico", 64, 4),
     ("efficientnet_v2_s", 95, 6), ("efficientnet_v2_s", 96, 3), ("efficientnet_v2_s", 224, 7)],
)
def test_side_of_the_last_map(name: str, canvas: int, side: int) -> None:
    with torch.device("meta"), torch.no_grad():
        trunk = make(name, canvas=canvas).eval().trunk
        assert trunk[:-1](torch.zeros(1, 3, canvas, canvas)).shape[2:] == (side, side)


@pytest.mark.parametrize("name", NARROW)
def test_features_are_the_pooled_last_map(name: str) -> None:
    x = torch.rand(2, 3, 24, 24)
    for pool, expected in {
        "average": lambda y: y.mean(dim=(2, 3)),
        "max": lambda y: y.amax(dim=(2, 3)),
        "rms": lambda y: (y.square().mean(dim=(2, 3)) + 1e-8).sqrt(),
        "gem": lambda y: y.clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3),
    }.items():
        net = make(name, canvas=24, pool=pool, **NARROW[name]).eval()
        with torch.no_grad():
            torch.testing.assert_close(net.embed(x), expected(net.trunk[:-1](x)))


def test_residual_blocks_start_as_their_shortcut() -> None:
    x = torch.rand(2, 8, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(make("resnet18", width=8).eval().trunk[3](x), x)
        torch.testing.assert_close(make("resnet20", width=8).eval().trunk[3](x), x)
        first = make("resnet50", width=8).eval().trunk[3]             # 8 to 32 channels: through a projection
        torch.testing.assert_close(first(x), F.relu(first.shortcut(x)))


def test_option_a_takes_every_second_pixel_and_adds_empty_channels() -> None:
    block = PlainShortcutBlock(2, 5)
    x = torch.rand(3, 2, 5, 5).to(memory_format=torch.channels_last)
    expected = torch.zeros(3, 5, 3, 3)
    expected[:, :2] = x[:, :, [0, 2, 4]][:, :, :, [0, 2, 4]]
    assert torch.equal(block.shortcut(x), expected)
    assert block.shortcut(x).is_contiguous(memory_format=torch.channels_last)
    assert block(x).shape == (3, 5, 3, 3)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet20", "efficientnet_atto"])
def test_stochastic_depth_falls_linearly_towards_the_first_block(name: str) -> None:
    net = make(name, stochastic_depth=0.4, **NARROW[name])
    chances = [module.p for module in net.modules() if isinstance(module, StochasticDepth)]
    last = len(chances)
    assert chances == pytest.approx([0.4 * (i + 1) / last for i in range(last)])
    plain = make(name, **NARROW[name])
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(net.eval()(x), plain.eval()(x))                # same weights, nothing skipped in prediction


@pytest.mark.parametrize("block", BLOCKS)
def test_a_skipped_image_keeps_its_shortcut_and_the_others_are_scaled_up(block: Callable[[float], nn.Module]) -> None:
    torch.manual_seed(0)
    skipping = block(0.5).train()
    seen: list[torch.Tensor] = []
    skipping.skip.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x = torch.rand(32, next(skipping.parameters()).shape[1], 4, 4)
    with torch.no_grad():
        y = skipping(x)
    kept = x + 2 * seen[0] if isinstance(skipping, InvertedBottleneck) else F.relu(x + 2 * seen[0])
    as_kept = [torch.allclose(a, b, atol=1e-5) for a, b in zip(y, kept, strict=True)]
    as_skipped = [torch.allclose(a, b, atol=1e-5) for a, b in zip(y, x, strict=True)]
    assert [a != b for a, b in zip(as_kept, as_skipped, strict=True)] == [True] * 32
    assert 6 <= sum(as_kept) <= 26                                    # 32 throws of a coin: outside 1 in 9,000


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("name", NARROW)
def test_trains_in_bf16_channels_last(name: str, channels: int) -> None:
    options = dict(NARROW[name]) | ({} if name == "densenet" else {"stochastic_depth": 0.2})
    net = make(name, channels=channels, canvas=20, pool="gem", **options).to(memory_format=torch.channels_last).train()
    x = torch.rand(4, channels, 20, 20).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(x)
    F.cross_entropy(logits.float(), torch.tensor([0, 1, 2, 3])).backward()
    assert logits.shape == (4, 10)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("canvas", [8, 32, 96])
@pytest.mark.parametrize("name", OURS)
def test_builds_and_trains_without_memory(name: str, canvas: int) -> None:
    options = {} if name.startswith("densenet") else {"stochastic_depth": 0.1}
    with torch.device("meta"):
        net = make(name, channels=1, canvas=canvas, pool="rms", **options).train()
        logits, features = net.forward_both(torch.zeros(2, 1, canvas, canvas))
    assert logits.shape == (2, 10)
    assert features.shape == (2, net.feature_width)


@pytest.mark.parametrize(
    ("name", "canvas", "options", "parts"),
    [
        ("densenet", 8, {"blocks": [2, 2, 2, 2, 2]}, ["net 'densenet': canvas 8 is too small", "16 or more"]),
        ("densenet121", 31, {"stem": "full"}, ["net 'densenet121': canvas 31 is too small", "32 or more"]),
        ("densenet121", 96, {"stem_stride": 1}, ["options.stem_stride: 1", "is full; fix: stem: small"]),
        ("resnet50", 32, {"stem": "large"}, ["options.stem", "'small' or 'full'", "found 'large'"]),
        ("resnet110", 32, {"pool": "mean"}, ["options.pool", "'average'", "found 'mean'"]),
        ("resnet18", 32, {"stochastic_depth": 1.0}, ["options.stochastic_depth", "less than 1"]),
        ("densenet", 32, {"stochastic_depth": 0.1}, ["options.stochastic_depth: unknown option", "'stem_stride'"]),
    ],
)
def test_bad_options_are_one_clear_line(name: str, canvas: int, options: dict[str, object], parts: list[str]) -> None:
    with torch.device("meta"), pytest.raises(UserError) as caught:
        make(name, canvas=canvas, **options)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_the_efficient_net_learns_digits_at_16_px_in_three_epochs() -> None:
    digits = load_digits()
    images = F.interpolate(torch.tensor(digits.images[:, None] / 8 - 1, dtype=torch.float32), size=(16, 16))
    labels = torch.tensor(digits.target)
    net = make("efficientnet_atto", channels=1, canvas=16, width=8)
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for rows in torch.randperm(1200, generator=generator).split(60):
            optimiser.zero_grad()
            F.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimiser.step()
    with torch.no_grad():
        right = net.eval()(images[1200:]).argmax(dim=1) == labels[1200:]
    assert right.float().mean() > 0.85
