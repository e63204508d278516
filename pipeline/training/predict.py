"""Probabilities averaged over views, and penultimate features, of rows of the store."""

from collections.abc import Iterator

import numpy as np
import torch

from pipeline.nets.net import Net
from pipeline.training.batches import prefetch, to_tensors
from pipeline.training.feed import Feed
from pipeline.training.normalise import column
from pipeline.training.precision import autocast
from pipeline.training.resident import batches_ahead
from pipeline.training.weights import WeightsMeta


def predict_rows(
    net: Net, meta: WeightsMeta, feed: Feed, rows: np.ndarray, *,
    average: str, batch: int, device: str, precision: str,
) -> np.ndarray:
    """Class probabilities `(N, C)` float32 of `rows`, averaged over the views of `feed`.

    `average` is "arithmetic" (mean of probabilities) or "geometric" (softmax of the mean of log probabilities).
    `net` is in eval mode; it is moved to `device`.
    """
    return _predicted(net, meta, feed, rows, average=average, batch=batch, device=device, precision=precision)[0]


def predict_and_embed(
    net: Net, meta: WeightsMeta, feed: Feed, rows: np.ndarray, *,
    average: str, batch: int, device: str, precision: str,
) -> tuple[np.ndarray, np.ndarray]:
    """`predict_rows` and `embed_rows`, in one pass through the trunk where the first view is the plain image."""
    probabilities, first = _predicted(net, meta, feed, rows, average=average, batch=batch, device=device,
                                      precision=precision)
    if feed.starts_plain:
        return probabilities, first
    return probabilities, embed_rows(net, meta, feed, rows, batch=batch, device=device, precision=precision)


def embed_rows(
    net: Net, meta: WeightsMeta, feed: Feed, rows: np.ndarray, *, batch: int, device: str, precision: str,
    view: int | None = None,
) -> np.ndarray:
    """Penultimate features `(N, D)` float32 of `rows`, plain or under one view; `net` as in `predict_rows`."""
    net.to(device)
    found: list[torch.Tensor] = []
    for arguments in _arguments(meta, feed, rows, view, batch=batch, device=device):
        with torch.inference_mode(), autocast(precision, torch.device(device)):
            found.append(net.embed(*arguments).float())
    return _stacked(found, net)


def _predicted(
    net: Net, meta: WeightsMeta, feed: Feed, rows: np.ndarray, *,
    average: str, batch: int, device: str, precision: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `(N, C)`, and features `(N, D)` under the first view."""
    net.to(device)
    first: list[torch.Tensor] = []
    total = torch.zeros(len(rows), len(meta.classes), dtype=torch.float64, device=device)   # copied to the host once
    for view in range(feed.n_views):
        start = 0
        for arguments in _arguments(meta, feed, rows, view, batch=batch, device=device):
            with torch.inference_mode(), autocast(precision, torch.device(device)):
                logits, features = net.forward_both(*arguments)
            log_probabilities = logits.float().log_softmax(dim=1)                                          # (B, C)
            summand = log_probabilities if average == "geometric" else log_probabilities.exp()
            total[start:start + len(logits)] += summand
            start += len(logits)
            if view == 0:
                first.append(features.float())
    mean = total.cpu().numpy() / feed.n_views
    if average == "geometric":
        mean = np.exp(mean - mean.max(axis=1, keepdims=True))
        mean /= mean.sum(axis=1, keepdims=True)
    return mean.astype(np.float32), _stacked(first, net)


def _arguments(
    meta: WeightsMeta, feed: Feed, rows: np.ndarray, view: int | None, *, batch: int, device: str
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Batches of what the network is called with."""
    ahead = batches_ahead(feed, device)
    mean, std = column(meta.mean, device), column(meta.std, device)
    batches = feed.view(rows, view, batch=batch, buffers=ahead + 2)
    for inputs in prefetch(batches, ahead) if ahead else batches:
        yield to_tensors(inputs, mean=mean, std=std)


def _stacked(parts: list[torch.Tensor], net: Net) -> np.ndarray:
    return torch.cat(parts).cpu().numpy() if parts else np.zeros((0, net.feature_width), np.float32)
