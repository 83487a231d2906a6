"""A proposal as text that an operator edits, and what comes back. Pure.

Invariant: what comes back is read as the manifest is, so it can be nothing that a manifest could not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from claude_bottle.errors import UsageError
from claude_bottle.manifest.markup import read_yaml
from claude_bottle.manifest.problems import ManifestError, Report
from claude_bottle.manifest.rules_text import ROUTES, read_routes, routes_text
from claude_bottle.operations.proposals import Given, Waiting
from claude_bottle.policy.proposals import CAPABILITY, Proposal
from claude_bottle.policy.proposals_json import answer_from_json, answer_to_json
from claude_bottle.policy.snapshot import PolicyFormatError

_PACKAGES, _DOCKERFILE = "packages", "dockerfile"


def text_of(waiting: Waiting) -> str:
    item = waiting.proposal
    head = [
        f"{item.id} of {waiting.slug}. What you leave here it gets, when you have seen it again.",
        *(f"It says: {line}" for line in item.asked.justification.split("\n")[:12]),
    ]
    if item.asked.kind == CAPABILITY:
        return _capability_text(item, head)
    if item.asked.route is None:
        raise UsageError("it names no host, so there is nothing to begin with", "reject it")
    return routes_text(ROUTES, [(item.asked.route, "as it was asked for")], head)


def read(text: str, file: str, item: Proposal) -> Given:
    """Raises ManifestError with each place, UsageError."""
    if item.asked.kind == CAPABILITY:
        return _read_capability(text, file)
    routes = read_routes(text, file, ROUTES)
    if len(routes) != 1:
        raise UsageError(f"a proposal is answered with one route, and there are {len(routes)}")
    return Given(routes[0]._replace(origin=""))


def _capability_text(item: Proposal, head: list[str]) -> str:
    import yaml

    from claude_bottle.text import shown

    fields: dict[str, Any] = {_PACKAGES: list(item.asked.packages), _DOCKERFILE: item.asked.dockerfile}
    comments = "".join(f"# {shown(line, 500)}\n" for line in head)
    dumped: str = yaml.safe_dump(fields, sort_keys=False, default_flow_style=False)
    return comments + dumped


def _read_capability(text: str, file: str) -> Given:
    document = read_yaml(text, file)
    report, data = Report(document.positions), document.data
    if not document.problems:
        for key in data if isinstance(data, Mapping) else ():
            if key not in (_PACKAGES, _DOCKERFILE):
                report.add((str(key),), f"only {_PACKAGES} and {_DOCKERFILE} have a place here")
    if document.problems or report.problems or not isinstance(data, Mapping):
        raise ManifestError((*document.problems, *report.problems))
    return _checked(data.get(_PACKAGES) or [], data.get(_DOCKERFILE) or "")


def _checked(packages: object, dockerfile: object) -> Given:
    from claude_bottle.policy.proposals import MODIFIED, Answer

    blank = answer_to_json(Answer(MODIFIED, "", 1.0))
    try:
        made = answer_from_json({**blank, _PACKAGES: packages, _DOCKERFILE: dockerfile})
    except PolicyFormatError as error:
        raise UsageError(str(error)) from error
    return Given(None, made.packages, made.dockerfile)
