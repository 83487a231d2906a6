"""The manifest from its files: all of the operator's home, and only agents from a project.

Invariant: a project's files are a stranger's. They add agents that name one bottle of the home,
and can neither define, combine nor shadow anything. Whatever cannot be read is a problem with its
place; all problems are raised together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from claude_bottle.manifest.files import UnreadableError, exists, file_names, open_folder, read_text
from claude_bottle.manifest.markup import Document, read_json, read_markdown
from claude_bottle.manifest.model import Manifest, digest_of, resolved_digest
from claude_bottle.manifest.parse import parse_manifest
from claude_bottle.manifest.problems import KeyPath, Position, Problem, show

__all__ = ["LoadedManifest", "Source", "load_manifest", "resolved_digest"]

PROJECT_FOLDER = ".claude-bottle"
JSON_FILE = "claude-bottle.json"


class Source(NamedTuple):
    """The file that defines a bottle or an agent; `project` if it is the project's."""

    path: Path
    project: bool = False


class LoadedManifest(NamedTuple):
    """A valid manifest, where each ("bottles" or "agents", name) came from, and what was ignored.

    `digest` is over the whole manifest; `resolved_digest` over one agent.
    """

    manifest: Manifest
    sources: Mapping[tuple[str, str], Source]
    warnings: tuple[str, ...]
    digest: str


class _Gathered:
    """What the files said so far."""

    def __init__(self) -> None:
        self.extra: dict[str, object] = {}
        self.sections: dict[str, dict[str, object]] = {"bottles": {}, "agents": {}}
        self.positions: dict[KeyPath, Position] = {}
        self.sources: dict[tuple[str, str], Source] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def unreadable(self, path: Path, error: UnreadableError) -> None:
        self.problems.append(Problem(show(str(path), 4096), "", str(error)))

    def warn(self, path: Path, message: str) -> None:
        self.warnings.append(f"{show(str(path), 4096)}: {message}")

    def take(self, document: Document) -> None:
        self.problems += document.problems
        self.positions.update(document.positions)


def load_manifest(home: Path, project: Path | None = None) -> LoadedManifest:
    """Read `home` (its bottles/, agents/ and claude-bottle.json) and the project's agents.

    Raises ManifestError with every problem. A home that is not there yet is an empty manifest.
    """
    found = _Gathered()
    try:
        with open_folder(str(home), trusted=True) as folder:
            if folder is not None:
                for section in ("bottles", "agents"):
                    _home_section(section, home, folder, found)
                _home_json(home, folder, found)
            if project is not None:
                _project(project, folder, found)
    except UnreadableError as error:
        found.unreadable(home, error)
    obj = {**found.extra, **found.sections}
    manifest = parse_manifest(obj, found.positions, found.problems)
    sources = MappingProxyType(found.sources)
    return LoadedManifest(manifest, sources, tuple(found.warnings), digest_of(manifest))


def _home_section(section: str, home: Path, folder: int, found: _Gathered) -> None:
    where = home / section
    try:
        with open_folder(section, folder, trusted=True) as inner:
            for name in file_names(inner) if inner is not None else ():
                if not name.endswith(".md"):
                    found.warn(where / name, "ignored; only *.md is read here")
                elif inner is not None:
                    _markdown(section, where / name, inner, found, project=False)
    except UnreadableError as error:
        found.unreadable(where, error)


def _markdown(section: str, path: Path, folder: int, found: _Gathered, *, project: bool) -> None:
    """One definition from one file, which is called like it."""
    try:
        text = read_text(path.name, folder, trusted=not project)
    except UnreadableError as error:
        found.unreadable(path, error)
        return
    if text is None:  # gone since it was listed
        return
    name = path.stem
    root: KeyPath = (section, name)
    document = read_markdown(text, str(path), root)
    data = document.data
    if section == "agents" and isinstance(data, dict):
        if "prompt" in data:
            at = document.positions[(*root, "prompt")]
            document.wrong(at.line, at.column, "the body of the file is the prompt", path=(*root, "prompt"))
        data["prompt"] = document.body
        document.positions[(*root, "prompt")] = Position(str(path), document.body_line, 1)
    if project and isinstance(data, dict) and isinstance(data.get("bottle"), list):
        at = document.positions[(*root, "bottle")]
        message = "a project's agent names one bottle of the home; it cannot combine several"
        document.wrong(at.line, at.column, message, path=(*root, "bottle"))
    found.take(document)
    found.sources[section, name] = Source(path, project)
    if data is not None:
        found.sections[section][name] = data
    elif section == "bottles":
        found.sections[section][name] = {}  # broken, but there: what names it is not wrong as well


def _home_json(home: Path, folder: int, found: _Gathered) -> None:
    path = home / JSON_FILE
    try:
        text = read_text(JSON_FILE, folder, trusted=True)
    except UnreadableError as error:
        found.unreadable(path, error)
        return
    if text is None:
        return
    document = read_json(text, str(path))
    data = document.data
    if not document.problems and not isinstance(data, dict):
        document.wrong(1, 1, "a manifest is an object with the keys bottles and agents")
    for section, known in found.sections.items():
        entries = data.pop(section, {}) if isinstance(data, dict) else {}
        if not isinstance(entries, dict):
            at = document.positions[section,]
            document.wrong(at.line, at.column, "expected an object of names", path=(section,))
            continue
        for name, entry in entries.items():
            if (section, name) in found.sources:
                other = found.sources[section, name].path
                at = document.positions[section, name]
                message = f"is defined in {show(str(other), 4096)} as well"
                document.wrong(at.line, at.column, message, path=(section, name))
                continue
            known[name] = entry
            found.sources[section, name] = Source(path)
    if isinstance(data, dict):
        found.extra = data
    found.take(document)


def _project(project: Path, home_folder: int | None, found: _Gathered) -> None:
    where = project / PROJECT_FOLDER
    try:
        with open_folder(str(project), trusted=True) as root:
            if root is not None:
                _project_folder(where, root, home_folder, found)
    except UnreadableError as error:
        found.unreadable(where, error)


def _project_folder(where: Path, root: int, home_folder: int | None, found: _Gathered) -> None:
    with open_folder(PROJECT_FOLDER, root, trusted=False) as folder:
        if folder is None or _same(folder, home_folder):
            return
        for name in ("bottles", JSON_FILE):
            if exists(name, folder):
                found.warn(where / name, "ignored; only your home defines bottles")
        _project_agents(where / "agents", folder, found)


def _project_agents(where: Path, parent: int, found: _Gathered) -> None:
    try:
        with open_folder("agents", parent, trusted=False) as folder:
            for name in file_names(folder) if folder is not None else ():
                if not name.endswith(".md") or folder is None:
                    continue
                known = found.sources.get(("agents", name.removesuffix(".md")))
                if known is None:
                    _markdown("agents", where / name, folder, found, project=True)
                else:
                    message = "ignored; an agent of your home has the same name"
                    found.warn(where / name, message)
    except UnreadableError as error:
        found.unreadable(where, error)


def _same(folder: int, other: int | None) -> bool:
    """Whether two descriptors are one folder: in the home itself, a project's folder is the home's."""
    return other is not None and os.path.samestat(os.fstat(folder), os.fstat(other))
