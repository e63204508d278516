"""`ensemble:` and `submit:`: how members are combined, scored and written."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from pipeline.config.base import Section
from pipeline.errors import listed, nearest

MEANS = ("uniform", "geometric", "power", "rank")
VOTES = ("vote", "soft_vote", "weighted_vote")
WEIGHTS = ("greedy", "blend", "class_weights")
SECOND_LEVEL = ("stack_logistic", "stack_svm", "stack_lightgbm")
METHODS = (*MEANS, *VOTES, *WEIGHTS, *SECOND_LEVEL)             # from simple to complex
CALIBRATIONS = ("temperature", "vector", "dirichlet")           # behind a method's name: geometric+temperature
DEFAULT = (*MEANS, *VOTES, "greedy", "blend", "geometric+temperature", "blend+temperature", "class_weights+vector",
           "stack_logistic", "stack_lightgbm")


class EnsembleConfig(Section):
    """`ensemble:`."""

    metric: Literal["log_loss", "accuracy", "top_5", "macro_f1"] = "log_loss"
    methods: tuple[str, ...] = DEFAULT
    final: str = "auto"                             # auto: best nested score; within one standard error the simpler
    greedy_steps: int = Field(50, ge=1, le=1000)
    greedy_bags: int = Field(20, ge=1, le=1000)     # 1: one bag of all members
    greedy_share: Annotated[float, Field(gt=0, le=1)] = 0.8     # of the members in each bag
    shrinkage: Annotated[float, Field(ge=0)] = 1.0  # of class_weights, stack_*, vector and dirichlet
    repeats: int = Field(3, ge=0, le=100)           # further partitions of the rows that the nested score is taken over
    bootstrap: int = Field(1000, ge=100, le=100_000)
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for name in methods:
            base, plus, calibration = name.partition("+")
            if base not in METHODS:
                raise ValueError(f"unknown method '{base}'; allowed: {listed(METHODS, limit=len(METHODS))}"
                                 f"{nearest(base, METHODS)}")
            if plus and calibration not in CALIBRATIONS:
                raise ValueError(f"unknown calibration '{calibration}' behind '{base}'; "
                                 f"allowed: {listed(CALIBRATIONS)}{nearest(calibration, CALIBRATIONS)}")
        if len(set(methods)) != len(methods) or not methods:
            raise ValueError("name at least one, each once")
        return methods

    @field_validator("final")
    @classmethod
    def _one_of_them(cls, final: str, info: ValidationInfo) -> str:
        methods = info.data.get("methods", ())
        if methods and final not in ("auto", *methods):
            raise ValueError(f"'{final}' is not among ensemble.methods; allowed: auto or "
                             f"{listed(methods, limit=len(methods))}{nearest(final, methods)}")
        return final


class SubmitConfig(Section):
    """`submit:`."""

    clip: float = Field(1e-15, ge=0, lt=0.01)       # smallest probability that is written; rows are renormalised
    id_column: str = "id"                           # used only without a sample submission
