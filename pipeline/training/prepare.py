"""From a batch as it was warped to what the network is given in training: colour, normalise, erase, mix."""

from collections.abc import Callable

import numpy as np
import torch

from pipeline.augment.colour import vary_colour
from pipeline.augment.erase import erase
from pipeline.augment.mix import mix_batch
from pipeline.config.model import ModelConfig
from pipeline.training.batches import to_tensors
from pipeline.training.feed import Inputs
from pipeline.training.targets import Targets

Tensors = tuple[torch.Tensor, ...]
Preparation = Callable[[Inputs, np.ndarray], tuple[Tensors, torch.Tensor]]


def make_preparation(
    config: ModelConfig, *, mean: torch.Tensor, std: torch.Tensor, targets_of: Targets, rng: np.random.Generator
) -> Preparation:
    """A function of inputs and their rows `(B,)` that gives a network's arguments and the targets `(B, C)`.

    All its random numbers come from `rng`, in the order of the batches. `mean` and `std` are `(C, 1, 1)`.
    """
    colour = config.colour
    recolour = None if colour is None else lambda images: vary_colour(images, config=colour, rng=rng)

    def prepare(inputs: Inputs, rows: np.ndarray) -> tuple[Tensors, torch.Tensor]:
        targets = targets_of(rows)                                                                           # (B, C)
        images, *side = to_tensors(inputs, mean=mean, std=std, recolour=recolour)
        if config.erase is not None:
            images = erase(images, config=config.erase, rng=rng)
        if config.mix is not None:
            images, targets = mix_batch(images, targets, config=config.mix, rng=rng)
        return (images, *side), targets

    return prepare
