"""The whole of params.yaml, checked at once: what `check` runs before anything expensive starts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pipeline.config.base import OPTIONAL, Section, parse, read_params
from pipeline.config.data import DataConfig, FoldsConfig
from pipeline.config.ensemble import EnsembleConfig, SubmitConfig
from pipeline.config.foreign import ForeignConfig, parse_foreign
from pipeline.config.model import ModelConfig
from pipeline.config.stacker import StackerConfig, parse_stacker
from pipeline.config.students import parse_entry
from pipeline.errors import UserError, listed, nearest

Value = TypeVar("Value")


class Params(Section):
    """Every section, typed. Stages never take this: each parses the sections that it reads."""

    seed: int
    data: DataConfig
    folds: FoldsConfig
    models: dict[str, ModelConfig]
    students: dict[str, ModelConfig]
    stackers: dict[str, StackerConfig]
    foreign: dict[str, ForeignConfig]
    ensemble: EnsembleConfig
    submit: SubmitConfig

    @property
    def networks(self) -> dict[str, ModelConfig]:
        """Everything that is trained: models, then students."""
        return {**self.models, **self.students}


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
    students_raw = attempt(_named, raw, "students") or {}
    stackers_raw = attempt(_named, raw, "stackers") or {}
    foreign_raw = attempt(_named, raw, "foreign") or {}
    sections = {key: attempt(parse, cls, raw[key], key) for key, cls in (
        ("data", DataConfig), ("folds", FoldsConfig), ("ensemble", EnsembleConfig), ("submit", SubmitConfig))}
    if raw["models"] in (None, {}):
        problems.append("params.yaml: models: empty; fix: add at least one entry, as in presets/digits.yaml")
    problems += [f"params.yaml: {key}: empty, which DVC does not take; fix: leave the section out, or {key}: {{}}"
                 for key in OPTIONAL if raw[key] is None]
    named = {**raw, "models": models_raw, "students": students_raw}
    models = {name: attempt(parse_entry, name, named) for name in models_raw}
    students = {name: attempt(parse_entry, name, named) for name in students_raw}
    networks = {**models, **students}
    stackers = {name: attempt(parse_stacker, name, stackers_raw) for name in stackers_raw}
    foreign = {name: attempt(parse_foreign, name, entry, networks) for name, entry in foreign_raw.items()}
    for name, stacker in stackers.items():
        if stacker is not None and stacker.models != "all":
            problems += [f"params.yaml: stackers.{name}.models: no model '{m}'; allowed: all or {listed(networks)}"
                         f"{nearest(m, networks)}" for m in stacker.models if m not in networks]
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return Params(seed=seed, models=models, students=students, stackers=stackers, foreign=foreign,
                  **sections)


def stacked(stacker: StackerConfig, model: str) -> bool:
    """Whether this stacker works on this model's features."""
    return stacker.models == "all" or model in stacker.models


def member_names(
    networks: dict[str, Any], stackers: dict[str, StackerConfig], foreign: Iterable[str] = ()
) -> list[str]:
    """Members in the order of `networks`: each model or student, its stackers as `model.stacker`; last `foreign`."""
    own = [name for model in networks
           for name in (model, *(f"{model}.{key}" for key, s in stackers.items() if stacked(s, model)))]
    return [*own, *foreign]


def _seed(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise UserError(f"params.yaml: seed: expected a whole number from 0 to 2147483647, found {value!r}")
    return value


def _named(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw[key] if raw[key] is not None else {}
    if not isinstance(value, dict):
        raise UserError(f"params.yaml: {key}: expected a mapping from names to entries, found {value!r}")
    return {str(name): entry for name, entry in value.items()}
