"""`stackers.<name>:`: a classifier on the penultimate features of the models that it names."""

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.base import Section, parse
from pipeline.errors import UserError, listed, nearest

Handmade = Literal["dimensions", "moments", "haralick"]
Positive = Annotated[float, Field(gt=0)]


class SvmConfig(Section):
    """A one-vs-rest support vector machine with squared hinge loss on standardised features."""

    kind: Literal["svm"]
    models: Literal["all"] | tuple[str, ...] = "all"
    handmade: tuple[Handmade, ...] = ()              # hand-made features, appended to the network's
    c: Positive | Literal["auto"] = 0.2              # of the summed hinge losses against ||w||^2 / 2; auto: inner rows
    kernel: Literal["linear", "rbf", "exact_rbf"] = "linear"    # rbf: by Nystroem's landmarks; exact: up to 8,000 rows
    gamma: Positive | Literal["auto"] = "auto"       # rbf: exp(-gamma |x - y|^2); auto: 1 / median |x - y|^2
    components: int = Field(1000, ge=1)              # rbf: landmarks
    pca: Annotated[int, Field(ge=1)] | None = None


class LightgbmConfig(Section):
    """Gradient boosted trees on principal components; the hessian floor keeps rare classes from diverging."""

    kind: Literal["lightgbm"]
    models: Literal["all"] | tuple[str, ...] = "all"
    handmade: tuple[Handmade, ...] = ()              # hand-made features, appended to the network's
    pca: Annotated[int, Field(ge=1)] | None = 48
    rounds: int = Field(80, ge=1)                    # at most, with patience
    patience: Annotated[int, Field(ge=1)] | None = 5     # rounds without progress on inner rows; null: all rounds
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    leaves: int = Field(15, ge=2)
    min_sum_hessian: Annotated[float, Field(ge=0)] = 5.0
    min_rows: int = Field(5, ge=1)                   # LightGBM's min_data_in_leaf
    bins: int = Field(63, ge=2, le=255)
    feature_share: Annotated[float, Field(gt=0, le=1)] = 0.5


StackerConfig = SvmConfig | LightgbmConfig
KINDS: dict[str, type[SvmConfig] | type[LightgbmConfig]] = {"svm": SvmConfig, "lightgbm": LightgbmConfig}


def parse_stacker(name: str, stackers: dict[str, Any]) -> StackerConfig:
    """The typed section of one stacker; raises UserError."""
    where = f"params.yaml: stackers.{name}"
    if name not in stackers:
        raise UserError(f"params.yaml: stackers: no stacker '{name}'; allowed: {listed(stackers)}"
                        f"{nearest(name, stackers)}")
    raw = stackers[name]
    if not name.replace("_", "").isalnum() or not name.isascii():
        raise UserError(f"{where}: a stacker's name is made of letters, digits and '_'")
    if not isinstance(raw, dict) or raw.get("kind") not in KINDS:
        kind = raw.get("kind") if isinstance(raw, dict) else raw
        raise UserError(f"{where}.kind: unknown value {kind!r}; allowed: {listed(KINDS)}{nearest(kind, KINDS)}")
    return parse(KINDS[raw["kind"]], raw, f"stackers.{name}")
