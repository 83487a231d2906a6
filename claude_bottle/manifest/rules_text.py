"""Routes as text that an operator edits: YAML of the manifest's own shape, read by the manifest's own parser.

Invariant: what `routes_text` writes `read_routes` reads as the same routes; what it reads the manifest would
have taken as well, and whatever that refuses is refused here, with line and column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from claude_bottle.manifest import tables
from claude_bottle.manifest.markup import read_yaml
from claude_bottle.manifest.problems import ManifestError, Report
from claude_bottle.policy.model import Auth, Route
from claude_bottle.text import shown

ROUTES, ALLOWLIST = "routes", "allowlist"
_HEAD_WIDTH = 500
_WIDE = 1 << 20  # columns: nothing is folded


def is_writable(route: Route) -> bool:
    """Whether the manifest has words for it: it has none for Claude Code's own login."""
    return route.auth is None or route.auth.secret.kind != "login"


def routes_text(key: str, noted: Sequence[tuple[Route, str]], head: Iterable[str] = ()) -> str:
    """Each route with a note, which becomes a comment. `key` is ROUTES or, for bare routes, ALLOWLIST."""
    lines = [f"# {shown(line, _HEAD_WIDTH)}" for line in head]
    if not noted:
        return "\n".join([*lines, f"{key}: []", ""])
    lines.append(f"{key}:")
    for route, note in noted:
        lines.append(f"# {shown(note, _HEAD_WIDTH)}")
        lines += _dumped(route.host if key == ALLOWLIST else plain(route))
    return "\n".join([*lines, ""])


def plain(route: Route) -> dict[str, object]:
    """The keys that the manifest would have for it; what is left out has its default."""
    found: dict[str, object] = {"host": route.host}
    if route.ports != Route(route.host).ports:
        found["ports"] = list(route.ports)
    for name in ("methods", "paths", "detectors"):
        if values := getattr(route, name):
            found[name] = list(values)
    if route.auth is not None:
        found["auth"] = {"scheme": route.auth.scheme, "secret": _secret(route.auth)}
    if not route.inspect:
        found["inspect"] = False
    if route.upstream is not None:
        found["upstream"] = str(route.upstream)
    return found


def read_routes(text: str, file: str, key: str) -> tuple[Route, ...]:
    """Raises ManifestError with every problem; `origin` of a route is its place in `file`."""
    document = read_yaml(text, file)
    report = Report(document.positions)
    data = document.data
    if not document.problems:
        if not isinstance(data, Mapping) or key not in data:
            report.add((), f'the key "{key}" is missing', f"for none write {key}: []")
        for other in data if isinstance(data, Mapping) else ():
            if other != key:
                report.add((str(other),), f'only the key "{key}" has a place here')
    egress = tables.egress().read(data, (), report) if not (document.problems or report.problems) else None
    if egress is None:
        raise ManifestError((*document.problems, *report.problems))
    return egress.routes


def check_route(fields: Mapping[str, Any]) -> Route:
    """One route from the manifest's keys. Raises ManifestError."""
    return _checked(ROUTES, [dict(fields)], f"{ROUTES}[0]")[0]


def check_hosts(hosts: Iterable[str]) -> tuple[Route, ...]:
    """Bare routes from their hosts. Raises ManifestError."""
    return _checked(ALLOWLIST, list(hosts), ALLOWLIST)


def _checked(key: str, items: list[Any], dropped: str) -> tuple[Route, ...]:
    """`dropped` is what of a key's path says nothing to somebody who wrote no file."""
    report = Report()
    egress = tables.egress().read({key: items}, (), report)
    if egress is None:
        short = (item.key_path.removeprefix(dropped).lstrip(".") for item in report.problems)
        raise ManifestError(
            item._replace(key_path=path) for item, path in zip(report.problems, short, strict=True)
        )
    return egress.routes


def _secret(auth: Auth) -> object:
    if auth.secret.kind == "command":
        return {"command": list(auth.secret.argument)}
    return str(auth.secret)


def _dumped(item: str | Mapping[str, object]) -> list[str]:
    """The lines of an item of a list."""
    if isinstance(item, str):
        return _yaml([item], flow=False)
    lines = [line for key, value in item.items() for line in _yaml({key: value}, flow=not _plain_word(value))]
    return [f"{'- ' if at == 0 else '  '}{line}" for at, line in enumerate(lines)]


def _plain_word(value: object) -> bool:
    return isinstance(value, (str, bool, int))


def _yaml(value: object, *, flow: bool) -> list[str]:
    """With `flow` what is innermost stays on one line."""
    import yaml

    text: str = yaml.safe_dump(
        value, sort_keys=False, default_flow_style=None if flow else False, width=_WIDE
    )
    return text.splitlines()
