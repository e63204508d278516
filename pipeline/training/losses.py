"""What training minimises: L = mean over rows b of sum over classes y of w_y t_by l_y(logits_b), linear in the targets.

So each loss takes one-hot, smoothed, mixed and soft (pseudo-label) targets alike. With s the logits and p = softmax(s):

    cross_entropy    l_y = -log p_y
    focal            l_y = -(1 - p_y)^gamma log p_y          Lin et al. 2017, eq. 4, softmax for their sigmoid
    crammer_singer   l_y = max(0, margin + max_{j != y} s_j - s_y)                      Crammer & Singer 2001, section 3
    weston_watkins   l_y = 1/C sum_{j != y} max(0, margin + s_j - s_y)                  Weston & Watkins 1999, times 1/C
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config.model import LossConfig

Loss = Callable[[Tensor, Tensor], Tensor]   # logits (B, C) float32, targets (B, C) probabilities -> scalar mean
NEVER_SURE = 1e-12                          # smallest 1 - p of the focal loss: its power's slope stays finite


def make_loss(config: LossConfig, *, class_counts: np.ndarray, device: torch.device | str) -> Loss:
    """The loss of `config` with its smoothing and class weights; `class_counts` `(C,)` are those of the training rows.

    Smoothing: t <- (1 - s) t + s / C. The mean is over rows, not over their weights: as torch's cross-entropy with
    probabilities as targets, and equal to it (with indices as targets torch divides by the sum of the rows' weights).
    """
    n_classes, smoothing = len(class_counts), config.smoothing
    weights = torch.tensor(class_weights(class_counts, kind=config.class_weights), dtype=torch.float32, device=device)
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "cross_entropy": cross_entropies,
        "focal": lambda logits: focal_losses(logits, gamma=config.gamma),
        "crammer_singer": lambda logits: crammer_singer_hinges(logits, margin=config.margin),
        "weston_watkins": lambda logits: weston_watkins_hinges(logits, margin=config.margin),
    }
    each = losses[config.name]

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        smoothed = (1 - smoothing) * targets + smoothing / n_classes                                            # (B, C)
        return (smoothed * weights * each(logits)).sum(dim=1).mean()

    return loss


def one_hot(labels: Tensor, n_classes: int) -> Tensor:
    """Class indices `(B,)` int64 as distributions `(B, n_classes)` float32."""
    return F.one_hot(labels, n_classes).to(torch.float32)


def class_weights(counts: np.ndarray, *, kind: str | None) -> np.ndarray:
    """`(C,)` float64: proportional to 1 / count ("balanced"), 1 / sqrt(count) ("sqrt"), or 1 (None); mean over rows 1.

    A class without rows weighs nothing, or smoothing, which reaches every class, would push hardest towards the one
    that is never seen. Raises ValueError where no class has rows.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if kind is None:
        return np.ones(len(counts))
    if not counts.any():
        raise ValueError(f"class_counts: expected a class with rows, found {len(counts)} without")
    power = {"balanced": -1.0, "sqrt": -0.5}[kind]
    weights = np.power(counts, power, where=counts > 0, out=np.zeros(len(counts)))
    return weights * counts.sum() / (weights @ counts)


def cross_entropies(logits: Tensor) -> Tensor:
    """`(B, C)` nats: the loss of each row, were its class y."""
    return -logits.log_softmax(dim=1)


def focal_losses(logits: Tensor, *, gamma: float) -> Tensor:
    """`(B, C)` nats: cross-entropies, less for what is predicted well already; gamma 0 is the cross-entropy."""
    log_p = logits.log_softmax(dim=1)
    return -(-log_p.expm1()).clamp(min=NEVER_SURE).pow(gamma) * log_p


def crammer_singer_hinges(logits: Tensor, *, margin: float) -> Tensor:
    """`(B, C)`: how far class y is from leading its strongest rival by `margin`; needs two classes."""
    values, indices = logits.topk(2, dim=1)                                                                     # (B, 2)
    leads = torch.arange(logits.shape[1], device=logits.device) == indices[:, :1]                               # (B, C)
    rival = torch.where(leads, values[:, 1:], values[:, :1])                                                    # (B, C)
    return (margin + rival - logits).relu()


def weston_watkins_hinges(logits: Tensor, *, margin: float) -> Tensor:
    """`(B, C)`: how far class y is from leading each rival by `margin`, summed over rivals and divided by C.

    C as in torch's multi_margin_loss, not C - 1: then the gradient at equal logits is the cross-entropy's, so that
    one learning rate suits both. Takes B C^2 numbers of memory.
    """
    gaps = margin + logits[:, None, :] - logits[:, :, None]                                                  # (B, C, C)
    return (gaps.relu().sum(dim=2) - margin) / logits.shape[1]                      # less the term of y against itself
