"""Nets of torchvision and timm: fitted stems, options, and what the zoos say about published weights."""

import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from pipeline.errors import UserError
from pipeline.nets import timm_zoo, torchvision_zoo
from pipeline.nets.net import Net
from pipeline.nets.registry import build, module_of
from pipeline.nets.stem import first_conv, fit_channels, fit_stem

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make(net: str, *, channels: int = 3, canvas: int = 64, **options: object) -> Net:
    torch.manual_seed(0)
    return build(net, options=options, n_classes=7, channels=channels, canvas=canvas)


def convolved(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x.double(), weight.double())


@pytest.mark.parametrize(("theirs", "ours"), [(3, 1), (3, 3), (3, 6), (3, 2), (1, 1), (1, 2), (1, 3), (6, 3), (3, 9)])
def test_copies_of_channels_give_what_the_sources_copies_gave(theirs: int, ours: int) -> None:
    shared = 3 if theirs % 3 == 0 and ours % 3 == 0 else 1
    weight, x = torch.randn(4, theirs, 3, 3), torch.randn(2, shared, 8, 8)
    fitted = fit_channels(weight, ours)
    assert fitted.shape == (4, ours, 3, 3)
    torch.testing.assert_close(convolved(x.repeat(1, ours // shared, 1, 1), fitted),
                               convolved(x.repeat(1, theirs // shared, 1, 1), weight), atol=1e-5, rtol=1e-5)


def test_fitting_by_hand() -> None:
    weight = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1)
    assert fit_channels(weight, 1).flatten().tolist() == [7.0]
    assert fit_channels(weight, 2).flatten().tolist() == [3.5, 3.5]
    assert fit_channels(weight, 6).flatten().tolist() == [0.5, 1.0, 2.0, 0.5, 1.0, 2.0]
    assert torch.equal(fit_channels(weight, 3), weight)


def test_a_fitted_stem_is_he_initialised_and_a_fitting_one_is_left_alone() -> None:
    torch.manual_seed(0)
    model = models.resnet18(weights=None)
    before = model.conv1
    fit_stem(model, channels=3, small=False)
    assert model.conv1 is before
    fit_stem(model, channels=1, small=False)
    path, conv = first_conv(model) or ("", nn.Conv2d(1, 1, 1))
    assert (path, conv.in_channels, conv.kernel_size, conv.stride) == ("conv1", 1, (7, 7), (2, 2))
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)


def test_a_net_without_convolutions_has_no_stem() -> None:
    assert first_conv(nn.Linear(2, 2)) is None
    with pytest.raises(ValueError, match="no convolution"):
        fit_stem(nn.Linear(2, 2), channels=1, small=True)


@pytest.mark.parametrize(
    "name",
    ["squeezenet1_1", "vgg11", "mobilenet_v3_small", "densenet121", "googlenet", "swin_t", "vit_b_32", "convnext_tiny",
     "efficientnet_b0", "mnasnet0_5", "alexnet", "regnet_y_400mf"],
)
def test_torchvision_families_give_logits_and_features(name: str) -> None:
    with torch.device("meta"), torch.no_grad():
        net = make(f"torchvision:{name}", channels=1).eval()
        logits, features = net.forward_both(torch.zeros(2, 1, 64, 64))
    assert logits.shape == (2, 7)
    assert features.shape == (2, net.feature_width)
    assert {parameter.device.type for parameter in net.parameters()} == {"meta"}


def test_torchvisions_small_stem_keeps_the_resolution() -> None:
    small, plain = (make("torchvision:resnet18", channels=1, small_stem=small).trunk for small in (True, False))
    assert (small.conv1.kernel_size, small.conv1.stride, type(small.maxpool)) == ((3, 3), (1, 1), nn.Identity)
    assert (plain.conv1.kernel_size, plain.conv1.stride) == ((7, 7), (2, 2))
    other = make("torchvision:shufflenet_v2_x0_5", channels=1, small_stem=True).trunk
    assert (other.conv1[0].stride, other.conv1[0].in_channels, type(other.maxpool)) == ((1, 1), 1, nn.MaxPool2d)


def test_the_seed_decides_a_torchvision_nets_weights() -> None:
    first, again = (make("torchvision:shufflenet_v2_x0_5", channels=1, small_stem=True).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize(
    ("net", "canvas", "parts"),
    [
        ("torchvision:resnet81", 32, ["unknown net 'torchvision:resnet81'", "did you mean 'resnet18'?"]),
        ("torchvision:inception_v3", 32, ["'torchvision:inception_v3' cannot take a canvas of 32 px"]),
        ("torchvision:vit_b_16", 40, ["'torchvision:vit_b_16' cannot take a canvas of 40 px", "fix: another canvas"]),
    ],
)
def test_bad_torchvision_nets_are_one_clear_line(net: str, canvas: int, parts: list[str]) -> None:
    with torch.device("meta"), pytest.raises(UserError) as caught:
        make(net, canvas=canvas)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "densenet121", "vit_b_16", "googlenet", "inception_v3", "squeezenet1_1", "regnet_y_400mf",
     "swin_v2_t", "maxvit_t", "mnasnet0_5", "vgg11_bn", "shufflenet_v2_x0_5"],
)
def test_torchvisions_outline_is_its_trunk_and_nothing_else(name: str) -> None:
    with torch.device("meta"):
        trunk = make(f"torchvision:{name}", canvas=224).trunk
    taken = torchvision_zoo.trunk_state(name, torchvision_zoo.outline(name), trunk=trunk)
    assert {k: v.shape for k, v in taken.items()} == {k: v.shape for k, v in trunk.state_dict().items()}
    assert {tensor.device.type for tensor in taken.values()} == {"meta"}


def test_torchvisions_outline_has_the_published_parameters() -> None:
    counts = {name: sum(t.numel() for k, t in torchvision_zoo.outline(name).items()
                        if not k.endswith(("running_mean", "running_var", "num_batches_tracked")))
              for name in ("resnet18", "vit_h_14")}
    assert counts == {name: models.get_model_weights(name).DEFAULT.meta["num_params"] for name in counts}
    assert counts == {"resnet18": 11_689_512, "vit_h_14": 633_470_440}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("densenet121", "features.denseblock1.denselayer1.norm.1.weight",
         "features.denseblock1.denselayer1.norm1.weight"),
        ("densenet121", "features.denseblock4.denselayer16.conv.2.weight",
         "features.denseblock4.denselayer16.conv2.weight"),
        ("vit_b_16", "encoder.layers.encoder_layer_0.mlp.linear_1.bias", "encoder.layers.encoder_layer_0.mlp.0.bias"),
        ("vit_b_16", "encoder.layers.encoder_layer_0.mlp.linear_2.weight",
         "encoder.layers.encoder_layer_0.mlp.3.weight"),
        ("vit_b_16", "heads.head.weight", None),
        ("resnet18", "fc.bias", None),
        ("squeezenet1_1", "classifier.1.weight", None),
        ("inception_v3", "AuxLogits.fc.weight", None),
        ("googlenet", "aux2.conv.conv.weight", None),
    ],
)
def test_published_names_become_the_trunks(name: str, old: str, new: str | None) -> None:
    with torch.device("meta"):
        trunk = make(f"torchvision:{name}", canvas=224).trunk
    taken = torchvision_zoo.trunk_state(name, {old: torch.zeros(1)}, trunk=trunk)
    assert list(taken) == ([] if new is None else [new])
    assert new is None or new in trunk.state_dict()


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_normalisation_stands_for_torchvisions_own_change_of_input(name: str) -> None:
    net = make(f"torchvision:{name}", canvas=96).eval()
    model = models.get_model(name, weights=None, num_classes=7, aux_logits=False, init_weights=False,
                             transform_input=True).eval()
    model.load_state_dict(net.trunk.state_dict() | {f"fc.{k}": v for k, v in net.head.state_dict().items()})
    x = torch.rand(2, 3, 96, 96)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in torchvision_zoo.normalisation(name))
    theirs_mean, theirs_std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    with torch.no_grad():
        torch.testing.assert_close(net((x - mean) / std), model((x - theirs_mean) / theirs_std), atol=1e-4, rtol=1e-4)


def test_normalisation_of_other_torchvision_nets_is_their_presets() -> None:
    assert torchvision_zoo.normalisation("resnet18") == IMAGENET
    assert torchvision_zoo.normalisation("efficientnet_v2_l") == ((0.5,) * 3, (0.5,) * 3)


def test_without_timm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert module_of("timm:resnet18") == "pipeline.nets.timm_zoo"
    with pytest.raises(UserError, match=r"fix: pip install 'ensemble-pipeline\[timm\]'") as caught:
        make("timm:resnet18")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224",
                                  "swin_tiny_patch4_window7_224", "tresnet_m"])
def test_timm_families_give_logits_and_features(name: str, channels: int) -> None:
    pytest.importorskip("timm")
    with torch.device("meta"), torch.no_grad():
        net = make(f"timm:{name}", channels=channels, canvas=96).eval()
        logits, features = net.forward_both(torch.zeros(2, channels, 96, 96))
    assert logits.shape == (2, 7)
    assert features.shape == (2, net.feature_width)


def test_timms_resnet18_computes_what_torchvisions_does() -> None:
    pytest.importorskip("timm")
    ours, theirs = make("timm:resnet18").eval(), make("torchvision:resnet18").eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_timms_small_stem_and_stochastic_depth() -> None:
    pytest.importorskip("timm")
    trunk = make("timm:resnet18", channels=1, small_stem=True, drop_path=0.3).trunk
    assert (trunk.conv1.kernel_size, trunk.conv1.stride, type(trunk.maxpool)) == ((3, 3), (1, 1), nn.Identity)
    assert trunk.layer4[1].drop_path.drop_prob == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "mobilenetv3_small_100", "convnext_atto", "vit_tiny_patch16_224"])
def test_timms_outline_is_its_trunk_at_another_canvas(name: str) -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        trunk = make(f"timm:{name}", canvas=96).trunk
        taken = timm_zoo.trunk_state(name, timm_zoo.outline(name), trunk=trunk)
    assert {k: v.shape for k, v in taken.items()} == {k: v.shape for k, v in trunk.state_dict().items()}


def test_normalisation_of_timm_is_its_config() -> None:
    pytest.importorskip("timm")
    assert timm_zoo.normalisation("resnet18.a1_in1k") == IMAGENET
    assert timm_zoo.normalisation("vit_tiny_patch16_224") == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("net", "canvas", "parts"),
    [
        ("timm:resnet81", 64, ["unknown net 'timm:resnet81'", "did you mean 'resnet18'?"]),
        ("timm:resnet18.a1_in2k", 64, ["unknown net", "did you mean 'resnet18.a1_in1k'?"]),
        ("timm:inception_v3", 32, ["'timm:inception_v3' cannot take a canvas of 32 px", "fix: another canvas"]),
    ],
)
def test_bad_timm_nets_are_one_clear_line(net: str, canvas: int, parts: list[str]) -> None:
    pytest.importorskip("timm")
    with torch.device("meta"), pytest.raises(UserError) as caught:
        make(net, canvas=canvas)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)
