"""One more route in the text of a manifest file, with everything else in it left as it is. Pure.

Invariant: text is only added, in one place, so comments and layout stay. Where that place cannot be told for
sure, nothing is made. The caller reads the result as a manifest and compares: this is no proof.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from claude_bottle.manifest.rules_text import ROUTES, plain, routes_text
from claude_bottle.policy.model import Route

if TYPE_CHECKING:
    import yaml

EGRESS = "egress"
_COLON = re.compile(r"\s*:\s*")


class NoPlaceError(ValueError):
    """It cannot be added here by a program; the text says why."""


def into_markdown(text: str, route: Route, note: str) -> str:
    """A bottle's file: front matter between two lines `---`. Raises NoPlaceError."""
    lines = text.split("\n")
    end = next((at for at, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        raise NoPlaceError("it has no front matter")
    front = _into_yaml("\n".join([*lines[1:end], ""]), route, note)
    return "\n".join([lines[0], front + "\n".join(lines[end:])])


def _into_yaml(front: str, route: Route, note: str) -> str:
    """`front` ends with a line break, and so does what comes back."""
    import yaml

    try:
        root = yaml.compose(front, yaml.SafeLoader)
    except yaml.YAMLError:
        raise NoPlaceError("it is not YAML") from None
    item = _item(route, note)
    if root is None:
        return front + _lines([f"{EGRESS}:", f"  {ROUTES}:", *_indented(item, 4)])
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise NoPlaceError("its front matter is written on one line")
    egress = _value(root, EGRESS)
    if egress is None:
        return front + _lines([f"{EGRESS}:", f"  {ROUTES}:", *_indented(item, 4)])
    if not isinstance(egress, yaml.MappingNode) or not egress.value:
        raise NoPlaceError(f"{EGRESS} is empty")
    routes = _value(egress, ROUTES)
    if routes is None:
        if egress.flow_style:
            return _before_end(front, egress, f"{ROUTES}: [{_flow(route)}]", bool(egress.value))
        column = egress.start_mark.column
        return _after(front, egress, [f"{ROUTES}:", *_indented(item, 2)], column)
    if not isinstance(routes, yaml.SequenceNode):
        raise NoPlaceError(f"{EGRESS}.{ROUTES} is empty")
    if routes.flow_style:
        return _before_end(front, routes, _flow(route), bool(routes.value))
    return _after(front, routes, item, routes.start_mark.column)


def _value(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for name, value in mapping.value if name.value == key), None)


def _before_end(front: str, node: yaml.Node, text: str, is_filled: bool) -> str:
    """Inside a list or mapping in brackets, behind what is there."""
    at = node.end_mark.index - 1
    before = front[:at].rstrip()
    comma = ", " if is_filled and not before.endswith(",") else " " if is_filled else ""
    if "#" in before.rpartition("\n")[2]:
        raise NoPlaceError("there is a comment at the end of the list")
    return before + comma + text + front[at:]


def _after(front: str, node: yaml.Node, lines: list[str], column: int) -> str:
    """On lines of their own behind the last thing in it."""
    at = _end_of(node)
    if at == 0 or front[at - 1] != "\n":
        at = front.index("\n", at) + 1
    return front[:at] + _lines(_indented(lines, column)) + front[at:]


def _end_of(node: yaml.Node) -> int:
    """Where the last of its leaves ends; the end mark of a block is where the next thing begins."""
    while isinstance(node.value, list) and node.value and not getattr(node, "flow_style", True):
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    index: int = node.end_mark.index
    return index


def _item(route: Route, note: str) -> list[str]:
    """The lines of a list's item, at the left margin."""
    return routes_text(ROUTES, [(route, note)]).splitlines()[1:]


def _flow(route: Route) -> str:
    return json.dumps(plain(route), ensure_ascii=False)


def _indented(lines: list[str], column: int) -> list[str]:
    return [" " * column + line for line in lines]


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def into_json(text: str, bottle: str, route: Route) -> str:
    """The home's JSON file. Raises NoPlaceError."""
    at = 0
    for depth, key in enumerate(("bottles", bottle, EGRESS, ROUTES)):
        found = _member(text, at, key)
        if found is None:
            if depth < 2:
                raise NoPlaceError(f"it has no bottle {bottle}")
            inner: Any = [plain(route)]
            inner = inner if key == ROUTES else {ROUTES: inner}
            return _first_member(text, at, f"{json.dumps(key)}: {json.dumps(inner, ensure_ascii=False)}")
        at = found
    return _last_item(text, at, _flow(route))


def _member(text: str, at: int, key: str) -> int | None:
    """Where the value of a key begins, in the object that begins at or behind `at`."""
    at = _skip(text, at)
    if text[at : at + 1] != "{":
        raise NoPlaceError("it is not written as expected")
    at = _skip(text, at + 1)
    while text[at : at + 1] == '"':
        name, at = _decoded(text, at)
        colon = _COLON.match(text, at)
        at = colon.end() if colon else at
        if name == key:
            return at
        at = _skip(text, _decoded(text, at)[1])
        at = _skip(text, at + 1) if text[at : at + 1] == "," else at
    return None


def _first_member(text: str, at: int, member: str) -> str:
    at = _skip(text, at) + 1
    space = text[at : _skip(text, at)]
    if text[at + len(space)] == "}":
        return text[:at] + member + text[at + len(space) :]
    return text[:at] + space + member + "," + (space or " ") + text[at + len(space) :]


def _last_item(text: str, at: int, item: str) -> str:
    at = _skip(text, at)
    if text[at : at + 1] != "[":
        raise NoPlaceError(f"{EGRESS}.{ROUTES} is no list")
    space = text[at + 1 : _skip(text, at + 1)]
    end = _decoded(text, at)[1] - 1
    if not text[at + 1 : end].strip():
        return text[: at + 1] + item + text[end:]
    last = len(text[:end].rstrip())
    return text[:last] + "," + (space or " ") + item + text[last:]


def _decoded(text: str, at: int) -> tuple[Any, int]:
    try:
        return json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        raise NoPlaceError("it is not JSON") from None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
