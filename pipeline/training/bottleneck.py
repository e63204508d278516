"""Features of a frozen network, computed once for every image and view, and kept by content in the scratch store.

The key holds what the features depend on and nothing else: not the model's name, its head, its folds or its schedule.
So another head on the same backbone, or another fold assignment, finds them there and never runs the backbone again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.artefacts import SCRATCH, digest
from pipeline.closure import closure_digest
from pipeline.config.model import ModelConfig
from pipeline.data.store import Packed, open_packed
from pipeline.errors import UserError
from pipeline.nets.registry import module_of
from pipeline.training.cache import cached_rows
from pipeline.training.feed import Images
from pipeline.training.network import trunk_net
from pipeline.training.predict import embed_rows
from pipeline.training.provenance import pretrained_digest
from pipeline.training.resident import placed
from pipeline.training.transfer import load_pretrained
from pipeline.training.weights import WeightsMeta, library_versions

STORE = SCRATCH / "frozen.features"     # no model's directory: a model's name has no dot
BATCH = 64


@dataclass(frozen=True)
class Backbone:
    """A pretrained network and one view of the images."""

    config: ModelConfig
    packed: Path
    matrix: np.ndarray      # (3, 3) canvas to canvas
    device: str
    precision: str


def frozen_features(
    config: ModelConfig, packed: Path, *, views: np.ndarray, devices: Sequence[str], precision: str, slots: int
) -> list[Path]:
    """Files of features `(N, D)` float16 of all rows of the store, one for each of the `views (V, 3, 3)`.

    Those that are there already are not computed. Raises UserError where the pretrained weights do not fit.
    """
    store = open_packed(packed)
    directory = frozen_directory(config, store, device=devices[0], precision=precision)
    return [
        cached_rows(_embed, [Backbone(config, packed, matrix, device, precision) for device in devices],
                    directory / f"{digest(matrix.astype(np.float64).tobytes())}.npy",
                    n_rows=len(store.table), slots=slots)
        for matrix in views
    ]


def frozen_directory(config: ModelConfig, packed: Packed, *, device: str, precision: str) -> Path:
    """Named after all that determines the features: weights, net, fit, images, code, libraries, kind of device."""
    section = config.model_dump_json(include={"net", "options", "canvas", "fit", "fill"})
    versions = [f"{library} {version}" for library, version in library_versions(config.net).items()]
    code = closure_digest("pipeline.training.bottleneck", module_of(config.net))
    return STORE / digest(section, pretrained_digest(config), packed.digest, code, *versions, device.split(":")[0],
                          precision)


def _embed(what: Backbone, rows: np.ndarray) -> np.ndarray:
    packed = open_packed(what.packed)
    net = trunk_net(what.config, n_classes=len(packed.classes), channels=packed.channels)
    normalisation = load_pretrained(net, what.config, channels=packed.channels)
    if normalisation is None:
        raise UserError(f"pretrained: {what.config.pretrained} does not say how its images were normalised, and a "
                        "frozen network cannot adapt; fix: a fold*.safetensors of this pipeline, or freeze: null")
    mean, std = normalisation
    meta = WeightsMeta(
        model="", config=what.config, classes=tuple(packed.classes), channels=packed.channels, mean=mean, std=std,
        cell=0, fold_digest="", data_digest="", precision=what.precision, kept="", versions={},
    )
    net = net.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    feed = placed(Images(packed, what.config, what.matrix[None]), what.device)
    features = embed_rows(net, meta, feed, rows, view=0, batch=BATCH, device=what.device, precision=what.precision)
    return features.astype(np.float16)
