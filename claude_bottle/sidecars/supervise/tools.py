"""The tools that an agent asks by: what they are called with, and what that asks for. Pure.

Invariant: what leaves this module as an `Asked` has passed the checks of the manifest: canonical hosts, no
wildcard, no address but on an opaque route, no credential, no upstream, bounded lists and texts. Everything
else is an error for the agent to mend. Arguments are hostile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from claude_bottle.policy.hosts import normalise_host, parse_ip
from claude_bottle.policy.model import Policy, Route
from claude_bottle.policy.proposals import (
    CAPABILITY,
    EGRESS,
    MAX_DOCKERFILE,
    MAX_PACKAGES,
    MAX_TEXT,
    URL,
    Asked,
)
from claude_bottle.policy.proposals_json import PACKAGE
from claude_bottle.policy.routes import routes_for
from claude_bottle.policy.rules import (
    METHODS,
    check_method,
    check_port,
    check_prefix,
    path_problem,
    path_under,
)

LIST, CHECK = "list-egress-routes", "check-proposal"

MAX_PORTS, MAX_PATHS, MAX_PATH = 8, 16, 512
_DURATION = re.compile(r"([1-9][0-9]{0,4})([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_URL = re.compile(
    r"https://(\[[0-9A-Fa-f:.]{2,45}\]|[^\s/?#@:\\\[\]]{1,254})(?::([0-9]{1,5}))?(/[^#]*|\?[^#]*)?(?:#.*)?"
)
_IDENT = re.compile(r"p-[0-9a-f]{10}")

_T = TypeVar("_T")
Arguments = Mapping[str, Any]


class ArgumentError(Exception):
    """The arguments cannot be taken. The text is for the agent."""


class Wanted(NamedTuple):
    """Which routes a `LIST` shows: all, or those that concern a host."""

    host: str = ""


class Known(NamedTuple):
    """The proposal that a `CHECK` is about."""

    ident: str


def read(tool: str, arguments: Arguments) -> Asked | Wanted | Known:
    """Raises ArgumentError."""
    known = _PROPERTIES[tool]
    if unknown := [name for name in arguments if name not in known]:
        raise ArgumentError(f"{len(unknown)} unknown arguments; known: {', '.join(known)}")
    try:
        return _READERS[tool](arguments)
    except ValueError as error:
        raise ArgumentError(str(error)) from None


def _egress(arguments: Arguments) -> Asked:
    host, inspect = _host(arguments), _flag(arguments, "inspect", True)
    ports = _each(arguments, "ports", int, MAX_PORTS, check_port) or (443,)
    methods = _each(arguments, "methods", str, len(METHODS), check_method)
    paths = _each(arguments, "paths", str, MAX_PATHS, _prefix)
    if inspect and parse_ip(host) is not None:
        raise ValueError("host: an address cannot be inspected; ask for its name, or set inspect to false")
    if not inspect and (methods or paths):
        raise ValueError("methods and paths cannot be enforced where inspect is false: leave them out")
    route = Route(host, ports, methods, paths, inspect=inspect)
    return Asked(EGRESS, _text(arguments, "justification"), route, wish=_wish(arguments))


def _url(arguments: Arguments) -> Asked:
    url = _text(arguments, "url")
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("url: expected https://HOST[:PORT]/PATH; nothing but https leaves a bottle")
    name, port, target = match.groups()
    host = normalise_host(name)
    if parse_ip(host) is not None:
        raise ValueError(f"url: an address cannot be inspected; ask for its name, or use {EGRESS}")
    target = target or "/"
    target = target if target.startswith("/") else f"/{target}"
    if problem := path_problem(target):
        raise ValueError(f"url: {problem}")
    path = _prefix(target.partition("?")[0])
    route = Route(host, (check_port(int(port or 443)),), paths=(path,))
    return Asked(URL, _text(arguments, "justification"), route, url, _wish(arguments))


def _capability(arguments: Arguments) -> Asked:
    packages = _each(arguments, "packages", str, MAX_PACKAGES, _package)
    dockerfile = _text(arguments, "dockerfile", MAX_DOCKERFILE, needed=False)
    if any(not char.isprintable() and char not in "\n\t" for char in dockerfile):
        raise ValueError("dockerfile: has a character that is not printable")
    if not packages and not dockerfile.strip():
        raise ValueError("name packages, or lines for the Dockerfile, or both")
    justification = _text(arguments, "justification")
    return Asked(CAPABILITY, justification, packages=tuple(sorted(packages)), dockerfile=dockerfile)


def _list(arguments: Arguments) -> Wanted:
    return Wanted(_host(arguments) if "host" in arguments else "")


def _check(arguments: Arguments) -> Known:
    ident = _text(arguments, "id")
    if not _IDENT.fullmatch(ident):
        raise ValueError('id: a proposal is called "p-" and ten hexadecimal digits')
    return Known(ident)


def _host(arguments: Arguments) -> str:
    host = _text(arguments, "host", 256)
    if "*" in host:
        raise ValueError("host: one exact host; a wildcard is the operator's to give")
    return normalise_host(host)


def _wish(arguments: Arguments) -> float | None:
    if "duration" not in arguments:
        return None
    match = _DURATION.fullmatch(_text(arguments, "duration", 16))
    if match is None:
        raise ValueError('duration: a whole number with s, m or h, such as "30m"')
    return float(int(match[1]) * _SECONDS[match[2]])


def _prefix(text: str) -> str:
    if len(text) > MAX_PATH:
        raise ValueError(f"a path has at most {MAX_PATH} characters")
    return check_prefix(text)


def _package(text: str) -> str:
    if not PACKAGE.fullmatch(text):
        raise ValueError("not the name of a Debian package")
    return text


def _text(arguments: Arguments, name: str, limit: int = MAX_TEXT, *, needed: bool = True) -> str:
    """As JSON it is at most twice as long as `limit`: so many proposals are sent and kept in one piece."""
    value = arguments.get(name, "")
    if not isinstance(value, str) or len(value) > limit or len(json.dumps(value)) > 2 * limit + 2:
        raise ValueError(f"{name}: expected a text of at most {limit} characters, fewer of other scripts")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError(f"{name}: half a character")
    if needed and not value.strip():
        raise ValueError(f"{name}: is needed")
    return value


def _flag(arguments: Arguments, name: str, default: bool) -> bool:
    value = arguments.get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false")
    return value


def _each(
    arguments: Arguments, name: str, kind: type[_T], limit: int, check: Callable[[_T], _T]
) -> tuple[_T, ...]:
    """The checked items, each of them once, in the order in which they stand."""
    values = arguments.get(name, [])
    if (
        not isinstance(values, list)
        or len(values) > limit
        or any(type(value) is not kind for value in values)
    ):
        raise ValueError(f"{name}: expected a list of at most {limit}")
    try:
        return tuple(dict.fromkeys(check(value) for value in values))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def allowed_already(policy: Policy, route: Route) -> bool:
    """Whether everything that `route` would allow is in force."""
    return all(_port_allowed(policy, route, port) for port in route.ports)


def _port_allowed(policy: Policy, route: Route, port: int) -> bool:
    candidates = [item for item in routes_for(policy, route.host) if port in item.ports]
    if not candidates:
        return False
    if not route.inspect or not candidates[0].inspect:  # the first of them is the way that a connection takes
        return not candidates[0].inspect
    inspected = [item for item in candidates if item.inspect]
    wanted = [(method, path) for method in route.methods or METHODS for path in route.paths or ("/",)]
    return all(any(_request_allowed(item, *one) for item in inspected) for one in wanted)


def _request_allowed(item: Route, method: str, path: str) -> bool:
    if item.methods and method not in item.methods:
        return False
    return not item.paths or any(path_under(prefix, path) for prefix in item.paths)


_READERS: dict[str, Callable[[Arguments], Asked | Wanted | Known]] = {
    EGRESS: _egress,
    URL: _url,
    CAPABILITY: _capability,
    LIST: _list,
    CHECK: _check,
}


def _property(kind: str, text: str, **more: object) -> dict[str, object]:
    return {"type": kind, "description": text, **more}


_WHY = _property("string", "What you need it for; the operator reads this.", maxLength=MAX_TEXT)
_HOW_LONG = _property(
    "string", 'How long you would like it, such as "30m"; the operator decides.', pattern=_DURATION.pattern
)
_LISTED: dict[str, object] = {"type": "string"}
_PROPERTIES: dict[str, dict[str, dict[str, object]]] = {
    EGRESS: {
        "host": _property("string", "One exact host name, no wildcard."),
        "ports": _property("array", "Default: 443.", items={"type": "integer"}, maxItems=MAX_PORTS),
        "methods": _property("array", "Default: any.", items={"enum": list(METHODS)}, maxItems=len(METHODS)),
        "paths": _property("array", "Path prefixes. Default: any.", items=_LISTED, maxItems=MAX_PATHS),
        "inspect": _property("boolean", "Default: true. False asks for a tunnel that nobody sees into."),
        "duration": _HOW_LONG,
        "justification": _WHY,
    },
    URL: {
        "url": _property("string", "The https URL that failed.", maxLength=MAX_TEXT),
        "duration": _HOW_LONG,
        "justification": _WHY,
    },
    CAPABILITY: {
        "packages": _property("array", "Debian packages.", items=_LISTED, maxItems=MAX_PACKAGES),
        "dockerfile": _property("string", "Lines to add to the Dockerfile.", maxLength=MAX_DOCKERFILE),
        "justification": _WHY,
    },
    LIST: {"host": _property("string", "Only the routes that concern this host.")},
    CHECK: {"id": _property("string", 'The proposal: "p-" and ten hexadecimal digits.')},
}
_NEEDED = {
    EGRESS: ["host", "justification"],
    URL: ["url", "justification"],
    CAPABILITY: ["justification"],
    LIST: [],
    CHECK: ["id"],
}
_WAITS = "Waits for the operator's answer; called again with the same arguments it is the same proposal."
_DESCRIPTIONS = {
    EGRESS: "Ask the operator to allow requests to a host. Ask for as little as you need: a narrow route for"
    f" a short time is approved sooner. {_WAITS}",
    URL: "Ask the operator to allow a URL that was denied: exactly its host, and what lies below its path."
    f" {_WAITS}",
    CAPABILITY: "Ask the operator for what this bottle's file system lacks: packages, or lines for its"
    f" Dockerfile. If approved, the bottle is rebuilt and you go on in it by yourself. {_WAITS}",
    LIST: "What this bottle may reach now, and for how long.",
    CHECK: "What has become of a proposal. Returns at once.",
}
TOOLS: tuple[dict[str, object], ...] = tuple(
    {
        "name": name,
        "description": _DESCRIPTIONS[name],
        "inputSchema": {
            "type": "object",
            "properties": properties,
            "required": _NEEDED[name],
            "additionalProperties": False,
        },
        "annotations": {
            "readOnlyHint": name in (LIST, CHECK),
            "destructiveHint": False,
            "idempotentHint": True,
            "openWorldHint": False,
        },
    }
    for name, properties in _PROPERTIES.items()
)
INSTRUCTIONS = (
    "You work in a bottle: a sandbox that reaches only what its operator allows. When a request is denied"
    ' (403 with "claude-bottle-denied", or a tunnel that is refused), do not look for a way around it. Ask'
    f" with {URL} (for one URL) or {EGRESS} (for a host), say honestly what for, and wait. Where a program or"
    f" library is missing that you cannot install, ask with {CAPABILITY}. {LIST} shows what is allowed now."
    " An approval may end after a time or a number of uses: then ask again. A rejection is an answer: read"
    " its reason, and go on without."
)
