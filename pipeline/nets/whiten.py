"""Whitening of the input: a linear map, fitted to training images, after which all pixels are uncorrelated."""

import math
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import UserError

DIMENSIONS = 4096   # at most: the matrix has their square, 64 MiB, and eigh takes their cube
ROWS = 1024         # images that are held in float64 at a time


class Whiten(nn.Module):
    """y = matrix (x - mean) over the flat image, in float32 also under autocast; the identity until it is filled.

    Buffers: `mean (D,)` and `matrix (D, D)`, D = canvas * canvas * channels in channels_last order. Raises UserError
    where D is over 4096.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, channels: int, canvas: int) -> None:
        super().__init__()
        require_whitenable(channels, canvas)
        dimensions = channels * canvas**2
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("matrix", torch.eye(dimensions))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, S, S)` to the same shape, channels_last."""
        kind = x.device.type
        full = torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
        with full:
            flat = _flat(x.float()) - self.mean                                                           # (B, D)
            whitened = F.linear(flat, self.matrix)                                                        # (B, D)
        batch, channels, height, width = x.shape
        return whitened.view(batch, height, width, channels).permute(0, 3, 1, 2)


def fit_whitening(images: Tensor, kind: Literal["pca", "zca"], *, epsilon: float = 0.01) -> tuple[Tensor, Tensor]:
    """Mean `(D,)` and matrix `(D, D)` of `Whiten`, float32 on the CPU, from `images (n, C, S, S)`.

    With U diag(v) U^T the images' covariance (over n) and r = epsilon * mean(v): zca is U diag(v + r)^-1/2 U^T, the
    whitening that changes images least; pca is diag(v + r)^-1/2 U^T, components in order of falling variance, each
    with its largest weight positive. So component i leaves with variance v_i / (v_i + r): r keeps noise small, and
    the matrix finite where there are fewer images than dimensions. pca's output is no picture: only for nets on flat
    pixels. Source: Bell & Sejnowski 1997, "The 'independent components' of natural scenes are edge filters" (zca);
    Krizhevsky 2009, "Learning multiple layers of features from tiny images", appendix A.
    """
    flat = _flat(images.detach().cpu())                                                                   # (n, D)
    mean = flat.mean(dim=0, dtype=torch.float64)                                                          # (D,)
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for rows in flat.split(ROWS):
        centred = rows - mean
        scatter.addmm_(centred.T, centred)
    variance, axes = torch.linalg.eigh(scatter / len(flat))                                       # rising; (D,), (D, D)
    variance = variance.clamp(min=0)
    ridge = epsilon * (float(variance.mean()) or 1.0)                                             # blank images: 1
    components = axes.T.flip(0) / (variance.flip(0) + ridge).sqrt()[:, None]                              # (D, D)
    if kind == "zca":
        matrix = axes.flip(1) @ components
    else:
        largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))                      # (D, 1)
        matrix = components * largest.sign()
    return mean.float(), matrix.float()


def require_whitenable(channels: int, canvas: int) -> None:
    """Raises UserError for an image of more than 4096 numbers."""
    if channels * canvas**2 > DIMENSIONS:
        largest = math.isqrt(DIMENSIONS // channels)
        raise UserError(f"whiten: canvas {canvas} with {channels} channel{'s' * (channels > 1)} has "
                        f"{channels * canvas**2} dimensions, over {DIMENSIONS}; "
                        f"fix: canvas: {largest} or less, or whiten: null")


def _flat(images: Tensor) -> Tensor:
    """`(B, C, H, W)` to `(B, H W C)`: a view of channels_last images."""
    return images.permute(0, 2, 3, 1).flatten(1)
