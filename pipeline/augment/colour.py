"""Changes of colour after RandAugment: a few operations of random strength per image, the linear ones in one pass.

    brightness   x (1 + s)                                posterise   levels of 2^(4 |s|) grey values
    contrast     about the image's mean grey: 1 + s       solarise    255 - x where x is over 255 (1 - |s|)
    saturation   about the pixel's own grey: 1 + s        sharpness   about the 3x3 mean: 1 + s
    hue          turned by 90 s degrees in YIQ

s is uniform in [-magnitude, magnitude]; at 0 each leaves whole grey values as they are. Brightness, contrast,
saturation and hue commute (in YIQ they scale all, the distance from the mean, or the chroma, or turn the chroma), so
any number of them, in any order, is one 3x3 matrix and one shift per image. The law of order: those first, then
sharpness, the clip to [0, 255], posterise, solarise, whichever order they were drawn in.

Source: Cubuk et al. 2019, "RandAugment", figure 2: less the geometric operations, which are the warp's, and those that
equalise; plus hue.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config.model import ColourConfig

OPERATIONS = ("brightness", "contrast", "saturation", "hue", "sharpness", "posterise", "solarise")
QUARTER = np.pi / 2
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))   # its first row is grey


def vary_colour(images: Tensor, *, config: ColourConfig, rng: np.random.Generator) -> Tensor:
    """`config.operations` changes per image, drawn with replacement, clipped to [0, 255]; a new tensor, channels_last.

    `images` `(B, 3 k, H, W)` are floats in [0, 255], k scales of one picture, which all change alike. Raises
    ValueError for other channels.
    """
    n, channels = images.shape[:2]
    if channels % 3:
        raise ValueError(f"images: expected three channels for each scale, found {channels}")
    kinds = rng.integers(len(OPERATIONS), size=(n, config.operations))
    strengths = rng.uniform(-config.magnitude, config.magnitude, size=kinds.shape)
    return apply_colour(images, {name: np.where(kinds == k, strengths, 0.0) for k, name in enumerate(OPERATIONS)})


def apply_colour(images: Tensor, strengths: dict[str, np.ndarray]) -> Tensor:
    """The operations with these strengths, `(B, draws)` for each name in OPERATIONS, 0 where it was not drawn.

    Draws of one operation multiply (hue: add; posterise and solarise: the strongest counts).
    """
    factors = {name: np.prod(1 + strengths[name], axis=1) for name in OPERATIONS[:3]}                          # (B,)
    changed = _linear(images, hue=QUARTER * strengths["hue"].sum(axis=1), **factors)                  # (B, 3 k, H, W)
    _change(changed, np.prod(1 + strengths["sharpness"], axis=1) - 1, _sharpened)
    changed.clamp_(0, 255)
    _change(changed, np.abs(strengths["posterise"]).max(axis=1), _posterised)
    _change(changed, np.abs(strengths["solarise"]).max(axis=1), _solarised)
    return changed


def colour_matrices(*, saturation: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """RGB to RGB, `(B, 3, 3)`: the chroma times `saturation`, turned by `hue` radians; grey stays as it is."""
    to_yiq = np.array(YIQ)
    grey = np.tile(to_yiq[0], (3, 1))
    quarter_turn = np.linalg.inv(to_yiq) @ np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ to_yiq
    along, across = saturation * np.cos(hue), saturation * np.sin(hue)
    return grey + along[:, None, None] * (np.eye(3) - grey) + across[:, None, None] * quarter_turn


def _linear(
    images: Tensor, *, brightness: np.ndarray, contrast: np.ndarray, saturation: np.ndarray, hue: np.ndarray
) -> Tensor:
    """M x + (1 - contrast) brightness g with g the mean grey of the image, not clipped."""
    n, channels, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).reshape(n, -1, 3)                                            # (B, H W k, 3)
    matrices = (brightness * contrast)[:, None, None] * colour_matrices(saturation=saturation, hue=hue)
    columns = torch.from_numpy(matrices).to(images)                                                      # (B, 3, 3)
    shift = torch.from_numpy(brightness * (1 - contrast)).to(images)                                          # (B,)
    grey = (pixels.mean(dim=1) * images.new_tensor(YIQ[0])).sum(dim=1)                                        # (B,)
    changed = (shift * grey)[:, None, None].expand_as(pixels).contiguous()
    for c in range(3):
        changed.addcmul_(pixels[..., c:c + 1], columns[:, None, :, c])
    return changed.view(n, height, width, channels).permute(0, 3, 1, 2)


def _change(images: Tensor, strengths: np.ndarray, operation: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Replaces the images of strength other than 0, in place, by `operation(images, strengths (b, 1, 1, 1))`."""
    rows = np.flatnonzero(strengths)
    if len(rows):
        where = torch.from_numpy(rows).to(images.device)
        images[where] = operation(images[where], torch.from_numpy(strengths[rows]).to(images).view(-1, 1, 1, 1))


def _sharpened(images: Tensor, strength: Tensor) -> Tensor:
    smooth = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return images + strength * (images - smooth)


def _posterised(images: Tensor, strength: Tensor) -> Tensor:
    level = torch.exp2(4 * strength)                                                                     # 1 to 16
    return (images / level).floor() * level


def _solarised(images: Tensor, strength: Tensor) -> Tensor:
    return torch.where(images > 255 * (1 - strength), 255 - images, images)
