"""Every key that a manifest may have, with its kind and its meaning.

Invariant: these tables are the only list of keys. The parser, the inheritance and the JSON
Schema are all derived from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from claude_bottle.manifest import values as v
from claude_bottle.manifest.fields import (
    Key,
    Kind,
    boolean,
    by_type,
    choice,
    line,
    list_of,
    map_of,
    mapped,
    number,
    pattern,
    record,
)
from claude_bottle.manifest.model import (
    REJECT,
    RUNTIMES,
    WAIT,
    WORKSPACES,
    BottleEgress,
    Git,
    GitRepo,
    GitUser,
    Limits,
    SshEntry,
    Supervise,
)
from claude_bottle.manifest.problems import KeyPath, Report
from claude_bottle.policy.hosts import is_public_address, parse_ip
from claude_bottle.policy.model import Auth, Route
from claude_bottle.policy.rules import DETECTORS, OTHERWISE, route_conflicts, treated_otherwise

T = TypeVar("T")
Values = dict[str, Any]
SSH_NAMES = {
    "Host": "host",
    "IdentityFile": "identity_file",
    "Hostname": "hostname",
    "User": "user",
    "Port": "port",
    "KnownHostKey": "known_host_key",
}


def bottle() -> Kind[Values]:
    """A bottle as written: only the keys that it sets, so that inheritance can tell unset from default."""
    image = pattern(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*", "not the name of an image", 500)
    package = pattern(r"[a-z0-9][a-z0-9+.:-]*(?:=[A-Za-z0-9.+:~-]+)?", "not the name of a Debian package")
    return record(
        {
            "extends": Key(v.names(v.name()), "parent bottle or bottles, folded left to right"),
            "env": Key(
                _frozen(v.env_name(), v.env_value()),
                "NAME: a literal, ${HOST_NAME} (copied from the host) or ?question (asked on the terminal)",
            ),
            "egress": Key(egress(), "where the bottle may go; nowhere else"),
            "ssh": Key(
                list_of(_ssh(), same=lambda entry: entry.host), "SSH destinations; the keys stay outside"
            ),
            "git": Key(_git(), "repositories behind the git gate, and who commits are by"),
            "workspace": Key(choice(*WORKSPACES), "how the project gets into the bottle"),
            "supervise": Key(_supervise(), "may the agent propose changes (default true), and what then"),
            "limits": Key(_limits(), "what the bottle may use up"),
            "image": Key(image, "container image that the file system is made of"),
            "dockerfile": Key(v.host_path(), "Dockerfile that the file system is built from"),
            "packages": Key(list_of(package), "Debian packages to add"),
            "runtime": Key(
                choice(*RUNTIMES), "what runs its container: runsc is gVisor, a kernel of the bottle's own"
            ),
        },
        lambda values, path, report: values,
        _bottle_clash,
    )


def agent() -> Kind[Values]:
    """An agent as written; `bottle` is a tuple of names."""
    skill = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a skill is the name of a folder, without slashes")
    word = pattern(
        r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*", "one word of letters, digits and . _ : / @ [ ] -", 200
    )
    return record(
        {
            "bottle": Key(v.names(v.name()), "the bottle it runs in; a list is folded left to right", True),
            "prompt": Key(v.free_text(), "the system prompt (in Markdown: the body)"),
            "skills": Key(list_of(skill), "names under ~/.claude/skills/"),
            "git": Key(record({"user": Key(_git_user(), "overlays the bottle's")}, _git_of), "git settings"),
            "name": Key(line(200), "display name (Claude Code)"),
            "description": Key(v.free_text(), "when to use this agent (Claude Code)"),
            "model": Key(word, "model (Claude Code)"),
            "color": Key(word, "colour (Claude Code)"),
            "memory": Key(word, "memory scope (Claude Code)"),
            "tools": Key(v.tools(), "tools (Claude Code)"),
        },
        lambda values, path, report: values,
    )


def egress() -> Kind[BottleEgress]:
    return record(
        {
            "routes": Key(list_of(_route()), "rules: any of them may allow"),
            "allowlist": Key(list_of(_allowed()), "hosts in short form: a bare route each"),
        },
        _build_egress,
    )


def _allowed() -> Kind[Route]:
    host = v.host_pattern()

    def read(value: object, path: KeyPath, report: Report) -> Route | None:
        checked = host.read(value, path, report)
        if checked is None or not _reachable(checked, path, report):
            return None
        for _, why in route_conflicts(checked, (), True):
            report.add(path, why)
            return None
        return Route(host=checked, origin=report.origin(path))

    return Kind(read, host.schema)


def _route() -> Kind[Route]:
    detector = choice(*DETECTORS)
    return record(
        {
            "host": Key(v.host_pattern(), "exact host, or *.example.org (not its apex)", True),
            "ports": Key(list_of(number(1, 65535, whole=True), least=1), "default [443]"),
            "methods": Key(list_of(v.method(), least=1), "default: any"),
            "paths": Key(list_of(v.path_prefix(), least=1), "prefixes by whole segments; default: any"),
            "auth": Key(_auth(), "a credential added outside the bottle"),
            "inspect": Key(boolean(), "default true; false is an opaque tunnel"),
            "upstream": Key(v.upstream(), "your own gateway or local model; may be a private address"),
            "detectors": Key(list_of(detector), "content checks on what is sent"),
        },
        _build_route,
        _route_clash,
    )


def _auth() -> Kind[Auth]:
    return record(
        {
            "scheme": Key(v.auth_scheme(), "bearer, token, basic or header:NAME", True),
            "secret": Key(v.secret(), "env:NAME, file:PATH or command:[...]", True),
        },
        lambda values, path, report: Auth(**values),
    )


def _ssh() -> Kind[SshEntry]:
    alias = pattern(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", "an SSH host alias, without wildcards")
    user = pattern(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", "not a user name")
    return record(
        {
            "Host": Key(alias, "the name used inside the bottle", True),
            "IdentityFile": Key(v.host_path(), "private key on the host; it stays there", True),
            "Hostname": Key(v.host(), "the real host; default: Host"),
            "User": Key(user, "remote user"),
            "Port": Key(number(1, 65535, whole=True), "default 22"),
            "KnownHostKey": Key(v.known_host_key(), "the host's public key"),
        },
        lambda values, path, report: SshEntry(**{SSH_NAMES[key]: value for key, value in values.items()}),
    )


def _git() -> Kind[Git]:
    repo = record(
        {
            "url": Key(v.git_url(), "where the repository really is", True),
            "identity": Key(v.host_path(), "SSH key on the host; it stays there"),
            "host_key": Key(v.known_host_key(), "the host's public key"),
            "refs": Key(list_of(v.ref()), "refs that the agent may push; none by default"),
        },
        lambda values, path, report: GitRepo(**values),
    )
    name = pattern(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a repository's name has letters, digits, dots, hyphens"
    )
    keys = {
        "repos": Key(_frozen(name, repo), "repositories by name"),
        "user": Key(_git_user(), "who commits are by"),
    }
    return record(keys, _git_of)


def _git_user() -> Kind[GitUser]:
    keys = {"name": Key(v.git_identity(), "user.name"), "email": Key(v.git_identity(), "user.email")}
    return record(keys, lambda values, path, report: GitUser(**values))


def _git_of(values: Values, path: KeyPath, report: Report) -> Git:
    return Git(**values)


def _limits() -> Kind[Limits]:
    return record(
        {
            "memory": Key(v.size(), 'such as "4G"'),
            "cpus": Key(mapped(number(0.01, 1024, whole=False), float), "such as 1.5"),
            "pids": Key(number(1, 4_194_304, whole=True), "processes and threads"),
            "disk": Key(v.size(), 'such as "20G"'),
            "wall_time": Key(v.duration(), 'such as "2h"'),
        },
        lambda values, path, report: Limits(**values),
    )


def _supervise() -> Kind[Supervise]:
    forms: dict[type, Kind[Supervise]] = {
        bool: mapped(boolean(), Supervise),
        dict: record(
            {
                "unanswered": Key(choice(WAIT, REJECT), "what becomes of a proposal that nobody answers"),
                "after": Key(v.duration(), 'reject it so much later, such as "10m" (default: at once)'),
                "notify": Key(v.program(), "your program and its arguments; it is run when a proposal comes"),
            },
            lambda values, path, report: Supervise(**values),
            _supervise_clash,
        ),
    }
    return by_type("true, false or a mapping", forms)


def _supervise_clash(keys: Mapping[object, object], path: KeyPath, report: Report) -> None:
    if "after" in keys and keys.get("unanswered") != REJECT:
        report.add((*path, "after"), f"has no meaning without `unanswered: {REJECT}`")


def _build_route(values: Values, path: KeyPath, report: Report) -> Route | None:
    if not _reachable(values["host"], (*path, "host"), report):
        return None
    return Route(**values, origin=report.origin(path))


def _reachable(host: str, path: KeyPath, report: Report) -> bool:
    """No route leads to a private address, so one to it would only look as if it did."""
    if parse_ip(host) is None or is_public_address(host):
        return True
    report.add(path, "is not a public address", "name a host, and the address as its `upstream`")
    return False


def _route_clash(keys: Mapping[object, object], path: KeyPath, report: Report) -> None:
    host = keys.get("host")
    names = (key for key in keys if isinstance(key, str))
    for key, why in route_conflicts(
        host if isinstance(host, str) else "", names, keys.get("inspect") is not False
    ):
        report.add((*path, key), why)


def _bottle_clash(keys: Mapping[object, object], path: KeyPath, report: Report) -> None:
    if "image" in keys and "dockerfile" in keys:
        report.add((*path, "dockerfile"), "a bottle has an image or a dockerfile, not both")


def _build_egress(values: Values, path: KeyPath, report: Report) -> BottleEgress | None:
    """Refuses what would silently widen a rule of the same bottle."""
    routes: tuple[Route, ...] = values.get("routes", ())
    allowed: tuple[Route, ...] = values.get("allowlist", ())
    before = len(report.problems)
    for at in treated_otherwise(routes):
        report.add((*path, "routes", at), OTHERWISE)
    named = {route.host for route in routes}
    for at, route in enumerate(allowed):
        if route.host in named:
            report.add((*path, "allowlist", at), "is named already, and this would widen that", "remove one")
        named.add(route.host)
    return BottleEgress(routes + allowed) if len(report.problems) == before else None


def _frozen(key: Kind[str], item: Kind[Any]) -> Kind[Mapping[str, Any]]:
    return mapped(map_of(key, item), freeze)


def freeze(mapping: Mapping[str, T]) -> Mapping[str, T]:
    return MappingProxyType(dict(mapping))
