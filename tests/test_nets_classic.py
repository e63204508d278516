"""The classic families against torchvision, the papers' numbers, and counts by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from pipeline.errors import UserError
from pipeline.nets.cost import cost, parameters
from pipeline.nets.inception import Branches
from pipeline.nets.net import Net
from pipeline.nets.registry import build, module_of

VGGS = ("vgg11", "vgg13", "vgg16", "vgg19")
NETS = ("lenet5", "cats_and_dogs", "alexnet", *VGGS, "vgg16_small", "inception_v1", "inception_v3")
LIGHT: dict[str, dict[str, object]] = {                               # options that keep a test fast
    "lenet5": {},
    "cats_and_dogs": {"dropout": 0.0},
    "alexnet": {"dense": 32, "dropout": 0.0},
    **{name: {"width": 8, "dense": 32, "dropout": 0.0} for name in (*VGGS, "vgg16_small")},
    "inception_v1": {"width": 8, "dropout": 0.0},
    "inception_v3": {"width": 8, "dropout": 0.0},
}
SMALLEST = {"lenet5": 12, "cats_and_dogs": 22, "alexnet": 15, **dict.fromkeys(VGGS, 32), "vgg16_small": 16,
            "inception_v1": 4, "inception_v3": 15}
THEIRS: dict[str, tuple[Callable[..., nn.Module], dict[str, object]]] = {   # torchvision's, and our options for it
    "alexnet": (models.alexnet, {}),
    "vgg11": (models.vgg11, {"norm": False}),
    "vgg13": (models.vgg13, {"norm": False}),
    "vgg16": (models.vgg16, {"norm": False}),
    "vgg19": (models.vgg19, {"norm": False}),
    "vgg11_bn": (models.vgg11_bn, {}),
    "vgg13_bn": (models.vgg13_bn, {}),
    "vgg16_bn": (models.vgg16_bn, {}),
    "vgg19_bn": (models.vgg19_bn, {}),
    "inception_v1": (models.googlenet, {}),
    "inception_v3": (models.inception_v3, {}),
}


def make(name: str, *, n_classes: int = 7, channels: int = 3, canvas: int = 32, **options: object) -> Net:
    torch.manual_seed(0)
    return build(name, options=options, n_classes=n_classes, channels=channels, canvas=canvas)


def meta(name: str, **options: object) -> Net:
    with torch.device("meta"):
        return make(name, **options)  


def torchvisions(name: str) -> nn.Module:
    builder, _ = THEIRS[name]
    auxiliary = {"aux_logits": False} if name.startswith("inception") else {}
    with torch.device("meta"):
        return builder(weights=None, init_weights=False, **auxiliary) if auxiliary else builder(weights=None)


def drawn(like: Tensor, *, generator: torch.Generator) -> Tensor:
    """A value for one entry of a state dict: He's bound for weights, all others around one."""
    if like.ndim > 1:
        bound = (6 / like[0].numel()) ** 0.5
        return torch.empty(like.shape).uniform_(-bound, bound, generator=generator)
    if like.is_floating_point():
        return torch.empty(like.shape).uniform_(0.5, 1.5, generator=generator)
    return torch.zeros(like.shape, dtype=like.dtype)


@pytest.mark.parametrize("name", THEIRS)
def test_parameter_counts_are_torchvisions(name: str) -> None:
    ours = meta(name.removesuffix("_bn"), n_classes=1000, canvas=224, **THEIRS[name][1])
    assert parameters(ours) == parameters(torchvisions(name))


@pytest.mark.parametrize(("name", "canvas"), [
    ("alexnet", 224), ("alexnet", 300), ("vgg11", 224), ("vgg16", 224), ("vgg16_bn", 224), ("inception_v1", 128),
    ("inception_v1", 150), ("inception_v3", 139),
])
def test_outputs_are_torchvisions(name: str, canvas: int) -> None:
    ours = meta(name.removesuffix("_bn"), n_classes=1000, canvas=canvas, **THEIRS[name][1]).eval()
    theirs = torchvisions(name).eval()
    generator = torch.Generator().manual_seed(0)
    state = {key: drawn(value, generator=generator) for key, value in theirs.state_dict().items()}
    theirs.load_state_dict(state, assign=True)
    ours.load_state_dict(dict(zip(ours.state_dict(), state.values(), strict=True)), assign=True)
    x = torch.rand(1, 3, canvas, canvas, generator=generator)
    with torch.no_grad():
        expected = theirs(x)
        torch.testing.assert_close(ours(x) / expected.std(), expected / expected.std(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "count"), [                         # the papers' numbers, or torchvision's pages
    ("alexnet", 61_100_840), ("vgg16", 138_365_992), ("inception_v1", 6_624_904), ("inception_v3", 23_834_568),
])
def test_parameters_at_full_size(name: str, count: int) -> None:
    assert parameters(meta(name, n_classes=1000, canvas=224)) == count


def test_cats_and_dogs_has_the_blogs_parameters() -> None:
    assert parameters(meta("cats_and_dogs", n_classes=1, canvas=150)) == 1_212_513
    assert [tuple(m.weight.shape) for m in meta("cats_and_dogs").trunk if isinstance(m, nn.Conv2d)] == [
        (32, 3, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3)]


@pytest.mark.parametrize(("canvas", "side"), [(32, 2), (48, 3), (64, 4), (96, 6), (112, 7), (224, 7)])
def test_vgg16_small_counted_by_hand(canvas: int, side: int) -> None:
    shapes = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512), (512, 512),
              (512, 512)]
    convolutions = sum(9 * inner * outer + 3 * outer for inner, outer in shapes)      # weights, bias, scale and shift
    dense = 512 * side**2 * 4096 + 4096 + 4096**2 + 4096 + 4096 * 200 + 200
    net = meta("vgg16_small", n_classes=200, canvas=canvas)
    assert parameters(net) == convolutions + dense
    assert sum(isinstance(m, nn.MaxPool2d) for m in net.trunk) == 4


@pytest.mark.parametrize(("canvas", "features"), [(32, 512), (64, 2048), (96, 4608), (224, 25088), (256, 25088)])
def test_vgg_flattens_the_map_as_it_is_up_to_7_px(canvas: int, features: int) -> None:
    net = meta("vgg16", canvas=canvas)
    assert next(m for m in net.trunk if isinstance(m, nn.Linear)).in_features == features


@pytest.mark.parametrize("pool", ["average", "max", "rms", "gem"])
def test_vgg_pools_globally_on_request(pool: str) -> None:
    net = make("vgg16_small", canvas=64, pool=pool, width=4, dense=8).eval()
    dense = next(i for i, m in enumerate(net.trunk) if isinstance(m, nn.Linear))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = net.trunk[:dense - 2](x)                               # (2, 32, 4, 4)
        pooled = net.trunk[dense - 2:dense](maps)
    assert maps.shape == (2, 32, 4, 4)
    expected = {"average": maps.mean(dim=(2, 3)), "max": maps.amax(dim=(2, 3)),
                "rms": maps.square().mean(dim=(2, 3)).sqrt(), "gem": maps.pow(3).mean(dim=(2, 3)).pow(1 / 3)}[pool]
    torch.testing.assert_close(pooled, expected, rtol=1e-3, atol=1e-3)


def test_dropout_follows_both_dense_layers() -> None:
    for name in ("alexnet", "vgg11"):
        net = make(name, dense=32, dropout=0.3)
        assert [type(m) for m in list(net.trunk)[-5:]] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU]
        assert (net.trunk[-3].p, net.dropout.p) == (0.3, 0.3)


def test_norm_is_on_in_vgg_and_comes_with_alexnets_small_stem() -> None:
    def norms(name: str, **options: object) -> int:
        return sum(isinstance(m, nn.BatchNorm2d) for m in meta(name, **options).modules())

    assert (norms("vgg16"), norms("vgg16", norm=False)) == (13, 0)
    assert (norms("alexnet", canvas=127), norms("alexnet", canvas=128)) == (5, 0)
    assert (norms("alexnet", canvas=64, norm=False), norms("alexnet", canvas=224, norm=True)) == (0, 5)


@pytest.mark.parametrize(("name", "canvas", "options", "kernel", "stride"), [
    ("alexnet", 32, {}, 5, 1), ("alexnet", 63, {}, 5, 1), ("alexnet", 64, {}, 5, 2), ("alexnet", 127, {}, 5, 2),
    ("alexnet", 128, {}, 11, 4), ("alexnet", 224, {"small_stem": True}, 5, 2),
    ("alexnet", 64, {"small_stem": False}, 11, 4),
    ("inception_v1", 32, {}, 3, 1), ("inception_v1", 64, {}, 3, 2), ("inception_v1", 128, {}, 7, 2),
    ("inception_v1", 224, {"small_stem": True}, 3, 2), ("inception_v1", 32, {"small_stem": False}, 7, 2),
    ("inception_v3", 32, {}, 3, 1), ("inception_v3", 96, {}, 3, 2), ("inception_v3", 128, {}, 3, 2),
])
def test_stems_fit_the_canvas(name: str, canvas: int, options: dict[str, object], kernel: int, stride: int) -> None:
    first = next(m for m in meta(name, canvas=canvas, **options).modules() if isinstance(m, nn.Conv2d))
    assert (first.kernel_size, first.stride) == ((kernel, kernel), (stride, stride))


@pytest.mark.parametrize(("name", "canvas", "sides"), [
    ("inception_v1", 32, [16, 16, 8, 8, 8, 8, 8, 4, 4]),
    ("inception_v1", 64, [16, 16, 8, 8, 8, 8, 8, 4, 4]),
    ("inception_v1", 96, [24, 24, 12, 12, 12, 12, 12, 6, 6]),
    ("inception_v1", 224, [28, 28, 14, 14, 14, 14, 14, 7, 7]),        # Going deeper, table 1
    ("inception_v3", 32, [15, 15, 15, 7, 7, 7, 7, 7, 3, 3, 3]),
    ("inception_v3", 96, [23, 23, 23, 11, 11, 11, 11, 11, 5, 5, 5]),
    ("inception_v3", 299, [35, 35, 35, 17, 17, 17, 17, 17, 8, 8, 8]),   # Rethinking, table 1
])
def test_inceptions_blocks_see_these_sides(name: str, canvas: int, sides: list[int]) -> None:
    net, seen = meta(name, canvas=canvas).eval(), []
    for module in net.trunk[0]:
        if isinstance(module, Branches):
            module.register_forward_hook(lambda _, __, y: seen.append(y.shape[-1]))
    with torch.no_grad():
        net(torch.zeros(1, 3, canvas, canvas, device="meta"))
    assert seen == sides


@pytest.mark.parametrize(("name", "width", "features"), [
    ("inception_v1", 64, 1024), ("inception_v1", 32, 512), ("inception_v1", 8, 128), ("inception_v1", 128, 2048),
    ("inception_v3", 64, 2048), ("inception_v3", 32, 1024),
])
def test_inceptions_width_scales_the_features(name: str, width: int, features: int) -> None:
    net = meta(name, width=width)
    assert net.feature_width == features
    assert {m.out_channels % 8 for m in net.modules() if isinstance(m, nn.Conv2d)} == {0}


def test_branches_are_joined_by_channel() -> None:
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(Branches((nn.Identity(), nn.ReLU(), nn.MaxPool2d(1)))(-x),
                               torch.cat([-x, torch.zeros_like(x), -x], dim=1))


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("name", NETS)
def test_grey_colour_and_stacked_scales_at_every_size(name: str, channels: int) -> None:
    for canvas in (32, 64, 96, 224):
        net = meta(name, channels=channels, canvas=canvas).eval()
        with torch.no_grad():
            logits, features = net.forward_both(torch.zeros(2, channels, canvas, canvas, device="meta"))
        assert (logits.shape, features.shape) == ((2, 7), (2, net.feature_width))


@pytest.mark.parametrize("name", NETS)
def test_channels_last_and_bf16_change_little(name: str) -> None:
    net = make(name, canvas=48, **LIGHT[name]).eval()
    x = torch.rand(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(x)
        last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            low = net(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-3, atol=1e-4)
    assert ((low.float() - expected).norm() / expected.norm()).item() < 0.05


@pytest.mark.parametrize("name", NETS)
def test_the_smallest_canvas_that_is_allowed_works(name: str) -> None:
    canvas = SMALLEST[name]
    net = make(name, canvas=canvas, **LIGHT[name]).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, canvas, canvas)).shape == (1, 7)
    with pytest.raises(UserError, match=f"net '{name}': canvas {canvas - 1} is too small; fix: canvas: {canvas} or"):
        make(name, canvas=canvas - 1)


@pytest.mark.parametrize(("name", "canvas"), [("alexnet", 63), ("inception_v1", 15), ("inception_v3", 75)])
def test_the_smallest_canvas_of_the_full_stem(name: str, canvas: int) -> None:
    net = meta(name, canvas=canvas, small_stem=False).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, canvas, canvas, device="meta")).shape == (1, 7)
    with pytest.raises(UserError, match=f"canvas {canvas - 1} is too small"):
        meta(name, canvas=canvas - 1, small_stem=False)


@pytest.mark.parametrize("name", NETS)
def test_a_batch_is_learnt_and_every_parameter_takes_part(name: str) -> None:
    net = make(name, canvas=32, **LIGHT[name]).train()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, 32, 32, generator=generator)
    y = torch.arange(8) % 7
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
        if loss.item() < 0.02:
            break
    assert [key for key, some in moved.items() if not some] == []
    assert loss.item() < 0.1
    assert (net(x).argmax(dim=1) == y).all()


@pytest.mark.parametrize("name", NETS)
def test_variance_neither_dies_nor_bursts_at_the_start(name: str) -> None:
    net = make(name, canvas=64, **LIGHT[name]).train()
    features = net.embed(torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert 0.02 < features.std().item() < 5


@pytest.mark.parametrize("name", NETS)
def test_the_seed_decides_the_weights(name: str) -> None:
    first, again = make(name, **LIGHT[name]).state_dict(), make(name, **LIGHT[name]).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_flops_at_full_size() -> None:
    flops = {name: cost(name, options={}, n_classes=1000, channels=3, canvas=canvas)[1] / 2e9
             for name, canvas in [("alexnet", 224), ("vgg16", 224), ("inception_v1", 224), ("inception_v3", 299)]}
    assert {name: round(value, 2) for name, value in flops.items()} == {   # torchvision's pages, in multiply-adds
        "alexnet": 0.71, "vgg16": 15.47, "inception_v1": 1.50, "inception_v3": 5.71}


def test_modules_are_found_without_being_imported() -> None:
    assert {name: module_of(name) for name in ("cats_and_dogs", "vgg16_small", "inception_v3", "alexnet")} == {
        "cats_and_dogs": "pipeline.nets.cats_and_dogs", "vgg16_small": "pipeline.nets.vgg",
        "inception_v3": "pipeline.nets.inception", "alexnet": "pipeline.nets.alexnet"}


@pytest.mark.parametrize(("name", "options", "part"), [
    ("vgg16", {"pool": "median"}, "options.pool"),
    ("vgg16", {"dropout": 1.0}, "options.dropout: Input should be less than 1"),
    ("inception_v1", {"small_stem": "yes"}, "options.small_stem: Input should be a valid boolean"),
    ("alexnet", {"width": 8}, "options.width: unknown option; allowed: 'small_stem', 'norm', 'dense', 'dropout'"),
])
def test_bad_options_are_one_clear_line(name: str, options: dict[str, object], part: str) -> None:
    with pytest.raises(UserError) as caught:
        meta(name, **options)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
