"""`foreign.<name>:`: a member that another tool made; `pipeline import-member` writes the entry and foreign/<name>/."""

from collections.abc import Iterable
from typing import Any, Literal, get_args

from pipeline.config.base import FORBIDDEN, Section, parse
from pipeline.config.model import NAME
from pipeline.errors import UserError

Kind = Literal["probabilities", "votes"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class ForeignConfig(Section):
    """What its rows are: probabilities, or one-hot votes, which take part in methods that count votes only."""

    kind: Kind = "probabilities"


def parse_foreign(name: str, entry: Any, networks: Iterable[str]) -> ForeignConfig:
    """The typed entry of one foreign member; raises UserError, also for a name of `networks`, models or students."""
    where = f"params.yaml: foreign.{name}"
    if not NAME.fullmatch(name):
        raise UserError(f"{where}: a name is made of letters, digits, '_' and '-'")
    if name in FORBIDDEN:
        raise UserError(f"{where}: '{name}' is a name that DVC's run-cache ignores; fix: another name")
    if name in networks:
        raise UserError(f"{where}: models: or students: has an entry of this name too; fix: rename one")
    return parse(ForeignConfig, entry, f"foreign.{name}")
