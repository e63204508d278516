"""What a batch is to be predicted as: its labels, and for test rows what the teachers say."""

from collections.abc import Callable

import numpy as np
import torch

from pipeline.training.losses import one_hot

Targets = Callable[[np.ndarray], torch.Tensor]      # rows of the store (B,) -> distributions (B, C) float32


def make_targets(labels: np.ndarray, *, n_classes: int, soft: np.ndarray | None, device: torch.device) -> Targets:
    """Training row i is one-hot at `labels[i]`; test row j of the store, row n_train + j, is `soft[j]`.

    `labels` is `(n_train,)` int64, `soft` `(n_test, C)` or None where no test row is asked for.
    """
    if soft is None:
        return lambda rows: one_hot(torch.from_numpy(labels[rows]).to(device, non_blocking=True), n_classes)
    table = torch.cat([one_hot(torch.from_numpy(labels), n_classes), torch.from_numpy(soft).float()]).to(device)
    return lambda rows: table[torch.from_numpy(rows).to(device, non_blocking=True)]                         # (B, C)
