"""`defaults:` and `models.<name>:`: one CNN variant, from the canvas to the views that it predicts with."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.base import Section, merged, parse
from pipeline.errors import UserError, listed, nearest

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Area = Annotated[float, Field(gt=0, lt=1)]
NAME = re.compile(r"[A-Za-z0-9_-]+")


LATER = {"tta", "seeds", "calibrate"}       # of a model's section: no part in the training of one network


class AugmentConfig(Section):
    """Ranges of the one composed affine warp (Deep Sea's values are rotation 180, zoom 1.6, shear 20, stretch 1.3)."""

    rotation: float = Field(0.0, ge=0, le=180)      # degrees: uniform in [-rotation, rotation]; 180 is any angle
    translation: float = Field(0.0, ge=0, le=1)     # share of the canvas: uniform in [-translation, translation]
    zoom: float = Field(1.0, ge=1, le=10)           # log-uniform in [1/zoom, zoom]
    shear: float = Field(0.0, ge=0, lt=90)          # degrees: uniform in [-shear, shear]
    stretch: float = Field(1.0, ge=1, le=10)        # log-uniform in [1/stretch, stretch]: x by s, y by 1/s
    flip: float = Field(0.0, ge=0, le=1)            # probability of a left-right mirror


class EraseConfig(Section):
    """Random erasing: a rectangle of the image is replaced by noise (Zhong et al. 2017, algorithm 1)."""

    probability: Annotated[float, Field(gt=0, le=1)] = 0.5
    area: tuple[Area, Area] = (0.02, 0.33)          # share of the canvas: uniform between these
    aspect: float = Field(3.3, ge=1, le=20)         # height : width log-uniform in [1/aspect, aspect]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.area[0] > self.area[1]:
            raise ValueError("area: the first share is above the second")
        return self


class ColourConfig(Section):
    """Colour changes of RGB images, after RandAugment (Cubuk et al. 2019): some operations, one magnitude."""

    operations: int = Field(2, ge=1, le=8)          # drawn for each image, with replacement
    magnitude: Annotated[float, Field(gt=0, le=1)] = 0.3


class MixConfig(Section):
    """Two training images in one, with their labels: each batch takes one of the kinds that are on."""

    mixup: Positive | None = None                   # alpha of Beta(alpha, alpha), Zhang et al. 2017
    cutmix: Positive | None = None                  # alpha, Yun et al. 2019
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0   # of mixing a batch at all

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.mixup is None and self.cutmix is None:
            raise ValueError("neither mixup nor cutmix has an alpha such as 0.2 (or say mix: null)")
        return self


class LossConfig(Section):
    """What is minimised; every loss is linear in the target's probabilities, so each takes smoothed and mixed ones."""

    name: Literal["cross_entropy", "focal", "crammer_singer", "weston_watkins"] = "cross_entropy"
    smoothing: Share = 0.0                          # share of the target that is spread evenly over the classes
    gamma: float = Field(2.0, ge=0, le=10)          # focal: (1 - p) ** gamma
    margin: Positive = 1.0                          # the two hinge losses
    class_weights: Literal["balanced", "sqrt"] | None = None   # 1 / count, or its root; the mean over rows is 1


class OptimiserConfig(Section):
    """Weight decay skips biases and normalisation layers."""

    name: Literal["sgd", "adamw"] = "sgd"           # sgd is Nesterov's
    lr: Positive = 0.1
    momentum: Share = 0.9                           # adamw: of the first moment, its beta_1
    weight_decay: float = Field(5e-4, ge=0)
    clip: Positive | None = None                    # largest norm of the gradient


class ScheduleConfig(Section):
    """Learning rate as a factor of `optimiser.lr` over the steps of the run."""

    name: Literal["cosine", "step", "constant", "one_cycle", "plateau"] = "cosine"
    warmup: Share = 0.1                             # share of all steps, linear from zero; one_cycle: the rise
    steps: tuple[Share, ...] = (0.7, 0.9)           # step: shares of all steps after which the rate falls ...
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1   # ... by this factor; plateau: too
    patience: int = Field(5, ge=1)                  # plateau: epochs without progress before it falls
    cycles: int = Field(1, ge=1, le=100)            # cosine: falls this often, from the top each time
    floor: Share = 0.0                              # cosine, one_cycle: what the factor falls to


class EarlyStoppingConfig(Section):
    """Watches rows held out of the training fold, never the fold that is predicted."""

    patience: int = Field(10, ge=1)                 # epochs without progress in the holdout log loss
    min_delta: float = Field(0.0, ge=0)             # nats: a loss that is lower by more than this is progress
    holdout: Annotated[float, Field(gt=0, lt=0.5)] = 0.1


class PseudoConfig(Section):
    """Learning from test images with teachers' soft predictions as targets; fold k's teachers never saw fold k."""

    teacher: Literal["all"] | tuple[str, ...] = "all"   # keys under models:
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.33    # of each batch (Deep Sea, NDSB 2015: a third)


class TtaConfig(Section):
    """Deterministic views whose probabilities are averaged."""

    kind: Literal["identity", "flips", "dihedral", "crops", "affine"] = "identity"
    views: int = Field(8, ge=1, le=256)             # affine only: quasi-random views, the first is the identity
    average: Literal["arithmetic", "geometric"] = "arithmetic"
    scale: float = Field(0.5, ge=0, le=1)           # affine only: the ranges of `augment` times this
    crop: Area = 0.875                              # crops only: side of a crop as a share of the canvas


class ScaleConfig(Section):
    """One more scale at which a network sees the image: as `fit` and `fill` of the model."""

    fit: Literal["longest", "stretch", "fixed"] = "fixed"
    fill: float = Field(1.0, gt=0, le=16)


class HeadConfig(Section):
    """What is trained on the features of a frozen network."""

    name: Literal["linear", "dense"] = "linear"
    width: int = Field(256, ge=1)                   # dense only: one hidden layer of ReLUs
    dropout: Share = 0.0


class ModelConfig(Section):
    """One entry under `models:` laid over `defaults:`."""

    net: str
    options: dict[str, Any] = Field({})             # keyword arguments of the net's builder
    canvas: int = Field(ge=8, le=1024)              # side of the square input, px
    fit: Literal["longest", "stretch", "fixed"] = "longest"
    fill: float = Field(1.0, gt=0, le=16)           # share of the canvas; fixed: canvas px per image px
    scales: tuple[ScaleConfig, ...] = ()            # further scales, stacked behind the image's channels
    handmade: tuple[Literal["dimensions", "moments", "haralick"], ...] = ()   # hand-made features, fused late
    whiten: Literal["pca", "zca"] | None = None     # by training-fold statistics; pca only for nets on flat pixels
    pretrained: bool | str = False                  # true: the zoo's own weights; or a file below pretrained/
    freeze: str | None = None                       # all | until:<layer>
    head: HeadConfig | None = None                  # freeze: all only
    seeds: int = Field(1, ge=1, le=100)             # replicas, averaged into one member
    augment: AugmentConfig = AugmentConfig()
    erase: EraseConfig | None = None
    colour: ColourConfig | None = None
    mix: MixConfig | None = None
    sampling: Literal["natural", "sqrt", "balanced"] = "natural"   # of classes within an epoch
    loss: LossConfig = LossConfig()
    epochs: int = Field(30, ge=1)
    batch: int = Field(128, ge=1)
    accumulate: int = Field(1, ge=1)                # batches whose gradients are averaged into one step
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.99    # per step; warmed up as min(ema, (1 + t) / (10 + t))
    swa: int | None = Field(None, ge=1)             # epochs, the last ones, whose final weights are averaged evenly
    weights: Literal["ema", "swa", "last", "best"] = "ema"
    snapshots: int = Field(1, ge=1)                 # networks kept, from the ends of the last cycles, and averaged
    early_stopping: EarlyStoppingConfig | None = None
    validate_every: int = Field(5, ge=1)            # epochs between looks at the fold's own rows: for the curves only
    tta: TtaConfig = TtaConfig()
    calibrate: Literal["auto", "none", "temperature"] = "auto"     # auto: a temperature for hinge losses only
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False                           # by torch.compile, which needs a C++ compiler
    pseudo: PseudoConfig | None = None              # only under students:

    @property
    def calibrated(self) -> bool:
        """Whether predictions get a temperature, fitted on the other folds' out-of-fold rows."""
        hinge = self.loss.name in ("crammer_singer", "weston_watkins")
        return self.calibrate == "temperature" or (self.calibrate == "auto" and hinge)

    @property
    def frozen(self) -> bool:
        """Whether only a head is trained, on features that are computed once."""
        return self.freeze == "all"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weights == "ema" and self.ema is None:
            raise ValueError("weights: ema needs ema: a decay such as 0.99 (or say weights: last)")
        if self.weights == "best" and self.early_stopping is None:
            raise ValueError("weights: best needs early_stopping: the rows that best is measured on")
        if self.weights == "swa" and self.swa is None:
            raise ValueError("weights: swa needs swa: a number of epochs such as 5 (or say weights: last)")
        if self.snapshots > 1 and (self.schedule.name != "cosine" or self.schedule.cycles < self.snapshots):
            raise ValueError(f"snapshots: {self.snapshots} needs schedule: {{name: cosine, cycles: n}} with n of at "
                             f"least {self.snapshots}")
        if self.snapshots > 1 and (self.early_stopping or self.weights == "swa"):
            raise ValueError("snapshots does not go together with early_stopping and weights: swa")
        if self.swa is not None and self.early_stopping:
            raise ValueError("swa does not go together with early_stopping: the last epochs are not known beforehand")
        if self.pseudo and self.batch < 2:
            raise ValueError("pseudo needs a batch of at least 2: a labelled image and a test image")
        if self.schedule.cycles > self.epochs:
            raise ValueError(f"schedule.cycles: {self.schedule.cycles} is more than the {self.epochs} epochs")
        if self.freeze is not None and not re.fullmatch(r"all|until:.+", self.freeze):
            raise ValueError(f"freeze: '{self.freeze}' is neither all nor until:<layer> nor null")
        if self.freeze is not None and not self.pretrained:
            raise ValueError("freeze needs pretrained: true or a file (random weights are not worth keeping)")
        if self.head is not None and not self.frozen:
            raise ValueError("head: only for freeze: all (else the net's own head is trained)")
        if self.mix and self.handmade:
            raise ValueError("mix does not go together with handmade: two images in one have no such features")
        if self.frozen and (self.mix or self.erase or self.colour or self.whiten or self.handmade or self.scales):
            raise ValueError("freeze: all computes features once, from plain images; it does not go together with "
                             "mix, erase, colour, whiten, handmade and scales")
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
