"""`defaults:` and `models.<name>:`: one CNN variant, from the canvas to the views that it predicts with."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.base import Section, merged, parse
from pipeline.errors import UserError, listed, nearest

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
NAME = re.compile(r"[A-Za-z0-9_-]+")


class AugmentConfig(Section):
    """Ranges of the one composed affine warp (Deep Sea's values are rotation 180, zoom 1.6, shear 20, stretch 1.3)."""

    rotation: float = Field(0.0, ge=0, le=180)      # degrees: uniform in [-rotation, rotation]; 180 is any angle
    translation: float = Field(0.0, ge=0, le=1)     # share of the canvas: uniform in [-translation, translation]
    zoom: float = Field(1.0, ge=1, le=10)           # log-uniform in [1/zoom, zoom]
    shear: float = Field(0.0, ge=0, lt=90)          # degrees: uniform in [-shear, shear]
    stretch: float = Field(1.0, ge=1, le=10)        # log-uniform in [1/stretch, stretch]: x by s, y by 1/s
    flip: float = Field(0.0, ge=0, le=1)            # probability of a left-right mirror


class OptimiserConfig(Section):
    """Weight decay skips biases and normalisation layers."""

    name: Literal["sgd", "adamw"] = "sgd"           # sgd is Nesterov's
    lr: Positive = 0.1
    momentum: Share = 0.9                           # sgd only
    weight_decay: float = Field(5e-4, ge=0)
    clip: Positive | None = None                    # largest norm of the gradient


class ScheduleConfig(Section):
    """Learning rate as a factor of `optimiser.lr` over the steps of the run."""

    name: Literal["cosine", "step", "constant"] = "cosine"
    warmup: Share = 0.1                             # share of all steps, linear from zero
    steps: tuple[Share, ...] = (0.7, 0.9)           # step: shares of all steps after which the rate falls ...
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1   # ... by this factor


class EarlyStoppingConfig(Section):
    """Watches rows held out of the training fold, never the fold that is predicted."""

    patience: int = Field(10, ge=1)                 # epochs without a better holdout log loss
    holdout: Annotated[float, Field(gt=0, lt=0.5)] = 0.1


class TtaConfig(Section):
    """Deterministic views whose probabilities are averaged."""

    kind: Literal["identity", "flips", "dihedral", "affine"] = "identity"
    views: int = Field(8, ge=1, le=256)             # affine only: quasi-random views, the first is the identity
    average: Literal["arithmetic", "geometric"] = "arithmetic"
    scale: float = Field(0.5, ge=0, le=1)           # affine only: the ranges of `augment` times this


class ModelConfig(Section):
    """One entry under `models:` laid over `defaults:`."""

    net: str
    options: dict[str, Any] = Field({})             # keyword arguments of the net's builder
    canvas: int = Field(ge=8, le=1024)              # side of the square input, px
    fit: Literal["longest", "stretch", "fixed"] = "longest"
    fill: float = Field(1.0, gt=0, le=16)           # share of the canvas; fixed: canvas px per image px
    augment: AugmentConfig = AugmentConfig()
    epochs: int = Field(30, ge=1)
    batch: int = Field(128, ge=1)
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    label_smoothing: Share = 0.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.99    # per step; warmed up as min(ema, (1 + t) / (10 + t))
    weights: Literal["ema", "last", "best"] = "ema"
    early_stopping: EarlyStoppingConfig | None = None
    validate_every: int = Field(5, ge=1)            # epochs between looks at the fold's own rows: for the curves only
    tta: TtaConfig = TtaConfig()
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weights == "ema" and self.ema is None:
            raise ValueError("weights: ema needs ema: a decay such as 0.99 (or say weights: last)")
        if self.weights == "best" and self.early_stopping is None:
            raise ValueError("weights: best needs early_stopping: the rows that best is measured on")
        return self


def parse_model(name: str, models: dict[str, Any], defaults: dict[str, Any] | None) -> ModelConfig:
    """The typed section of one model; raises UserError."""
    if name not in models:
        raise UserError(f"params.yaml: models: no model '{name}'; allowed: {listed(models)}{nearest(name, models)}")
    if not NAME.fullmatch(name):
        raise UserError(f"params.yaml: models.{name}: a name is made of letters, digits, '_' and '-'")
    entry = models[name]
    if entry is not None and not isinstance(entry, dict):
        raise UserError(f"params.yaml: models.{name}: expected a mapping, found {entry!r}")
    return parse(ModelConfig, merged(defaults, entry), f"models.{name}")
