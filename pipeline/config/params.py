"""The whole of params.yaml, checked at once: what `check` runs before anything expensive starts."""

from pathlib import Path
from typing import Any, TypeVar

from pipeline.config.base import Section, parse, read_params
from pipeline.config.data import DataConfig, FoldsConfig
from pipeline.config.ensemble import EnsembleConfig, SubmitConfig
from pipeline.config.model import ModelConfig, parse_model
from pipeline.config.stacker import StackerConfig, parse_stacker
from pipeline.errors import UserError, listed, nearest

Value = TypeVar("Value")


class Params(Section):
    """Every section, typed. Stages never take this: each parses the sections that it reads."""

    seed: int
    data: DataConfig
    folds: FoldsConfig
    models: dict[str, ModelConfig]
    stackers: dict[str, StackerConfig]
    ensemble: EnsembleConfig
    submit: SubmitConfig


def load_params(path: Path) -> Params:
    """params.yaml as typed sections; raises one UserError with a line for every mistake in the file."""
    raw = read_params(path)
    problems: list[str] = []

    def attempt(make: Any, *arguments: Any) -> Any:
        try:
            return make(*arguments)
        except UserError as error:
            problems.extend(str(error).splitlines())
            return None

    seed = attempt(_seed, raw["seed"])
    models_raw = attempt(_named, raw, "models") or {}
    stackers_raw = attempt(_named, raw, "stackers") or {}
    sections = {key: attempt(parse, cls, raw[key], key) for key, cls in (
        ("data", DataConfig), ("folds", FoldsConfig), ("ensemble", EnsembleConfig), ("submit", SubmitConfig))}
    if raw["models"] in (None, {}):
        problems.append("params.yaml: models: empty; fix: add at least one entry, as in presets/digits.yaml")
    models = {name: attempt(parse_model, name, models_raw, raw["defaults"]) for name in models_raw}
    stackers = {name: attempt(parse_stacker, name, stackers_raw) for name in stackers_raw}
    for name, stacker in stackers.items():
        if stacker is not None and stacker.models != "all":
            problems += [f"params.yaml: stackers.{name}.models: no model '{m}'; allowed: all or {listed(models)}"
                         f"{nearest(m, models)}" for m in stacker.models if m not in models]
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return Params(seed=seed, models=models, stackers=stackers, **sections)


def stacked(stacker: StackerConfig, model: str) -> bool:
    """Whether this stacker works on this model's features."""
    return stacker.models == "all" or model in stacker.models


def member_names(models: dict[str, Any], stackers: dict[str, StackerConfig]) -> list[str]:
    """Members in the order of params.yaml: each model, followed by its stackers as `model.stacker`."""
    return [name for model in models
            for name in (model, *(f"{model}.{key}" for key, s in stackers.items() if stacked(s, model)))]


def _seed(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise UserError(f"params.yaml: seed: expected a whole number from 0 to 2147483647, found {value!r}")
    return value


def _named(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw[key] if raw[key] is not None else {}
    if not isinstance(value, dict):
        raise UserError(f"params.yaml: {key}: expected a mapping from names to entries, found {value!r}")
    return {str(name): entry for name, entry in value.items()}
