"""YAML front matter and JSON as plain data, each key with its place in the file.

Invariant: never raises on any text. Of YAML only the part that JSON has too is taken: no
aliases, tags or merge keys, no key twice, a bounded depth; so no text can grow, run or recurse.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from claude_bottle.manifest.problems import KeyPath, Position, Problem, dotted, show

if TYPE_CHECKING:
    import yaml

MAX_DEPTH = 20
MAX_FRONT_MATTER = 1 << 16

_YAML = "tag:yaml.org,2002:"
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


class Document:
    """What one file says. With problems, `data` is not to be used."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.data: Any = None
        self.body = ""
        self.body_line = 1
        self.positions: dict[KeyPath, Position] = {}
        self.problems: list[Problem] = []

    def wrong(self, line: int, column: int, message: str, hint: str = "", path: KeyPath = ()) -> None:
        where = str(Position(self.file, line, column))
        self.problems.append(Problem(where, dotted(path), message, hint))


def read_markdown(text: str, file: str, root: KeyPath = ()) -> Document:
    """Front matter between two lines `---`, then the body. Key paths begin with `root`."""
    document = Document(file)
    document.positions[root] = Position(file, 1, 1)
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        document.wrong(1, 1, 'does not begin with front matter: YAML between two lines "---"')
        return document
    end = next((at for at, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        document.wrong(1, 1, 'the front matter has no second line "---"')
        return document
    document.body = "\n".join(lines[end + 1 :]).strip()
    blank = next((at for at, line in enumerate(lines[end + 1 :]) if line.strip()), 0)
    document.body_line = end + 2 + blank
    front = "\n".join(lines[1:end])
    if len(front) > MAX_FRONT_MATTER:
        document.wrong(1, 1, "the front matter is longer than 64 KiB")
        return document
    _FrontMatter(document).read(front, root)
    return document


def read_yaml(text: str, file: str) -> Document:
    """A whole file of YAML, by the rules for front matter; key paths begin at its root."""
    document = Document(file)
    document.positions[()] = Position(file, 1, 1)
    if len(text) > MAX_FRONT_MATTER:
        document.wrong(1, 1, "longer than 64 KiB")
    else:
        _FrontMatter(document, first_line=1).read(text, ())
    return document


def read_json(text: str, file: str) -> Document:
    """A JSON text; key paths begin at its root."""
    document = Document(file)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        document.data = json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        document.wrong(error.lineno, error.colno, f"not JSON: {error.msg}")
    except (ValueError, RecursionError):
        document.wrong(1, 1, "not JSON that can be read: a number is out of bounds, or it is nested too deep")
    else:
        _locate(text, document)
    return document


class _FrontMatter:
    """One YAML mapping as plain data, by way of its nodes: they know their places, values do not.

    `first_line` is where it begins in its file: marks count from 0.
    """

    def __init__(self, document: Document, first_line: int = 2) -> None:
        import yaml

        self._first_line = first_line

        self._yaml = yaml
        self._document = document
        # The same loader in C where libyaml is there.
        self._loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def read(self, text: str, root: KeyPath) -> None:
        try:
            if not self._tame(text):
                return
            loader = self._loader(text)
            try:
                node = loader.get_single_node()
            finally:
                loader.dispose()
        except self._yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line, mark.column) if mark else (0, 0)
            self._document.wrong(
                line + self._first_line, column + 1, f"not YAML: {show(str(error.problem), 200)}"
            )
        except self._yaml.YAMLError as error:
            self._document.wrong(1, 1, f"not YAML: {show(str(error), 200)}")
        else:
            self._document.data = {} if node is None else self._value(node, root)

    def _tame(self, text: str) -> bool:
        """Events come one by one; building nodes recurses, so depth and aliases are judged before."""
        yaml = self._yaml
        depth = 0
        for event in yaml.parse(text, self._loader):
            if isinstance(event, yaml.AliasEvent):
                self._wrong(event, "YAML aliases are not taken", "write the value out")
                return False
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1
            if depth > MAX_DEPTH:
                self._wrong(event, f"nested deeper than {MAX_DEPTH} levels")
                return False
        return True

    def _value(self, node: yaml.Node, path: KeyPath) -> object:
        yaml = self._yaml
        if isinstance(node, yaml.MappingNode) and node.tag == _YAML + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _YAML + "seq":
            return [self._item(item, (*path, at)) for at, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._wrong(node, "YAML tags are not taken", path=path)
        return None

    def _item(self, node: yaml.Node, path: KeyPath) -> object:
        self._place(node, path)
        return self._value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[object, object]:
        found: dict[object, object] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, path) if isinstance(key_node, self._yaml.ScalarNode) else None
            if key_node.tag == _YAML + "merge" or key is None:
                self._wrong(key_node, "this is not taken as a key", "a key is text", path)
                continue
            inner: KeyPath = (*path, key if isinstance(key, str) else str(key))
            if key in found:
                self._wrong(key_node, "the key is there twice", path=inner)
                continue
            self._place(key_node, inner)
            found[key] = self._value(value_node, inner)
        return found

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        kind, text = node.tag.removeprefix(_YAML), str(node.value)
        if kind in ("str", "merge"):
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in ("true", "yes", "on", "y")
        if kind in ("int", "float") and _JSON_NUMBER.fullmatch(text):
            return int(text) if kind == "int" else float(text)
        self._wrong(node, "YAML reads this as something special", "write it in quotes", path)
        return text

    def _place(self, node: yaml.Node, path: KeyPath) -> None:
        self._document.positions[path] = Position(self._document.file, *self._line_and_column(node))

    def _wrong(self, thing: yaml.Node | yaml.Event, message: str, hint: str = "", path: KeyPath = ()) -> None:
        self._document.wrong(*self._line_and_column(thing), message, hint, path)

    def _line_and_column(self, thing: yaml.Node | yaml.Event) -> tuple[int, int]:
        mark = thing.start_mark
        return (mark.line + self._first_line, mark.column + 1) if mark else (1, 1)


class _Open:
    """An object or list of the JSON text that has not ended yet."""

    def __init__(self, path: KeyPath, is_list: bool) -> None:
        self.path = path
        self.is_list = is_list
        self.at: str | int = 0  # the key or index whose value comes next
        self.wants_key = True
        self.seen: set[str] = set()

    @property
    def inner(self) -> KeyPath:
        return (*self.path, self.at)


def _locate(text: str, document: Document) -> None:
    """The place of each key and item of a text that is known to be JSON; a key twice is a problem."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    stack: list[_Open] = []
    for match in _JSON_TOKEN.finditer(text):
        piece, line = match.group(), bisect_right(starts, match.start())
        position = Position(document.file, line, match.start() - starts[line - 1] + 1)
        top = stack[-1] if stack else None
        if top and not top.is_list and top.wants_key and piece.startswith('"'):
            top.at, top.wants_key = json.loads(piece), False
            if top.at in top.seen:
                document.wrong(*position[1:], "the key is there twice", path=top.inner)
            top.seen.add(str(top.at))
            document.positions[top.inner] = position
        elif piece in "}]":
            stack.pop()
        elif piece == "," and top:
            top.wants_key = True
            top.at = top.at + 1 if isinstance(top.at, int) else top.at
        elif piece != ":":
            path = top.inner if top else ()
            if not top or top.is_list:
                document.positions[path] = position
            if piece in "{[":
                stack.append(_Open(path, piece == "["))
