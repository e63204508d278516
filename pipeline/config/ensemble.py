"""`ensemble:` and `submit:`: how members are combined, scored and written."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.base import Section

MethodName = Literal["uniform", "geometric", "rank", "vote", "weighted_vote", "greedy", "blend"]


class EnsembleConfig(Section):
    """`ensemble:`."""

    metric: Literal["log_loss", "accuracy", "top_5", "macro_f1"] = "log_loss"
    methods: tuple[MethodName, ...] = ("uniform", "geometric", "rank", "vote", "weighted_vote", "greedy", "blend")
    final: Literal["auto"] | MethodName = "auto"    # auto: best nested score; within one standard error the simpler
    greedy_steps: int = Field(50, ge=1, le=1000)
    bootstrap: int = Field(1000, ge=100, le=100_000)
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.methods)) != len(self.methods) or not self.methods:
            raise ValueError("methods: name at least one, each once")
        if self.final != "auto" and self.final not in self.methods:
            raise ValueError(f"final: '{self.final}' is not among ensemble.methods")
        return self


class SubmitConfig(Section):
    """`submit:`."""

    clip: float = Field(1e-15, ge=0, lt=0.01)       # smallest probability that is written; rows are renormalised
    id_column: str = "id"                           # used only without a sample submission
