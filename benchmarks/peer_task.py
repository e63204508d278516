"""The task that peers.py sets: one net, one law of augmentation, one optimiser; and a user's loader for it."""

import os
from dataclasses import dataclass

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"    # before the import: it would look for updates over the network

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from synthetic import CLASSES
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pipeline.config.model import AugmentConfig, ModelConfig, OptimiserConfig, ScheduleConfig
from pipeline.nets.registry import build

CANVAS, BATCH = 48, 64
AUGMENT = AugmentConfig(rotation=180, translation=0.1, zoom=1.6, shear=20, flip=0.5)
CONFIG = ModelConfig(
    net="resnet18", options={"width": 16}, canvas=CANVAS, fill=0.9, augment=AUGMENT, batch=BATCH, ema=0.99,
    optimiser=OptimiserConfig(name="sgd", lr=0.05, momentum=0.9, weight_decay=5e-4),
    schedule=ScheduleConfig(name="cosine", warmup=0), validate_every=10_000,
)
MEAN, STD = 0.35, 0.4                           # about those of the images on the canvas, x / 255


@dataclass(frozen=True)
class Task:
    """What one peer is given for one measurement; the images are decoded and in memory."""

    images: list[np.ndarray]    # (h, w, 1) uint8
    labels: np.ndarray          # (N,) int64
    epochs: int
    workers: int                # of the loader
    tuned: bool                 # bf16 and channels_last, else the peer's defaults


class InMemory(Dataset[tuple[Tensor, int]]):
    """Images through an albumentations pipeline, one by one."""

    def __init__(self, task: Task) -> None:
        self.images, self.labels, self.transform = task.images, task.labels.tolist(), transform()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(image=self.images[index])["image"], self.labels[index]


def transform() -> A.Compose:
    """CONFIG's augmentation as a user of albumentations writes it: fit, flip, one affine, normalise, tensor."""
    zoom, shift = AUGMENT.zoom, AUGMENT.translation
    return A.Compose([
        A.LongestMaxSize(round(CONFIG.fill * CANVAS)),
        A.PadIfNeeded(CANVAS, CANVAS, border_mode=cv2.BORDER_CONSTANT),
        A.HorizontalFlip(p=AUGMENT.flip),
        A.Affine(rotate=(-AUGMENT.rotation, AUGMENT.rotation), shear={"x": (-AUGMENT.shear, AUGMENT.shear)},
                 scale=(1 / zoom, zoom), translate_percent=(-shift, shift), p=1),
        A.Normalize(mean=(MEAN,), std=(STD,)),
        ToTensorV2(),
    ])


def loader(task: Task) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches; workers live for all epochs, which is kinder than the default."""
    return DataLoader(InMemory(task), BATCH, shuffle=True, drop_last=True, num_workers=task.workers,
                      persistent_workers=task.workers > 0)


def net(task: Task) -> nn.Module:
    """The trunk and head of CONFIG, as a plain module from images (B, 1, S, S) to logits (B, C)."""
    made = build(CONFIG.net, options=CONFIG.options, n_classes=CLASSES, channels=1, canvas=CANVAS)
    return made.to(memory_format=torch.channels_last) if task.tuned else made  # type: ignore[call-overload]
