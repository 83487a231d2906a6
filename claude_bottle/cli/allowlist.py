"""Show or change the hosts that a running bottle may reach as a whole: the short form of `routes`.

show: a row for each host: what it allows TAB for how long TAB where it comes from. add HOST: the whole of
it, inspected, on port 443; refused where the host has a rule of its own, which this would widen. remove
HOST: ends it at once, open connections included. edit: your editor ($VISUAL or $EDITOR) on the list.

A change holds until the bottle ends; the manifest stays as it is. Each is in the audit log.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli import policy
from claude_bottle.cli.screen import Screen
from claude_bottle.errors import UsageError

KEY = "allowlist"
_TAKES = {
    "hosts": ("add", "remove"),
    "seconds": ("add",),
    "uses": ("add",),
    "all": ("remove",),
    "yes": ("edit",),
}


def configure(parser: argparse.ArgumentParser) -> None:
    policy.configure(parser)
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="add, remove: exact, or *.example.org")


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations import edits
    from claude_bottle.policy.hosts import parse_pattern

    policy.refuse_options(options, _TAKES)
    if options.action == "show":
        return policy.show(options, screen, KEY)
    if options.action == "edit":
        return policy.edit(options, screen, KEY)
    if not options.hosts:
        raise UsageError(f"{options.action} needs a HOST", f"claude-bottle allowlist show {options.slug}")
    if options.action == "add":
        from claude_bottle.manifest.rules_text import check_hosts

        plan = edits.adding(check_hosts(options.hosts), KEY, *policy.bounds_of(options))
    else:
        which = [edits.Which(policy.taken(parse_pattern, host, "HOST")) for host in options.hosts]
        plan = edits.removing(which, KEY, options.slug, every=options.all)
    return policy.carry_out(options, screen, KEY, plan)
