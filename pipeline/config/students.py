"""`students:`: models that also learn from test images, with predictions of entries of `models:` as targets.

DVC gives all entries of a `foreach` the same kinds of deps, so what waits for other models has a section of its own.
An entry is a model's section with `pseudo`, which no entry of `models:` has.
"""

from typing import Any

from pipeline.config.base import merged, parse
from pipeline.config.model import NAME, ModelConfig, parse_model
from pipeline.errors import UserError, listed, nearest


def parse_entry(name: str, raw: dict[str, Any]) -> ModelConfig:
    """The typed section of the model or student `name`, from the tree of params.yaml; raises UserError."""
    models, students = raw["models"] or {}, raw["students"] or {}
    if name not in students:
        config = parse_model(name, models if name in models else entries(raw), raw["defaults"])
        if config.pseudo is not None:
            raise UserError(f"params.yaml: models.{name}.pseudo: only students learn from other models, which are "
                            "trained before them; fix: move the entry to students:")
        return config
    if name in models:
        raise UserError(f"params.yaml: students.{name}: models: has an entry of this name too; fix: rename one")
    return _student(name, students, models, raw["defaults"])


def entries(raw: dict[str, Any]) -> dict[str, Any]:
    """The raw entries of `models:`, then those of `students:`."""
    return {**(raw["models"] or {}), **(raw["students"] or {})}


def teacher_names(config: ModelConfig, models: dict[str, Any]) -> list[str]:
    """Keys of `models` that a student learns from, each once, in alphabetical order; none for a model."""
    if config.pseudo is None:
        return []
    return sorted(models if config.pseudo.teacher == "all" else set(config.pseudo.teacher))


def _student(name: str, students: dict[str, Any], models: dict[str, Any], defaults: dict[str, Any]) -> ModelConfig:
    where, entry = f"params.yaml: students.{name}", students[name]
    if not NAME.fullmatch(name):
        raise UserError(f"{where}: a name is made of letters, digits, '_' and '-'")
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected a mapping, found {entry!r}")
    config = parse(ModelConfig, merged(defaults, entry), f"students.{name}")
    if config.pseudo is None:
        raise UserError(f"{where}: a student needs pseudo, such as {{teacher: all, fraction: 0.33}}; "
                        "fix: add it, or move the entry to models:")
    if not teacher_names(config, models):
        raise UserError(f"{where}.pseudo.teacher: names no model; fix: all, or some of {listed(models)}")
    unknown = [teacher for teacher in teacher_names(config, models) if teacher not in models]
    if unknown:
        raise UserError("\n".join(
            f"{where}.pseudo.teacher: '{teacher}' is a student, and students do not teach; fix: one of "
            f"{listed(models)}" if teacher in students else
            f"{where}.pseudo.teacher: no model '{teacher}'; allowed: all or {listed(models)}{nearest(teacher, models)}"
            for teacher in unknown))
    return config
