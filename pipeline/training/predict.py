"""Probabilities averaged over views, and penultimate features, of rows of the store."""

from collections.abc import Iterator

import numpy as np
import torch

from pipeline.data.store import Packed
from pipeline.nets.net import Net
from pipeline.training.batches import prefetch, to_input, view_batches
from pipeline.training.precision import autocast
from pipeline.training.weights import WeightsMeta

AHEAD = 3  # batches that a thread prepares while a GPU computes


def predict_rows(
    net: Net, meta: WeightsMeta, packed: Packed, rows: np.ndarray, *,
    matrices: np.ndarray, average: str, batch: int, device: str, precision: str,
) -> np.ndarray:
    """Class probabilities `(N, C)` float32 of `rows`, averaged over the views `matrices (V, 3, 3)`.

    `average` is "arithmetic" (mean of probabilities) or "geometric" (softmax of the mean of log probabilities).
    `net` is in eval mode; it is moved to `device`.
    """
    return predict_and_embed(net, meta, packed, rows, matrices=matrices, average=average, batch=batch,
                             device=device, precision=precision)[0]


def predict_and_embed(
    net: Net, meta: WeightsMeta, packed: Packed, rows: np.ndarray, *,
    matrices: np.ndarray, average: str, batch: int, device: str, precision: str,
) -> tuple[np.ndarray, np.ndarray]:
    """`predict_rows` and the features `(N, D)` float32 under the first view, from one pass through the trunk."""
    net.to(device)
    first: list[np.ndarray] = []
    total = np.zeros((len(rows), len(meta.classes)), np.float64)
    for view, matrix in enumerate(matrices):
        start = 0
        for inputs in _inputs(meta, packed, rows, matrix=matrix, batch=batch, device=device):
            with torch.inference_mode(), autocast(precision, inputs.device):
                logits, features = net.forward_both(inputs)
            log_probabilities = logits.float().log_softmax(dim=1)                                          # (B, C)
            summand = log_probabilities if average == "geometric" else log_probabilities.exp()
            total[start:start + len(inputs)] += summand.cpu().numpy()
            start += len(inputs)
            if view == 0:
                first.append(features.float().cpu().numpy())
    mean = total / len(matrices)
    if average == "geometric":
        mean = np.exp(mean - mean.max(axis=1, keepdims=True))
        mean /= mean.sum(axis=1, keepdims=True)
    return mean.astype(np.float32), _stacked(first, net)


def embed_rows(
    net: Net, meta: WeightsMeta, packed: Packed, rows: np.ndarray, *, batch: int, device: str, precision: str
) -> np.ndarray:
    """Penultimate features `(N, D)` float32 of `rows` under the identity view; `net` as in `predict_rows`."""
    net.to(device)
    found: list[np.ndarray] = []
    for inputs in _inputs(meta, packed, rows, matrix=np.eye(3), batch=batch, device=device):
        with torch.inference_mode(), autocast(precision, inputs.device):
            found.append(net.embed(inputs).float().cpu().numpy())
    return _stacked(found, net)


def _inputs(
    meta: WeightsMeta, packed: Packed, rows: np.ndarray, *, matrix: np.ndarray, batch: int, device: str
) -> Iterator[torch.Tensor]:
    mean, std = (torch.tensor(v, dtype=torch.float32, device=device).view(-1, 1, 1) for v in (meta.mean, meta.std))
    ahead = AHEAD if mean.is_cuda else 0
    batches = view_batches(packed, rows, config=meta.config, matrix=matrix, batch=batch, buffers=ahead + 2)
    for images in prefetch(batches, ahead) if ahead else batches:
        yield to_input(images, mean=mean, std=std)


def _stacked(parts: list[np.ndarray], net: Net) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros((0, net.feature_width), np.float32)
