"""One entry of params.yaml set in its text: every other line keeps its bytes, comments and all."""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from pipeline.errors import UserError


def with_entry(text: str, section: str, *, name: str, entry: dict[str, Any]) -> str:
    """`text` of a YAML mapping with `section.name` equal to `entry`; a section that is not there comes last.

    Outside the section no byte changes; inside it ruamel.yaml keeps comments and the indentation. An entry that is
    equal already leaves the text as it is. Raises UserError where the text cannot be changed so, as with anchors.
    """
    before = _tree(text)
    wanted = {**before, section: {**(before.get(section) or {}), name: entry}}
    if before == wanted:
        return text
    by_hand = UserError(f"params.yaml: {section}.{name} cannot be written without touching other lines; "
                        f"fix: add it by hand, {section}: {_flow({name: entry})}, and run the command again")
    try:
        changed = _spliced(text, section, name, entry)
        if _tree(changed) == wanted:
            return changed
    except YAMLError:
        raise by_hand from None
    raise by_hand


def _spliced(text: str, section: str, name: str, entry: dict[str, Any]) -> str:
    ending = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    keys = YAML().load(text).lc.data                    # key -> its line and column, its value's line and column
    if section not in keys:
        gap = "" if text.endswith(ending) else ending
        return f"{text}{gap}{ending}{section}:{ending}  {_flow({name: entry})[1:-1]}{ending}"
    start = keys[section][0]
    end = min((line for line, *_ in keys.values() if line > start), default=len(lines))
    while lines[end - 1].strip() == "" or lines[end - 1].startswith("#"):      # what stands above the next section
        end -= 1
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    part = yaml.load("".join(lines[start:end]))
    entries = part[section]
    if entries:
        yaml.map_indent = max(entries.lc.key(next(iter(entries)))[1], 2) if not entries.fa.flow_style() else 2
    old = entries.get(name)
    if isinstance(old, CommentedMap) and set(old) <= set(entry):
        old.update(entry)
    else:
        entries[name] = CommentedMap(entry)
        entries[name].fa.set_flow_style()
    stream = io.StringIO()
    yaml.dump(part, stream)
    return "".join([*lines[:start], stream.getvalue().replace("\n", ending), *lines[end:]])


def _flow(entry: dict[str, Any]) -> str:
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.dump(entry, stream)
    return stream.getvalue().strip()


def _tree(text: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(text)
