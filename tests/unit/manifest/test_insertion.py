"""One more route in a manifest's text: everything else stays, and what cannot be placed is refused."""

from __future__ import annotations

import json

import pytest

from claude_bottle.manifest.insertion import NoPlaceError, into_json, into_markdown
from claude_bottle.manifest.markup import read_markdown
from claude_bottle.manifest.model import Manifest
from claude_bottle.policy.model import Route

ROUTE = Route("new.example.org", methods=("GET", "HEAD"), paths=("/a",))
WIDE = Route("*.example.net")

FRONTS = {
    "nothing": "---\n---\nWords.\n",
    "no egress": "---\n# mine\nenv: {A: b}  # why\n---\nWords.\n---\nnot front\n",
    "block": "---\negress:\n  # first\n  routes:\n    - host: a.example.org  # the first\n      methods: [GET]\n\n  # later\nlimits:\n  pids: 5\n---\n",
    "indentless": "---\negress:\n  routes:\n  - host: a.example.org\n    methods:\n    - GET\n---\n",
    "last": "---\nlimits: {pids: 5}\negress:\n  routes:\n    - host: a.example.org\n---\n",
    "allowlist only": "---\negress:\n  allowlist:\n    - a.example.org\n    - b.example.org # x\nlimits: {pids: 5}\n---\n",
    "flow routes": "---\negress:\n  routes: [{host: a.example.org}]\n---\n",
    "flow routes, comma": "---\negress:\n  routes: [{host: a.example.org},]\n---\n",
    "flow empty": "---\negress: {routes: []}\n---\n",
    "flow egress": "---\negress: {allowlist: [a.example.org]}\nlimits: {pids: 5}\n---\n",
    "flow over lines": "---\negress:\n  routes: [\n    {host: a.example.org},\n    {host: b.example.org}\n  ]\n---\n",
    "block scalar before": "---\negress:\n  routes:\n    - host: >-\n        a.example.org\n\nlimits: {pids: 5}\n---\n",
}


@pytest.mark.parametrize("route", [ROUTE, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("text", FRONTS.values(), ids=FRONTS.keys())
def test_a_bottle_has_exactly_this_route_more(text: str, route: Route) -> None:
    made = into_markdown(text, route, "note # with: {odd} \x1b[31m signs")
    before, after = (bottle_of(each) for each in (text, made))
    routes = [each._replace(origin="") for each in after.egress.routes]
    assert routes.pop(next(at for at, each in enumerate(routes) if each.host == route.host)) == route
    assert routes == [each._replace(origin="") for each in before.egress.routes]
    assert after.limits == before.limits
    assert after.env == before.env
    assert "\x1b" not in made


@pytest.mark.parametrize("text", FRONTS.values(), ids=FRONTS.keys())
def test_nothing_that_was_there_is_lost(text: str) -> None:
    """Characters are only added, in one place."""
    made = into_markdown(text, ROUTE, "note")
    start = next(
        (at for at, (one, other) in enumerate(zip(text, made, strict=False)) if one != other), len(text)
    )
    rest = "".join(text[start:].split())
    assert "".join(made.split()).endswith(rest)


def bottle_of(text: str):  # type: ignore[no-untyped-def]
    document = read_markdown(text, "dev.md")
    assert document.problems == []
    return Manifest.from_json_obj({"bottles": {"dev": document.data}}).bottles["dev"]


@pytest.mark.parametrize(
    "text",
    [
        "no front matter",
        "---\nunended",
        "---\n{egress: {routes: []}}\n---\n",
        "---\negress:\n---\n",
        "---\negress:\n  routes:\n---\n",
        "---\negress: [\n---\n",
        "---\negress:\n  routes: [{host: a.example.org}  # why\n  ]\n---\n",
    ],
)
def test_what_has_no_sure_place_is_refused(text: str) -> None:
    with pytest.raises(NoPlaceError):
        into_markdown(text, ROUTE, "note")


JSONS = {
    "indented": json.dumps(
        {"bottles": {"dev": {"egress": {"routes": [{"host": "a.example.org"}]}}}}, indent=2
    ),
    "one line": '{"bottles": {"dev": {"egress": {"routes": [{"host": "a.example.org"}]}}}}',
    "empty list": '{"bottles": {"dev": {"egress": {"routes": []}}}}',
    "no routes": json.dumps({"bottles": {"dev": {"egress": {"allowlist": ["a.example.org"]}}}}, indent=4),
    "no egress": '{"bottles": {"other": {"egress": {"routes": []}}, "dev": {"limits": {"pids": 5}}}}',
    "nothing": '{"bottles": {"dev": {}}, "agents": {}}',
    "odd keys": '{"agents": {"dev": {"bottle": "dev"}}, "bottles": {"x\\"egress": {}, "dev": {"egress": {"routes": [ ]}}}}'.replace(
        '"x\\"egress": {}, ', ""
    ),
}


@pytest.mark.parametrize("text", JSONS.values(), ids=JSONS.keys())
def test_a_bottle_of_the_json_file_has_exactly_this_route_more(text: str) -> None:
    made = into_json(text, "dev", ROUTE)
    before, after = json.loads(text), json.loads(made)
    routes = after["bottles"]["dev"]["egress"]["routes"]
    assert routes.pop() == {"host": "new.example.org", "methods": ["GET", "HEAD"], "paths": ["/a"]}
    if not before["bottles"]["dev"].get("egress"):
        before["bottles"]["dev"]["egress"] = {}
    before["bottles"]["dev"]["egress"].setdefault("routes", [])
    assert after == before


@pytest.mark.parametrize(
    "text", ["", "[]", '{"bottles": {}}', '{"bottles": {"dev": {"egress": {"routes": {}}}}}', '{"bottles"']
)
def test_what_is_no_such_json_is_refused(text: str) -> None:
    with pytest.raises(NoPlaceError):
        into_json(text, "dev", ROUTE)
