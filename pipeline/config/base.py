"""Reading params.yaml strictly: frozen sections, unknown keys forbidden, every mistake one clear line."""

from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import UserError, listed, nearest

SECTIONS = ("seed", "data", "folds", "defaults", "models", "stackers", "ensemble", "submit")
OPTIONAL = ("students", "foreign")     # dvc.yaml has the same defaults in its `vars`: empty mappings
FORBIDDEN = {"size": "canvas or image_size", "nfiles": "file_count"}  # DVC's run-cache ignores them: dvc#10296


class Section(BaseModel):
    """A frozen section that knows no other keys than its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=Section)


def read_params(path: Path) -> dict[str, Any]:
    """The raw tree of params.yaml: all top-level sections present, no others, no forbidden names.

    Optional sections that are left out are empty mappings. Parsed with the library that DVC uses, so both read the
    same values. Raises UserError.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; fix: cp presets/digits.yaml {path}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping with the sections {listed(SECTIONS)}")
    allowed = (*SECTIONS, *OPTIONAL)
    problems = [
        f"{path}: unknown section '{key}'; allowed: {listed(allowed, limit=len(allowed))}{nearest(key, allowed)}"
        for key in tree if key not in allowed
    ]
    problems += [f"{path}: section '{key}' is missing; fix: copy it from presets/digits.yaml"
                 for key in SECTIONS if key not in tree]
    problems += [f"{path}: {where} is a name that DVC's run-cache ignores; fix: say {FORBIDDEN[where.split('.')[-1]]}"
                 for where in _forbidden_names(tree, "")]
    if problems:
        raise UserError("\n".join(problems))
    return {**{key: {} for key in OPTIONAL}, **tree}


def parse(section: type[AnySection], raw: Any, where: str) -> AnySection:
    """`raw` as a typed section; raises UserError with one line per mistake: key, allowed set, nearest match."""
    if not isinstance(raw, dict):
        raise UserError(f"params.yaml: {where}: expected a mapping, found {raw!r}")
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        raise UserError("\n".join(_line(section, e, where) for e in error.errors())) from None


def merged(defaults: dict[str, Any] | None, entry: dict[str, Any] | None) -> dict[str, Any]:
    """`entry` over `defaults`, mapping by mapping; anything that is no mapping in either is replaced whole."""
    result = dict(defaults or {})
    for key, value in (entry or {}).items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def _forbidden_names(tree: Any, where: str) -> list[str]:
    if isinstance(tree, list):
        return [n for item in tree for n in _forbidden_names(item, where)]
    if not isinstance(tree, dict):
        return []
    found = []
    for key, value in tree.items():
        path = f"{where}.{key}".lstrip(".")
        found += ([path] if key in FORBIDDEN else []) + _forbidden_names(value, path)
    return found


def _line(section: type[Section], error: Any, where: str) -> str:
    location = [str(part) for part in error["loc"]]
    path = ".".join([where, *location])
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(section, location[:-1])
        return f"params.yaml: {path}: unknown key; allowed: {listed(allowed, limit=30)}{nearest(location[-1], allowed)}"
    if error["type"] == "missing":
        return f"params.yaml: {path}: missing; fix: add it"
    if error["type"] == "literal_error":
        allowed = [a.strip().strip("'") for a in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"params.yaml: {path}: unknown value {error['input']!r}; allowed: {listed(allowed, limit=30)}" \
               f"{nearest(error['input'], allowed)}"
    return f"params.yaml: {path}: {error['msg'].removeprefix('Value error, ')}; found {error['input']!r}"


def _fields_at(section: type[Section], location: list[str]) -> list[str]:
    """Field names of the section that `location` leads to inside `section`."""
    current: type[Section] = section
    for part in location:
        field = current.model_fields.get(part)
        candidates = [] if field is None else [field.annotation, *get_args(field.annotation)]
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, Section)]
        current = inner[0] if inner else current
    return list(current.model_fields)
