"""Show or change what a running bottle may reach.

show: a row for each rule in force: what it allows TAB for how long TAB where it comes from, which is a file
and line, or the decision that made it. add HOST: one rule, by the options below. remove HOST: the rule for
it, which ends at once, open connections included; where there are several, the options say which. edit: your
editor ($VISUAL or $EDITOR) on all rules, in the words of the manifest; the difference is shown before you
are asked.

A change holds until the bottle ends; the manifest stays as it is. Each is in the audit log. Where somebody
else has changed the bottle while you were editing, yours is refused.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from claude_bottle.cli import policy
from claude_bottle.cli.screen import Screen
from claude_bottle.errors import UsageError

if TYPE_CHECKING:
    from claude_bottle.operations.edits import Plan

KEY = "routes"
_TAKES = {
    **dict.fromkeys(("host", "port", "method", "path"), ("add", "remove")),
    **dict.fromkeys(("no_inspect", "auth", "secret", "upstream", "seconds", "uses"), ("add",)),
    **dict.fromkeys(("all", "decision"), ("remove",)),
    "yes": ("edit",),
}


def configure(parser: argparse.ArgumentParser) -> None:
    policy.configure(parser)
    parser.add_argument("host", nargs="?", help="add, remove: exact, or *.example.org")
    many: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument("--port", metavar="N", help="443 where none is named; may be repeated", **many)
    parser.add_argument("--method", metavar="M", help="any where none is named; may be repeated", **many)
    parser.add_argument(
        "--path", metavar="P", help="a prefix; any where none is named; may be repeated", **many
    )
    parser.add_argument("--no-inspect", action="store_true", help="add: a tunnel into which nobody looks")
    parser.add_argument("--auth", metavar="SCHEME", help="add: bearer, token, basic or header:NAME")
    parser.add_argument("--secret", metavar="REF", help="add: env:NAME, file:PATH or command:[...]")
    parser.add_argument("--upstream", metavar="URL", help="add: your own gateway or local model")
    parser.add_argument("--decision", metavar="WORD", help="remove: of what this decision has made")


def run(options: argparse.Namespace, screen: Screen) -> int:
    policy.refuse_options(options, _TAKES)
    if options.action == "show":
        return policy.show(options, screen, KEY)
    if options.action == "edit":
        return policy.edit(options, screen, KEY)
    if options.host is None:
        raise UsageError(f"{options.action} needs a HOST", f"claude-bottle routes show {options.slug}")
    plan = _adding(options) if options.action == "add" else _removing(options)
    return policy.carry_out(options, screen, KEY, plan)


def _adding(options: argparse.Namespace) -> Plan:
    from claude_bottle.manifest.rules_text import check_route
    from claude_bottle.operations.edits import adding

    if (options.auth is None) != (options.secret is None):
        raise UsageError("--auth and --secret belong together")
    fields: dict[str, object] = {"host": options.host}
    if options.port:
        fields["ports"] = [policy.taken(_port, text, "--port") for text in options.port]
    fields |= {f"{name}s": given for name in ("method", "path") if (given := getattr(options, name))}
    if options.no_inspect:
        fields["inspect"] = False
    if options.auth is not None:
        fields["auth"] = {"scheme": options.auth, "secret": options.secret}
    if options.upstream is not None:
        fields["upstream"] = options.upstream
    return adding([check_route(fields)], KEY, *policy.bounds_of(options))


def _removing(options: argparse.Namespace) -> Plan:
    from claude_bottle.operations.edits import Which, removing
    from claude_bottle.policy.hosts import parse_pattern

    ports = tuple(policy.taken(_port, text, "--port") for text in options.port)
    host = policy.taken(parse_pattern, options.host, "HOST")
    which = Which(host, ports, tuple(options.method), tuple(options.path), options.decision or "")
    return removing([which], KEY, options.slug, every=options.all)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5:
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)
