"""Transfer: trunks filled from files and published weights, refusals, and frozen layers."""

import copy
import os
import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models
from training_jobs import model_config

from pipeline.config.model import ModelConfig
from pipeline.errors import UserError
from pipeline.nets.net import Net
from pipeline.nets.registry import build
from pipeline.training.averages import ema_share, make_mover, refresh_norms
from pipeline.training.optimiser import make_optimiser
from pipeline.training.transfer import check_pretrained, freeze_until, load_pretrained
from pipeline.training.weights import WeightsMeta, library_versions, save_weights

ZOO = "torchvision:shufflenet_v2_x0_5"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHECKPOINT = Path("pretrained/a.pth")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as the working directory; torch's cache is in it, and nothing can be downloaded."""
    def refuse(url: str, *args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    Path("pretrained").mkdir()
    return tmp_path


def config_of(net: str = ZOO, *, pretrained: bool | str = str(CHECKPOINT), canvas: int = 32,
              **changes: object) -> ModelConfig:
    return model_config(net=net, pretrained=pretrained, canvas=canvas, **changes)


def make(config: ModelConfig, *, channels: int = 3, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return build(config.net, options=config.options, n_classes=5, channels=channels, canvas=config.canvas)


def model_of(name: str, *, seed: int = 1) -> torch.nn.Module:
    """torchvision's model, with running statistics and zeroed parameters other than the initial ones."""
    torch.manual_seed(seed)
    model = models.get_model(name, weights=None)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor), alpha=0.01)
    return model.eval()


def features_of(model: torch.nn.Module, x: Tensor, *, head: str = "fc") -> Tensor:
    model = copy.deepcopy(model)
    model.set_submodule(head, torch.nn.Identity())
    with torch.no_grad():
        return model(x)


def embedded(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net.eval().embed(x)


def checked(config: ModelConfig, *, channels: int = 3) -> None:
    with torch.device("meta"):
        net = make(config, channels=channels)
    check_pretrained(net, config, channels=channels)


def both_refuse(config: ModelConfig, *parts: str, channels: int = 3) -> None:
    """`check_pretrained` on the meta device and `load_pretrained` say the same one line, with all of `parts`."""
    said = []
    with pytest.raises(UserError) as caught:
        checked(config, channels=channels)
    said.append(str(caught.value))
    net = make(config, channels=channels)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(UserError) as caught:
        load_pretrained(net, config, channels=channels)
    said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    assert [part for part in parts if part not in said[0]] == []
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


@pytest.mark.parametrize("form", ["pth", "legacy", "wrapped", "parallel", "safetensors"])
def test_a_plain_state_dict_gives_the_sources_features(form: str) -> None:
    model, path = model_of("shufflenet_v2_x0_5"), CHECKPOINT
    state = model.state_dict()
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(dict(state), path)
    elif form == "wrapped":
        torch.save({"epoch": 3, "model": state}, path)
    elif form == "parallel":
        torch.save({f"module.{key}": tensor for key, tensor in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "pth")
    config = config_of(pretrained=str(path))
    checked(config)
    net = make(config)
    head = net.head.weight.clone()
    assert load_pretrained(net, config, channels=3) == IMAGENET
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(embedded(net, x), features_of(model, x))
    assert torch.equal(net.head.weight, head)
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_images_of_other_channels_give_what_their_rgb_copies_gave(channels: int) -> None:
    model = model_of("shufflenet_v2_x0_5")
    torch.save(model.state_dict(), CHECKPOINT)
    config = config_of()
    checked(config, channels=channels)
    net = make(config, channels=channels)
    mean, std = load_pretrained(net, config, channels=channels) or ((), ())
    one = torch.rand(2, 3 if channels == 6 else 1, 32, 32)
    x = one.repeat(1, channels // one.shape[1], 1, 1)
    torch.testing.assert_close(embedded(net, x), features_of(model, one.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)
    if channels == 6:
        assert (mean, std) == (IMAGENET[0] * 2, IMAGENET[1] * 2)
    else:
        assert mean == pytest.approx((0.449,) * channels)
        assert std == pytest.approx((0.226,) * channels)


def test_old_files_lack_batch_norms_counters() -> None:
    model = model_of("shufflenet_v2_x0_5")
    torch.save({k: t for k, t in model.state_dict().items() if not k.endswith("num_batches_tracked")}, CHECKPOINT)
    config = config_of()
    checked(config)
    net = make(config)
    load_pretrained(net, config, channels=3)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(embedded(net, x), features_of(model, x))


def test_old_names_and_auxiliary_classifiers_of_published_files() -> None:
    model = model_of("densenet121")
    old = {key.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv1.", "conv.1.")
           .replace("conv2.", "conv.2."): tensor for key, tensor in model.state_dict().items()}
    torch.save(old | {"aux1.fc.weight": torch.zeros(2, 2)}, CHECKPOINT)
    config = config_of("torchvision:densenet121")
    net = make(config)
    load_pretrained(net, config, channels=3)
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(embedded(net, x), features_of(model, x, head="classifier"))


def test_half_precision_and_channels_last() -> None:
    model = model_of("shufflenet_v2_x0_5")
    torch.save(model.half().state_dict(), CHECKPOINT)
    net = make(config_of()).to(memory_format=torch.channels_last)
    load_pretrained(net, config_of(), channels=3)
    weight = net.trunk.conv5[0].weight
    assert weight.dtype == torch.float32
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, model.conv5[0].weight.float())


def saved_fold(path: Path, config: ModelConfig, *, channels: int = 1) -> Net:
    """A fold's file of a network of 9 other classes."""
    torch.manual_seed(1)
    net = build(config.net, options=config.options, n_classes=9, channels=channels, canvas=config.canvas).train()
    net(torch.randn(8, channels, config.canvas, config.canvas))
    mean, std = (0.1, 0.2, 0.6)[:channels], (0.4, 0.5, 0.6)[:channels]
    save_weights(path, net, WeightsMeta("other", config, tuple("abcdefghi"), channels, mean, std, 0, "digest", "data",
                                        "fp32", "ema", library_versions("resnet18")))
    return net.eval()


def test_a_folds_file_gives_its_trunk_and_its_normalisation() -> None:
    path = "pretrained/fold0.safetensors"
    theirs = saved_fold(Path(path), model_config(net="resnet18", options={"width": 4, "dropout": 0.3}))
    config = config_of("resnet18", pretrained=path, options={"width": 4}, canvas=24)
    checked(config, channels=1)
    net = make(config, channels=1)
    assert load_pretrained(net, config, channels=1) == ((0.1,), (0.4,))
    x = torch.rand(3, 1, 24, 24)
    torch.testing.assert_close(embedded(net, x), embedded(theirs, x))
    assert net.head.out_features == 5


def test_a_folds_file_of_rgb_for_grey() -> None:
    path = "pretrained/fold0.safetensors"
    theirs = saved_fold(Path(path), model_config(net="resnet18", options={"width": 4}), channels=3)
    config = config_of("resnet18", pretrained=path, options={"width": 4})
    net = make(config, channels=1)
    mean, std = load_pretrained(net, config, channels=1) or ((), ())
    assert (mean, std) == (pytest.approx((0.3,)), pytest.approx((0.5,)))
    x = torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(embedded(net, x), embedded(theirs, x.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("part", ["net", "trunk"])
def test_a_plain_state_dict_of_our_own_net_says_nothing_of_normalisation(part: str) -> None:
    config = config_of("resnet18", options={"width": 4})
    theirs = make(config, seed=1)
    torch.save((theirs if part == "net" else theirs.trunk).state_dict(), CHECKPOINT)
    checked(config)
    net = make(config)
    assert load_pretrained(net, config, channels=3) is None
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(embedded(net, x), embedded(theirs, x))


@pytest.mark.parametrize(
    ("net", "changes", "parts"),
    [
        ("lenet5", {}, ["net is 'lenet5' here and was 'resnet18' there"]),
        ("resnet18", {"options": {"width": 8}}, ["options is {'width': 8} here and was {'width': 4} there", "fix:"]),
        ("resnet18", {"options": {"width": 4}, "whiten": "zca"}, ["whiten is 'zca' here and was None there"]),
    ],
)
def test_a_folds_file_of_another_net_is_refused(net: str, changes: dict[str, object], parts: list[str]) -> None:
    path = "pretrained/fold0.safetensors"
    saved_fold(Path(path), model_config(net="resnet18", options={"width": 4}))
    both_refuse(config_of(net, pretrained=path, **changes), path, *parts, channels=1)


def test_foreign_missing_and_misshapen_tensors_are_named() -> None:
    state = model_of("shufflenet_v2_x0_5").state_dict()
    state["conv5.1.wieght"] = state.pop("conv5.1.weight")
    state["conv5.0.weight"] = state["conv5.0.weight"][:, :10]
    torch.save(state, CHECKPOINT)
    both_refuse(config_of(), "pretrained/a.pth", "missing: 'conv5.1.weight (1024,)'",
                "not expected: 'conv5.1.wieght (1024,)'",
                "other shapes: 'conv5.0.weight (1024, 10, 1, 1) for (1024, 192, 1, 1)'; fix: net, options and canvas")


def test_another_architecture_is_refused_in_one_line() -> None:
    torch.save(model_of("resnet18").state_dict(), CHECKPOINT)
    both_refuse(config_of(), "weights of another net than 'torchvision:shufflenet_v2_x0_5'", " and ", " more")
    both_refuse(config_of("resnet18", options={"width": 4}), "weights of another net than 'resnet18'")
    both_refuse(config_of("torchvision:resnet18", options={"small_stem": True}),
                "other shapes: 'conv1.weight (64, 3, 7, 7) for (64, 3, 3, 3)'")


def test_unreadable_files_are_refused() -> None:
    for name, content in {"empty.pth": b"", "text.pth": b"hello", "text.safetensors": b"hello" * 9}.items():
        (Path("pretrained") / name).write_bytes(content)
        both_refuse(config_of(pretrained=f"pretrained/{name}"), f"pretrained/{name}: it", "; fix: ")
    both_refuse(config_of(), "there is no file 'pretrained/a.pth'", "fix: put it there")
    torch.save(model_of("shufflenet_v2_x0_5"), CHECKPOINT)
    both_refuse(config_of(), "it holds more than tensors", "model.state_dict()")
    torch.save({"epoch": 3}, CHECKPOINT)
    both_refuse(config_of(), "no tensors by name in it")
    save_file({"trunk.0.weight": torch.zeros(1)}, "pretrained/b.safetensors", metadata={"meta": "{}"})
    both_refuse(config_of(pretrained="pretrained/b.safetensors"), "no metadata of this pipeline")


def test_nothing_in_a_file_is_executed() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, ("exploded",)

    torch.save({"conv1.0.weight": Bomb()}, CHECKPOINT)
    both_refuse(config_of(), "it holds more than tensors")
    assert not Path("exploded").exists()


@pytest.mark.parametrize("path", ["elsewhere.pth", "pretrained/../elsewhere.pth", "pretrained", "models/m/fold0.pth"])
def test_check_wants_files_below_pretrained(path: str) -> None:
    with pytest.raises(UserError, match=rf"'{path}' is not below pretrained/.*fix: copy it there and say pretrained: "):
        checked(config_of(pretrained=path))


def test_a_link_below_pretrained_is_as_good_as_the_file() -> None:
    torch.save(model_of("shufflenet_v2_x0_5").state_dict(), "cached.pth")
    CHECKPOINT.symlink_to(Path("cached.pth").resolve())
    checked(config_of())
    checked(config_of(pretrained=str(CHECKPOINT.absolute())))


def test_without_pretrained_nothing_happens() -> None:
    config = config_of(pretrained=False)
    net = make(config)
    before = copy.deepcopy(net.state_dict())
    assert load_pretrained(net, config, channels=3) is None
    check_pretrained(net, config, channels=3)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


def test_published_weights_come_from_torchs_cache() -> None:
    model = model_of("shufflenet_v2_x0_5")
    cached = Path(torch.hub.get_dir()) / "checkpoints" / "shufflenetv2_x0.5-f707e7126e.pth"
    cached.parent.mkdir(parents=True)
    torch.save(model.state_dict(), cached)
    config = config_of(pretrained=True)
    net = make(config, channels=1)
    drawn = torch.random.get_rng_state()
    mean, std = load_pretrained(net, config, channels=1) or ((), ())
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert (mean, std) == (pytest.approx((0.449,)), pytest.approx((0.226,)))
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(embedded(net, x), features_of(model, x.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


def test_an_unreachable_download_names_the_file_and_the_fix() -> None:
    config = config_of(pretrained=True)
    checked(config)
    assert not (Path(torch.hub.get_dir()) / "checkpoints").exists()
    with pytest.raises(UserError, match=r"'shufflenetv2_x0.5-f707e7126e.pth', the weights of .*no route to host.*; "
                                        r"fix: put .* under pretrained/ and say pretrained: pretrained/shuffle"):
        load_pretrained(make(config), config, channels=3)


def test_check_refuses_published_weights_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"pretrained: true: .*'conv1.weight \(64, 3, 7, 7\) for \(64, 3, 3, 3\)'"):
        checked(config_of("torchvision:resnet18", pretrained=True, options={"small_stem": True}))
    with pytest.raises(UserError, match=r"canvas 64; other shapes: 'encoder.pos_embedding \(1, 197, 768\) for"):
        checked(config_of("torchvision:vit_b_16", pretrained=True, canvas=64))
    checked(config_of("torchvision:vit_b_16", pretrained=True, canvas=224), channels=1)


def test_our_own_nets_have_no_published_weights() -> None:
    both_refuse(config_of("resnet18", pretrained=True), "net 'resnet18' has no published weights",
                "fix: pretrained: pretrained/<file>")


def test_timms_files_and_published_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    model = timm.create_model("resnet18.a1_in1k", pretrained=False).eval()
    torch.save(model.state_dict(), CHECKPOINT)
    config = config_of("timm:resnet18.a1_in1k")
    checked(config, channels=1)
    net = make(config, channels=1)
    mean, _ = load_pretrained(net, config, channels=1) or ((), ())
    assert mean == pytest.approx((0.449,))
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(embedded(net, x), features_of(model, x.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", refuse)
    config = config_of("timm:resnet18.a1_in1k", pretrained=True)
    checked(config)
    with pytest.raises(UserError, match=r"'timm:resnet18.a1_in1k' could not be .*no route to host.*; fix: put .* at "
                                        r"pretrained/resnet18.a1_in1k\.\w+ and say pretrained: pretrained/resnet18"):
        load_pretrained(make(config), config, channels=3)
    with pytest.raises(UserError, match="timm publishes no weights of 'timm:resnet50t'"):
        checked(config_of("timm:resnet50t", pretrained=True))


def test_timms_positions_are_resampled_to_the_canvas() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    torch.save(model.state_dict(), CHECKPOINT)
    config = config_of("timm:vit_tiny_patch16_224", canvas=96)
    checked(config)
    net = make(config)
    load_pretrained(net, config, channels=3)
    assert net.trunk.pos_embed.shape == (1, 1 + 36, 192)
    assert torch.equal(net.trunk.pos_embed[:, 0], model.pos_embed[:, 0])
    assert torch.equal(net.trunk.blocks[3].attn.qkv.weight, model.blocks[3].attn.qkv.weight)


def learning(net: Net) -> list[str]:
    return [name for name, parameter in net.trunk.named_parameters() if parameter.requires_grad]


def test_layers_up_to_the_named_one_stay_as_they_are() -> None:
    net = make(config_of())
    freeze_until(net, "stage3")
    assert learning(net) == [n for n, _ in net.trunk.named_parameters() if n.startswith(("stage4", "conv5"))]
    before = copy.deepcopy(net.trunk.state_dict())
    net.train()
    assert (net.trunk.conv1.training, net.trunk.stage3[1].training) == (False, False)
    assert (net.trunk.training, net.trunk.stage4.training, net.trunk.stage4[0].training) == (True, True, True)
    optimiser = make_optimiser(net, config_of().optimiser)
    net(torch.rand(4, 3, 32, 32)).square().sum().backward()
    optimiser.step()
    after = net.trunk.state_dict()
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"stage4", "conv5"}
    assert all(p.grad is None for n, p in net.trunk.named_parameters() if n.startswith(("conv1", "stage2", "stage3")))


def test_a_layer_inside_another_freezes_what_comes_before_it_only() -> None:
    net = make(config_of())
    freeze_until(net, "stage3.0.branch1")
    frozen = {name for name, parameter in net.trunk.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in net.trunk.named_parameters()
                      if name.startswith(("conv1.", "stage2.", "stage3.0.branch1."))}
    net.train()
    stage = net.trunk.stage3
    assert [net.trunk.stage2.training, stage[0].branch1.training, stage[0].branch1[1].training] == [False] * 3
    assert [stage.training, stage[0].training, stage[0].branch2.training, stage[1].training] == [True] * 4


def test_parameters_of_the_whole_trunk_come_before_its_layers() -> None:
    with torch.device("meta"):
        net = make(config_of("torchvision:vit_b_16", canvas=64))
    freeze_until(net, "encoder.layers.encoder_layer_10")
    kept = ("encoder.layers.encoder_layer_11", "encoder.ln")
    assert learning(net) == [n for n, _ in net.trunk.named_parameters() if n.startswith(kept)]
    assert not net.trunk.class_token.requires_grad


def test_the_last_layer_freezes_all_but_the_head() -> None:
    net = make(config_of())
    freeze_until(net, "fc")
    assert learning(net) == []
    assert net.head.weight.requires_grad


def test_copies_pickles_averages_and_state_dicts_of_frozen_nets() -> None:
    net = make(config_of())
    keys = list(net.state_dict())
    freeze_until(net, "stage3")
    assert list(net.state_dict()) == keys
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        twin.train()
        assert (twin.trunk.stage3.training, twin.trunk.stage4.training) == (False, True)
        assert twin.trunk.stage3.train() is twin.trunk.stage3
        twin.load_state_dict(net.state_dict())
    averaged = copy.deepcopy(net).requires_grad_(False).eval()
    move = make_mover(averaged, net)
    net.train()
    for step in range(3):
        net(torch.rand(4, 3, 32, 32))
        move(ema_share(step, decay=0.9))
    same = {k.split(".")[1] for k, t in averaged.state_dict().items() if not torch.equal(t, net.state_dict()[k])}
    assert same == {"stage4", "conv5"}
    assert not averaged.trunk.stage4.training
    before = {name: value.clone() for name, value in averaged.state_dict().items()}
    refresh_norms(averaged, [(torch.rand(4, 3, 32, 32),)])
    changed = {k.split(".")[1] for k, t in averaged.state_dict().items() if not torch.equal(t, before[k])}
    assert changed == {"stage4", "conv5"}


@pytest.mark.parametrize(
    ("layer", "parts"),
    [
        ("stage5", ["freeze: until:stage5", "its layers: 'conv1', 'maxpool', 'stage2'", "did you mean 'stage"]),
        ("stage4.0.branch2.9", ["did you mean 'stage4.0.branch2"]),
        ("head", ["the net has no such layer"]),
    ],
)
def test_an_unknown_layer_is_one_clear_line(layer: str, parts: list[str]) -> None:
    with torch.device("meta"):
        net = make(config_of())
    with pytest.raises(UserError) as caught:
        freeze_until(net, layer)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)
    assert len(learning(net)) == len(list(net.trunk.parameters()))
