"""The state of a fold after an epoch, from which training goes on as if it had never stopped."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.artefacts import atomic


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings and containers of them, atomically."""
    with atomic(path) as temporary:
        torch.save(state, temporary)


def fill(net: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Copies tensors into the state of the same names and shapes, in place; raises KeyError for one that is missing.

    Unlike `load_state_dict`, which torchvision's MNASNet refuses for a plain dict.
    """
    with torch.no_grad():
        for name, value in net.state_dict().items():
            value.copy_(tensors[name])


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state, on the CPU, or None where there is none; a file that does not load is deleted and counts as none."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError):
        path.unlink()
        return None
