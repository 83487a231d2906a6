"""Everything that is wrong with a manifest is told, each mistake in a line with its place, and no value in it."""

from __future__ import annotations

import pytest

from claude_bottle.manifest.model import (
    Manifest,
)
from claude_bottle.manifest.parse import ManifestError, Position, parse_manifest
from tests.support.manifests import bottle, lines, route

AFTER, NOTIFY = "bottles.dev.supervise.after:", "bottles.dev.supervise.notify"


@pytest.mark.parametrize(
    ("obj", "line"),
    [
        (None, "a manifest is a mapping with the keys bottles and agents"),
        ([], "a manifest is a mapping with the keys bottles and agents"),
        ({"botles": {}}, 'botles: unknown key; did you mean "bottles"?'),
        ({"bottles": []}, "bottles: expected a mapping of names"),
        ({"bottles": {1: {}}}, "bottles: the key 1 is not text; write it in quotes"),
        ({"bottles": {"dev": None}}, "bottles.dev: expected a mapping, found nothing"),
        (bottle(enw={}), 'bottles.dev.enw: unknown key; did you mean "env"?'),
        (bottle(env={"A": 1}), "bottles.dev.env.A: expected text, found a number; write it in quotes"),
        (bottle(env={"A": True}), "bottles.dev.env.A: expected text, found true/false; write it in quotes"),
        (bottle(env={"A": None}), "bottles.dev.env.A: expected text, found nothing"),
        (bottle(env={"A B": ""}), "bottles.dev.env.A B: not a name of an environment variable"),
        (bottle(supervise="yes"), "bottles.dev.supervise: expected true, false or a mapping, found text"),
        (bottle(supervise=1), "bottles.dev.supervise: expected true, false or a mapping, found a number"),
        (bottle(supervise={"after": "10m"}), f"{AFTER} has no meaning without `unanswered: reject`"),
        (
            bottle(supervise={"unanswered": "wait", "after": "10m"}),
            f"{AFTER} has no meaning without `unanswered: reject`",
        ),
        (
            bottle(supervise={"unanswered": "reject", "after": "10"}),
            f'{AFTER} a duration is a whole number with s, m or h, such as "90s"',
        ),
        (
            bottle(supervise={"unanswered": "rejekt"}),
            'bottles.dev.supervise.unanswered: unknown value; did you mean "reject"?',
        ),
        (
            bottle(supervise={"notfy": ["a"]}),
            'bottles.dev.supervise.notfy: unknown key; did you mean "notify"?',
        ),
        (
            bottle(supervise={"notify": "notify-send"}),
            "bottles.dev.supervise.notify: expected a list of texts, the program first",
        ),
        (bottle(supervise={"notify": ["bin/tell"]}), f"{NOTIFY}[0]: name a program, or its whole path"),
        (bottle(supervise={"notify": [""]}), f"{NOTIFY}[0]: name a program, or its whole path"),
        (
            bottle(supervise={"notify": ["tell", "a\0b"]}),
            f"{NOTIFY}: a program takes at most 63 arguments of at most 4096 characters, without NUL",
        ),
        (bottle(workspace="clown"), 'bottles.dev.workspace: unknown value; did you mean "clone"?'),
        (
            bottle(image="a", dockerfile="/b"),
            "bottles.dev.dockerfile: a bottle has an image or a dockerfile, not both",
        ),
        (
            bottle(limits={"cpus": True}),
            "bottles.dev.limits.cpus: expected a number from 0.01 to 1024, found true/false",
        ),
        (
            bottle(limits={"cpus": float("nan")}),
            "bottles.dev.limits.cpus: expected a number from 0.01 to 1024",
        ),
        (
            bottle(limits={"pids": 1.5}),
            "bottles.dev.limits.pids: expected a whole number from 1 to 4194304, found a number",
        ),
        (bottle(runtime="runc"), 'bottles.dev.runtime: unknown value; did you mean "runsc"?'),
        (bottle(packages="git"), "bottles.dev.packages: expected a list, found text"),
        (bottle(packages=["git", "git"]), "bottles.dev.packages[1]: is in the list already"),
        (route(hots="x"), '@.hots: unknown key; did you mean "host"?'),
        (route(ports=[True]), "@.ports[0]: expected a whole number from 1 to 65535, found true/false"),
        (route(ports=[]), "@.ports: the list is empty; LEAVE OUT"),
        (route(methods=[]), "@.methods: the list is empty; LEAVE OUT"),
        (route(methods=["get"]), "@.methods[0]: methods are written in capitals: GET"),
        (route(paths=["/a/../b"]), "@.paths[0]: the path has a dot segment"),
        (route(detectors=["x"]), "@.detectors[0]: none exist yet"),
        (
            route(host="10.0.0.1", inspect=False),
            "@.host: is not a public address; name a host, and the address as its `upstream`",
        ),
        (
            route(host="8.8.8.8"),
            "@.host: an address cannot be inspected: TLS names no server then; set inspect: false",
        ),
        (route(host="https://a.example"), "@.host: expected a bare host, without scheme or path"),
        (route(host="a.example:443"), "@.host: expected a bare host; a route names its ports in `ports`"),
        (
            route(host="*.a.example", upstream="http://localhost:1"),
            "@.upstream: an upstream needs one exact host, not a wildcard",
        ),
        (route(auth={"scheme": "bearer"}), '@.auth: the key "secret" is missing'),
        ({"bottles": {"Dev": {}}}, "bottles.Dev: NAME"),
        ({"agents": {"a": {}}}, 'agents.a: the key "bottle" is missing'),
        (
            {"agents": {"a": {"bottle": "dev"}}},
            'agents.a.bottle: there is no bottle "dev"; no bottle is defined',
        ),
        (
            {"bottles": {"dev": {}}, "agents": {"a": {"bottle": "dve"}}},
            'agents.a.bottle: there is no bottle "dve"; did you mean "dev"?',
        ),
        (
            {"bottles": {"dev": {}}, "agents": {"a": {"bottle": []}}},
            "agents.a.bottle: the list is empty; LEAVE OUT",
        ),
        (
            {"bottles": {"dev": {}}, "agents": {"a": {"bottle": "dev", "skills": ["../x"]}}},
            "agents.a.skills[0]: a skill is the name of a folder, without slashes",
        ),
    ],
)
def test_one_mistake_is_one_line(obj: object, line: str) -> None:
    assert lines(obj) == [
        line.replace("@", "bottles.dev.egress.routes[0]")
        .replace("LEAVE OUT", "leave the key out if nothing is meant")
        .replace(
            "NAME", "a name is 1 to 40 lower-case letters, digits and hyphens, not beginning with a hyphen"
        )
    ]


@pytest.mark.parametrize("key", ["methods", "paths", "auth", "upstream", "detectors"])
def test_nothing_can_be_enforced_on_an_opaque_tunnel(key: str) -> None:
    valid: dict[str, object] = {
        "methods": ["GET"],
        "paths": ["/x"],
        "auth": {"scheme": "bearer", "secret": "env:X"},
        "upstream": "http://localhost:1",
        "detectors": [],
    }
    where = f"bottles.dev.egress.routes[0].{key}"
    assert lines(route(inspect=False, **{key: valid[key]})) == [
        f"{where}: cannot be enforced on an opaque tunnel (inspect: false)"
    ]


@pytest.mark.parametrize(
    "egress",
    [
        {"routes": [{"host": "a.example", "methods": ["GET"]}], "allowlist": ["A.example."]},
        {"allowlist": ["a.example", "a.example"]},
        {"routes": [{"host": "a.example", "inspect": False}, {"host": "a.example", "ports": [80, 443]}]},
        {"routes": [{"host": "a.example", "upstream": "http://localhost:1"}, {"host": "a.example"}]},
        {"allowlist": ["8.8.8.8"]},
    ],
)
def test_a_bottle_does_not_widen_its_own_rules(egress: object) -> None:
    assert len(lines(bottle(egress=egress))) == 1


def test_positions_of_a_value_or_of_what_is_around_it() -> None:
    at = {
        ("bottles", "dev"): Position("m.json", 3, 5),
        ("bottles", "dev", "egress", "routes", 0, "hots"): Position("m.json", 9, 7),
    }
    obj = bottle(egress={"routes": [{"hots": "x"}, {"host": "a.example"}]}, workspace="x")
    with pytest.raises(ManifestError) as refused:
        parse_manifest(obj, at)
    assert [problem.where for problem in refused.value.problems] == ["m.json:9:7", "m.json:3:5"]


def test_problems_are_safe_to_print_and_show_no_values() -> None:
    (text,) = lines(bottle(**{"\x1b]2;x\x07" + "k" * 500: "s3cr3t"}))
    assert text.isprintable()
    assert len(text) < 400
    (text,) = lines(route(auth={"scheme": "bearer", "secret": "s3cr3t"}))
    assert "s3cr3t" not in text


def test_very_many_problems_are_cut() -> None:
    with pytest.raises(ManifestError) as refused:
        Manifest.from_json_obj(bottle(env={f"A{number}": 1 for number in range(900)}))
    assert len(refused.value.problems) == 900
    assert str(refused.value).endswith("\nand 850 more")
