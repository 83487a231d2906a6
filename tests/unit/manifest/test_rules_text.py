"""Routes as an operator edits them: what is written is what is read, by the manifest's own parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.manifest.problems import ManifestError
from claude_bottle.manifest.rules_text import (
    ALLOWLIST,
    ROUTES,
    check_hosts,
    check_route,
    is_writable,
    read_routes,
    routes_text,
)
from claude_bottle.policy.model import Auth, Route, SecretRef, Upstream
from claude_bottle.policy.rules import METHODS

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
SECRETS = st.one_of(
    st.just(SecretRef("env", ("TOKEN",))),
    st.just(SecretRef("file", ("~/a secret: #file",))),
    st.builds(lambda words: SecretRef("command", tuple(words)), st.lists(WORDS, min_size=1, max_size=4)),
)
HOSTS = st.sampled_from(
    ["no.example", "on.example.org", "*.example.org", "xn--e1afmkfd.example", "1e3.example"]
)
PATHS = st.sampled_from(["/", "/v1", "/a%20b/", "/~x", "/-'\"!*"])
NOTHING = st.just(())
INSPECTED = st.builds(
    Route,
    inspect=st.just(True),
    detectors=NOTHING,
    origin=st.just(""),
    host=HOSTS.filter(lambda host: not host.startswith("*")),
    ports=st.lists(st.integers(1, 65535), min_size=1, max_size=3, unique=True).map(tuple),
    methods=st.lists(st.sampled_from(METHODS), max_size=3, unique=True).map(tuple),
    paths=st.lists(PATHS, max_size=3, unique=True).map(tuple),
    auth=st.none() | st.builds(Auth, st.sampled_from(["bearer", "header:X-Key"]), SECRETS),
    upstream=st.none() | st.just(Upstream("http", "127.0.0.1", 8080)) | st.just(Upstream("https", "::1", 1)),
)
OPAQUE = st.builds(
    Route,
    methods=NOTHING,
    paths=NOTHING,
    auth=st.none(),
    upstream=st.none(),
    detectors=NOTHING,
    origin=st.just(""),
    host=HOSTS | st.sampled_from(["93.184.216.34", "2606:2800:220:1::1"]),
    ports=st.lists(st.integers(1, 65535), min_size=1, max_size=3, unique=True).map(tuple),
    inspect=st.just(False),
)


@given(INSPECTED | OPAQUE, st.text(max_size=40))
def test_what_is_written_is_read_as_the_same(route: Route, note: str) -> None:
    text = routes_text(ROUTES, [(route, note)], [note])
    (found,) = read_routes(text, "f.yaml", ROUTES)
    assert found._replace(origin="") == route
    assert found.origin.startswith("f.yaml:")


@given(st.lists(HOSTS, unique=True))
def test_an_allowlist_is_read_as_it_was_written(hosts: list[str]) -> None:
    text = routes_text(ALLOWLIST, [(Route(host), "from dev.md:3") for host in hosts])
    assert [route.host for route in read_routes(text, "f.yaml", ALLOWLIST)] == hosts


def test_it_looks_as_in_the_manifest() -> None:
    route = Route("api.example.org", methods=("GET", "POST"), paths=("/v1",))
    auth = Auth("bearer", SecretRef("env", ("TOKEN",)))
    text = routes_text(ROUTES, [(route._replace(auth=auth), "dev.md:7"), (Route("*.example.org"), "x\n- y")])
    assert text == (
        "routes:\n"
        "# dev.md:7\n"
        "- host: api.example.org\n"
        "  methods: [GET, POST]\n"
        "  paths: [/v1]\n"
        "  auth: {scheme: bearer, secret: 'env:TOKEN'}\n"
        "# x\\x0a- y\n"
        "- host: '*.example.org'\n"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", 'f:1:1: the key "routes" is missing; for none write routes: []'),
        ("# only a comment\n", 'f:1:1: the key "routes" is missing; for none write routes: []'),
        ("routes:\n", "f:1:1: routes: expected a list, found nothing"),
        ("routes: []\nallowlist: []\n", 'f:2:1: allowlist: only the key "routes" has a place here'),
        ("routes:\n- host: a.example\n  port: [1]\n", "f:3:3: routes[0].port: unknown key"),
        ("routes:\n- host: a.example\n  paths: [x]\n", "f:3:11: routes[0].paths[0]: the path does not begin"),
        ("routes:\n- host: http://a.example\n", "f:2:3: routes[0].host: expected a bare host"),
        ("routes:\n- host: 10.0.0.1\n  inspect: false\n", "f:2:3: routes[0].host: is not a public address"),
        (
            "routes:\n- {host: a.example}\n- {host: a.example, inspect: false}\n",
            "f:3:3: routes[1]: another route",
        ),
        ('routes:\n- host: "a.ex\n', "f:3:1: not YAML"),
        ("routes: *x\n", "f:1:9: YAML aliases are not taken"),
        ("routes: !!python/object/apply:os.system [id]\n", "f:1:9: routes: YAML tags are not taken"),
        ("a" * 70_000, "f:1:1: longer than 64 KiB"),
        ("routes:\n- host: g\u0456thub.com\u202e\n", "f:"),
        ("routes:\n- host: a.example\n  auth: {scheme: bearer, secret: hunter2}\n", "f:3:"),
    ],
)
def test_what_the_manifest_refuses_is_refused_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_routes(text, "f", ROUTES)
    assert caught.value.message.startswith(problem)
    assert "hunter2" not in caught.value.message
    assert "\u202e" not in caught.value.message


def test_one_rule_of_a_command_line() -> None:
    assert check_route({"host": "A.example.", "ports": [8443]}) == Route("a.example", ports=(8443,))
    with pytest.raises(ManifestError, match=r"^ports\[0\]: expected a whole number from 1 to 65535$"):
        check_route({"host": "a.example", "ports": [0]})
    with pytest.raises(ManifestError, match="cannot be enforced"):
        check_route({"host": "a.example", "inspect": False, "methods": ["GET"]})
    with pytest.raises(ManifestError, match=r"\[1\]: a host name"):
        check_hosts(["a.example", "b c"])


def test_claude_codes_login_has_no_words_in_a_manifest() -> None:
    login = Auth("bearer", SecretRef("login", ("/home/o/.claude/.credentials.json",)))
    assert not is_writable(Route("a.example", auth=login))
    assert is_writable(Route("a.example"))
