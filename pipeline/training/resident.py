"""Images that stay on the device: the store's pixels are moved there once, and every batch is warped there."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.augment.device_warp import warp_flat
from pipeline.data.store import Packed
from pipeline.training.feed import Feed, Images

AHEAD = 3           # batches
ROOM = 1 / 16       # of a GPU's memory, at most, for the pixels: several processes share it, each with a copy
_stores: dict[str, tuple[str, torch.Tensor]] = {}       # device -> digest and pixels of the store that it holds


def placed(images: Images, device: str) -> "Images | ResidentImages":
    """The feed for a network on `device`: resident on a GPU with room for the store, else the images as they are."""
    if not device.startswith("cuda"):
        return images
    memory = torch.cuda.get_device_properties(device).total_memory
    return ResidentImages(images, device) if len(images.packed.pixels) <= ROOM * memory else images


def batches_ahead(feed: Feed, device: str) -> int:
    """How many batches a thread prepares on the host while a GPU computes; none where they are made on the GPU."""
    return AHEAD if device.startswith("cuda") and not isinstance(feed, ResidentImages) else 0


@dataclass(frozen=True)
class ResidentImages:
    """`images` as tensors on `device`: the same order, draws and maps, warped there within rounding of `warp_batch`.

    Batches are `(B, S, S, C)` uint8 and, where the images have side features, `(B, F)`. Each has memory of its own,
    so `buffers` says nothing here, and there is nothing to prefetch: no batch waits for the device.
    """

    images: Images
    device: str

    @property
    def n_views(self) -> int:
        """V."""
        return self.images.n_views

    @property
    def starts_plain(self) -> bool:
        """As the images do."""
        return self.images.starts_plain

    def drawn(
        self, rows: np.ndarray, rng: np.random.Generator, *, batch: int, buffers: int = 1
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """`rng` is used up before the first batch, exactly as by `Images.drawn`."""
        return self._warped(rows, self.images.drawn_maps(rows, rng), batch=batch)

    def view(
        self, rows: np.ndarray, view: int | None, *, batch: int, buffers: int = 1
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """The last batch may be smaller."""
        return self._warped(rows, self.images.view_maps(rows, view), batch=batch)

    def _warped(self, rows: np.ndarray, maps: np.ndarray, *, batch: int) -> Iterator[tuple[torch.Tensor, ...]]:
        """Maps, extents and side features of all the rows go to the device at once, before the first batch."""
        packed, canvas, side = self.images.packed, self.images.config.canvas, self.images.side
        pixels = resident_pixels(packed, self.device)
        table = packed.table[["offset", "height", "width"]].to_numpy(np.int64)
        extents = torch.from_numpy(table[rows]).to(self.device)                                              # (N, 3)
        matrices = torch.from_numpy(maps).to(self.device)                                           # (scales, N, 3, 3)
        features = None if side is None else torch.from_numpy(np.asarray(side[rows])).to(self.device)        # (N, F)
        for start in range(0, len(rows), batch):
            part = slice(start, start + batch)
            warped = [warp_flat(pixels, extents[part], matrices=scale[part], canvas=canvas, channels=packed.channels)
                      for scale in matrices]
            images = warped[0] if len(warped) == 1 else torch.cat(warped, dim=-1)                     # (B, S, S, C)
            yield (images,) if features is None else (images, features[part])


def resident_pixels(packed: Packed, device: str) -> torch.Tensor:
    """All pixels of the store on `device`, `(bytes,)` uint8: moved once per process, until another store is asked for.

    One store is kept per device: a worker process lives through the jobs of many models, which share theirs.
    """
    digest, pixels = _stores.get(device, (None, None))
    if pixels is None or digest != packed.digest:
        _stores.pop(device, None)       # before the next one takes its place
        del pixels
        pixels = torch.tensor(packed.pixels, device=device)
        _stores[device] = (packed.digest, pixels)
    return pixels
