"""Weights files and prediction with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from training_jobs import model_config, pack_digits

from pipeline.augment.views import view_matrices
from pipeline.config.model import TtaConfig
from pipeline.data.store import Packed, open_packed
from pipeline.errors import UserError
from pipeline.nets.net import Net
from pipeline.nets.registry import build
from pipeline.training.feed import Images
from pipeline.training.predict import embed_rows, predict_and_embed, predict_rows
from pipeline.training.weights import WeightsMeta, library_versions, load_weights, save_weights

HOW = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return open_packed(pack_digits(tmp_path_factory.mktemp("digits") / "packed"))


@pytest.fixture
def meta(digits: Packed) -> WeightsMeta:
    return WeightsMeta("tiny", model_config(net="resnet18", options={"width": 4}), tuple(digits.classes), 1, (0.3,),
                       (0.4,), 2, "digest", "data", "fp32", "ema", library_versions("resnet18"))


@pytest.fixture
def net(meta: WeightsMeta) -> Net:
    torch.manual_seed(0)
    net = build("resnet18", options={"width": 4}, n_classes=10, channels=1, canvas=16)
    for _ in range(3):
        net(torch.randn(8, 1, 16, 16))  # running statistics other than the initial ones
    return net.eval()


def test_weights_come_back_with_their_meta_and_the_same_outputs(net: Net, meta: WeightsMeta, tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", net, meta)
    loaded, found = load_weights(tmp_path / "a.safetensors")
    assert found == meta
    assert not loaded.training
    x = torch.randn(4, 1, 16, 16)
    with torch.inference_mode():
        assert torch.allclose(loaded(x), net(x), atol=1e-6)


def test_the_same_weights_are_the_same_bytes_whatever_their_strides(
    net: Net, meta: WeightsMeta, tmp_path: Path
) -> None:
    save_weights(tmp_path / "a.safetensors", net, meta)
    save_weights(tmp_path / "b.safetensors", net.to(memory_format=torch.channels_last), meta)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_bytes_do_not_depend_on_the_views_that_predictions_are_averaged_over(
    net: Net, meta: WeightsMeta, tmp_path: Path
) -> None:
    save_weights(tmp_path / "a.safetensors", net, meta)
    flips = replace(meta, config=meta.config.model_copy(update={"tta": TtaConfig(kind="flips")}))
    save_weights(tmp_path / "b.safetensors", net, flips)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_missing_or_truncated_file_is_refused(net: Net, meta: WeightsMeta, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"a\.safetensors: the file is missing; fix: rerun"):
        load_weights(path)
    save_weights(path, net, meta)
    whole = path.read_bytes()
    for size in (0, 4, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"a\.safetensors: not a readable safetensors file"):
            load_weights(path)


def test_other_tensors_and_other_metadata_are_refused(net: Net, meta: WeightsMeta, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, net, meta)
    tensors = load_file(path)
    save_weights(path, net, replace(meta, config=model_config(net="lenet5")))
    with pytest.raises(UserError, match=r"weights of another net; missing: .* not expected: "):
        load_weights(path)
    save_weights(path, net, replace(meta, classes=("a", "b")))
    with pytest.raises(UserError, match=r"'head.weight' is \(10, 32\), expected \(2, 32\)"):
        load_weights(path)
    save_file(tensors, path, metadata={"meta": '{"model": "tiny"}'})
    with pytest.raises(UserError, match=r"expected the metadata 'cell', .* found 'model'"):
        load_weights(path)
    save_file(tensors, path)
    with pytest.raises(UserError, match="no metadata of this pipeline in it"):
        load_weights(path)


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_views_are_averaged_like_a_loop_over_single_views(
    net: Net, meta: WeightsMeta, digits: Packed, average: str
) -> None:
    matrices = view_matrices(TtaConfig(kind="flips"), augment=meta.config.augment, canvas=16)
    rows = np.arange(0, 40, 3)
    single = np.stack([
        predict_rows(net, meta, Images(digits, meta.config, m[None]), rows, average="arithmetic", batch=64, **HOW)
        for m in matrices
    ]).astype(np.float64)
    mean = single.mean(axis=0) if average == "arithmetic" else np.exp(np.log(single).mean(axis=0))
    expected = mean / mean.sum(axis=1, keepdims=True)
    found = predict_rows(net, meta, Images(digits, meta.config, matrices), rows, average=average, batch=64, **HOW)
    assert found.dtype == np.float32
    assert len(matrices) == 4
    assert np.allclose(found, expected, atol=1e-6)
    assert np.abs(found - single[0]).max() > 1e-3


def test_one_view_is_the_softmax_of_the_net(net: Net, meta: WeightsMeta, digits: Packed) -> None:
    config = meta.config.model_copy(update={"canvas": 8})
    x = torch.from_numpy(np.stack([digits.image(row) for row in range(6)]).transpose(0, 3, 1, 2) / 255).float()
    with torch.inference_mode():
        expected = net((x - 0.3) / 0.4).softmax(dim=1)
    found = predict_rows(net, meta, Images(digits, config), np.arange(6), average="arithmetic", batch=6, **HOW)
    assert np.allclose(found, expected, atol=1e-6)


def test_prediction_and_features_do_not_depend_on_the_batch(net: Net, meta: WeightsMeta, digits: Packed) -> None:
    matrices = view_matrices(TtaConfig(kind="flips"), augment=meta.config.augment, canvas=16)
    rows = np.arange(37)
    small, features = predict_and_embed(net, meta, Images(digits, meta.config, matrices), rows, batch=5,
                                        average="arithmetic", **HOW)
    large = predict_rows(net, meta, Images(digits, meta.config, matrices), rows, batch=64, average="arithmetic", **HOW)
    assert np.allclose(small, large, atol=1e-5)
    assert features.shape == (37, net.feature_width)
    plain = embed_rows(net, meta, Images(digits, meta.config), rows, batch=64, **HOW)
    assert np.allclose(features, plain, atol=1e-5)


def test_features_are_of_the_plain_image_whatever_the_first_view_is(
    net: Net, meta: WeightsMeta, digits: Packed
) -> None:
    rows = np.arange(9)
    crops = view_matrices(TtaConfig(kind="crops"), augment=meta.config.augment, canvas=16)
    assert not np.allclose(crops[0], np.eye(3))
    _, features = predict_and_embed(net, meta, Images(digits, meta.config, crops), rows, batch=4, average="arithmetic",
                                    **HOW)
    plain = embed_rows(net, meta, Images(digits, meta.config), rows, batch=9, **HOW)
    assert np.allclose(features, plain, atol=1e-5)


def test_no_rows_give_empty_arrays(net: Net, meta: WeightsMeta, digits: Packed) -> None:
    none = np.arange(0)
    probabilities, features = predict_and_embed(net, meta, Images(digits, meta.config), none, average="arithmetic",
                                                batch=8, **HOW)
    assert (probabilities.shape, features.shape) == ((0, 10), (0, net.feature_width))
