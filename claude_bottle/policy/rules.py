"""What the parts of a route may look like: methods, paths, ports, credentials, upstreams.

Invariant: the manifest and every later way in (approvals, a policy file) use these same
checks; each returns the canonical value or raises ValueError with one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from claude_bottle.policy.hosts import normalise_host, parse_ip
from claude_bottle.policy.model import Route, SecretRef, Upstream

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
TUNNEL_METHODS = frozenset({"CONNECT", "TRACE", "TRACK"})  # they reach past the request that was judged
DETECTORS: tuple[str, ...] = ()  # names of detectors that exist
SCHEMES = ("bearer", "token", "basic")
MAX_TARGET = 16_384
OTHERWISE = "another route of this host and port differs in `inspect` or `upstream`"

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110, 5.6.2
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# Headers that frame a message or belong to one hop: a credential there would change what is sent to whom.
_FRAMING_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_IN_TARGET = re.compile(r"[^\x21-\x7e]|#")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%(?:25)*(?:[01][0-9a-f]|7f|c[01])", re.IGNORECASE)
_HIDDEN_SLASH = re.compile(r"\\|%(?:25)*(?:2f|5c)", re.IGNORECASE)
_HIDDEN_DOT = re.compile(r"%(?:25)*2e", re.IGNORECASE)
_UPSTREAM = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]{2,45}\]|[^\s/?#@:\\\[\]]{1,254})(?::([0-9]{1,5}))?")
_FORMS_OF_SECRETS = "env:NAME, file:PATH or command:[...]"


def check_method(text: str) -> str:
    if text in METHODS:
        return text
    if text.upper() in METHODS:
        raise ValueError(f"methods are written in capitals: {text.upper()}")
    raise ValueError(f"not a method that a route can name; known: {', '.join(METHODS)}")


def check_port(port: int) -> int:
    if not 1 <= port <= 65535:
        raise ValueError("a port is a number from 1 to 65535")
    return port


def path_problem(target: str) -> str | None:
    """Why a request target is refused whatever the rules say, or None.

    Everything that two servers might read as two different paths is refused, so that the path that was
    judged is the path that is served.
    """
    if len(target) > MAX_TARGET:
        return f"the path is longer than {MAX_TARGET} characters"
    if not target.startswith("/"):
        return 'the path does not begin with "/"'
    if _NOT_IN_TARGET.search(target):
        return "the path has a character that does not belong in a URL"
    path = target.partition("?")[0]
    if _HIDDEN_SLASH.search(path):
        return "the path has a backslash or an encoded slash"
    if _BAD_ESCAPE.search(path):
        return "the path has a broken escape or an encoded control byte"
    if "//" in path:
        return "the path has an empty segment"
    # ";" begins a parameter: some servers take "..;x" for "..".
    segments = (_HIDDEN_DOT.sub(".", segment).partition(";")[0] for segment in path.split("/"))
    if any(segment in (".", "..") for segment in segments):
        return "the path has a dot segment"
    return None


def check_prefix(text: str) -> str:
    if "?" in text:
        raise ValueError("a path prefix has no query")
    if problem := path_problem(text):
        raise ValueError(problem)
    return text


def path_under(prefix: str, path: str) -> bool:
    """Whether a checked path (without query) lies under a prefix, by whole segments."""
    if prefix.endswith("/"):
        return path.startswith(prefix)
    return path == prefix or path.startswith(prefix + "/")


def check_scheme(text: str) -> str:
    if text in SCHEMES:
        return text
    kind, _, name = text.partition(":")
    if kind != "header":
        raise ValueError("a scheme is bearer, token, basic or header:NAME")
    if not TOKEN.fullmatch(name):
        raise ValueError("header: needs the name of an HTTP header")
    if name.lower() in _FRAMING_HEADERS:
        raise ValueError(f"the header {name} belongs to the connection and cannot carry a credential")
    return text


def parse_secret(text: str) -> SecretRef:
    """Never echoes `text`: someone will paste a real secret here."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in ("env", "file", "command"):
        raise ValueError(f"a secret is named, not written: {_FORMS_OF_SECRETS}")
    if kind != "command":
        return check_secret(kind, (rest,))
    import json

    try:
        argv = json.loads(rest)
    except (ValueError, RecursionError):
        raise ValueError('command: needs a JSON list, such as command:["pass", "show", "token"]') from None
    if not isinstance(argv, list) or not all(isinstance(part, str) for part in argv):
        raise ValueError("command: needs a list of texts")
    return check_secret("command", tuple(argv))


def check_secret(kind: str, argument: tuple[str, ...]) -> SecretRef:
    if kind == "env" and len(argument) == 1:
        if not ENV_NAME.fullmatch(argument[0]):
            raise ValueError("env: needs the name of an environment variable")
    elif kind in ("file", "login") and len(argument) == 1:  # "login" is Claude Code's own file
        check_host_path(argument[0])
    elif kind == "command":
        if not 1 <= len(argument) <= 64 or not argument[0]:
            raise ValueError("command: needs a program and at most 63 arguments")
        if any("\0" in part or len(part) > 4096 for part in argument):
            raise ValueError("command: has an argument that no program can be given")
    else:
        raise ValueError(f"a secret is {_FORMS_OF_SECRETS}")
    return SecretRef(kind, argument)


def check_host_path(text: str) -> str:
    """A file of the host. Relative paths are refused: relative to what would be the launcher's choice."""
    if not text.startswith(("/", "~/")):
        raise ValueError('a path on the host begins with "/" or "~/"')
    if len(text) > 4096 or not text.isprintable():
        raise ValueError("a path on the host is printable and at most 4096 characters long")
    return text


def parse_upstream(text: str) -> Upstream:
    match = _UPSTREAM.fullmatch(text)
    if match is None:
        raise ValueError("an upstream is http://HOST[:PORT] or https://HOST[:PORT] and nothing more")
    scheme, host, port = match.groups()
    return Upstream(scheme, normalise_host(host), check_port(int(port or (443 if scheme == "https" else 80))))


def route_conflicts(host: str, keys: Iterable[str], inspect: bool) -> list[tuple[str, str]]:
    """Which of the keys that a route sets cannot hold together: (key, why)."""
    present = set(keys)
    found: list[tuple[str, str]] = []
    if not inspect:
        needs = [key for key in ("methods", "paths", "auth", "upstream", "detectors") if key in present]
        found += [(key, "cannot be enforced on an opaque tunnel (inspect: false)") for key in needs]
    if inspect and parse_ip(host) is not None:
        found.append(("host", "an address cannot be inspected: TLS names no server then; set inspect: false"))
    if "upstream" in present and host.startswith("*"):
        found.append(("upstream", "an upstream needs one exact host, not a wildcard"))
    return found


def treated_otherwise(routes: Sequence[Route]) -> list[int]:
    """Which of the routes lead a connection another way than an earlier one of the same host and port."""
    treated: dict[tuple[str, int], tuple[bool, Upstream | None]] = {}
    found = []
    for at, route in enumerate(routes):
        own = (route.inspect, route.upstream)
        if any(treated.setdefault((route.host, port), own) != own for port in route.ports):
            found.append(at)
    return found
