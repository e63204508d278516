"""The state of a fold after an epoch, from which training goes on as if it had never stopped."""

import pickle
from pathlib import Path
from typing import Any

import torch

from pipeline.artefacts import atomic


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings and containers of them, atomically."""
    with atomic(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state, on the CPU, or None where there is none; a file that does not load is deleted and counts as none."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError):
        path.unlink()
        return None
