"""Warping a batch on a torch device: bilinear, straight from the one flat buffer that images of any size lie in."""

import torch
from torch import Tensor


def warp_flat(pixels: Tensor, extents: Tensor, *, matrices: Tensor, canvas: int, channels: int) -> Tensor:
    """Images of `pixels` through forward maps, `(B, S, S, C)` uint8: the law of `warp.warp_batch`.

    `pixels` `(bytes,)` uint8 holds images row by row with interleaved channels; `extents` `(B, 3)` int64 is each one's
    first byte, height and width; `matrices` `(B, 3, 3)` float64 maps source -> canvas and has an inverse. A neighbour
    outside its image counts as zero. All tensors are on one device, and nothing waits for it. Coordinates are float32:
    exact where they are whole numbers, else within 1e-3 px for images of up to 4096 px.
    """
    x, y = _sources(matrices, canvas)                                                                    # (B, S, S)
    offset, height, width = (column.view(-1, 1, 1) for column in extents.unbind(dim=1))                  # (B, 1, 1)
    channel = torch.arange(channels, device=pixels.device)
    (left, left_weight), (right, right_weight) = (
        ((index * channels)[..., None] + channel, weight[..., None]) for index, weight in _neighbours(x, width))
    lines = []
    for index, weight in _neighbours(y, height):
        first = (offset + index * (width * channels))[..., None]                                      # (B, S, S, 1)
        line = pixels[first + left] * left_weight + pixels[first + right] * right_weight              # (B, S, S, C)
        lines.append(line * weight[..., None])
    return (lines[0] + lines[1]).round_().to(torch.uint8)


def _sources(matrices: Tensor, canvas: int) -> tuple[Tensor, Tensor]:
    """Where the canvas's pixels come from: x and y, `(B, S, S)` float32, by the inverse maps."""
    a, b, c, d, e, f = (value.view(-1, 1, 1) for value in matrices[:, :2].flatten(start_dim=1).unbind(dim=1))
    determinant = a * e - b * d
    inverse = (e, -b, b * f - c * e, -d, a, c * d - a * f)
    a, b, c, d, e, f = ((value / determinant).float() for value in inverse)                              # (B, 1, 1)
    points = torch.arange(canvas, dtype=torch.float32, device=matrices.device)
    u, v = points, points[:, None]
    return a * u + (b * v + c), d * u + (e * v + f)


def _neighbours(points: Tensor, length: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The two whole coordinates around each point and their weights, zero beyond `[0, length)`, all `(B, S, S)`.

    The indices are int64, so that offsets may pass 2 GiB, and always within the image: a weight of zero alone would
    still read what lies beside it in the buffer, or beyond the buffer's end.
    """
    low, last = points.floor(), (length - 1).float()
    share = points - low
    nearest = [(whole, whole.clamp(min=torch.zeros_like(last), max=last)) for whole in (low, low + 1)]
    return [(inside.long(), weight * (whole == inside))
            for (whole, inside), weight in zip(nearest, (1 - share, share), strict=True)]
