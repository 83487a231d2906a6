"""Envoy's configuration as data: the golden file is what an operator may read and compare."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.policy.model import Auth, Policy, Route, SecretRef, Upstream
from claude_bottle.sidecars.egress.certs import CertAndKey, make_ca, make_leaves
from claude_bottle.sidecars.egress.envoy import (
    auth_header,
    envoy_clusters,
    envoy_listeners,
    envoy_ways,
    find_envoy,
    injected_headers,
)
from claude_bottle.sidecars.egress.envoy_clusters import INTERNET, ROOM
from claude_bottle.sidecars.egress.envoy_start import (
    CLUSTERS_FILE,
    LISTENERS_FILE,
    envoy_argv,
    envoy_bootstrap,
)
from claude_bottle.sidecars.egress.outlets import Chain, find_chain, inspected_chains, inspected_outlets

GOLDEN = Path(__file__).parent / "golden" / "envoy-two-routes.json"
SECRET = SecretRef("env", ("NAME_OF_THE_SECRET",))
TWO_ROUTES = Policy(
    (
        Route("api.example.org", methods=("POST",), paths=("/v1",), auth=Auth("header:X-Api-Key", SECRET)),
        Route("model.example.org", ports=(443, 8443), upstream=Upstream("http", "127.0.0.1", 8080)),
    )
)


def config_of(policy: Policy) -> dict[str, Any]:
    leaves = {chain.host: CertAndKey(f"cert of {chain.host}", "key") for chain in inspected_chains(policy)}
    return config_with(policy, leaves, "/etc/ssl/certs/ca-certificates.crt")


def config_with(policy: Policy, leaves: Mapping[str, CertAndKey], ca_bundle: str) -> dict[str, Any]:
    """The bootstrap with what the files add to it, as one static configuration, which Envoy can validate."""
    config = envoy_bootstrap()
    static = config["static_resources"]
    ways = envoy_ways(policy, leaves)
    static["clusters"] += plain(envoy_clusters(ways, ca_bundle))
    static["listeners"] = plain(envoy_listeners(ways))
    return config


def plain(resources: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in item.items() if name != "@type"} for item in resources["resources"]
    ]


def chains_of(config: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        chain for listener in config["static_resources"]["listeners"] for chain in listener["filter_chains"]
    ]


def test_golden() -> None:
    """UPDATE_GOLDEN=1 writes the file anew; look at the difference before it is committed."""
    text = json.dumps(config_of(TWO_ROUTES), indent=1) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.needs("envoy")
def test_envoy_accepts_the_configuration(envoy_binary: Path, tmp_path: Path) -> None:
    policy = Policy(
        (
            *TWO_ROUTES.routes,
            Route("*.example.net"),
            Route("gw.example.org", upstream=Upstream("https", "10.0.0.1", 8443)),
            Route("gw6.example.org", upstream=Upstream("https", "fd00::1", 443)),
        )
    )
    bundle = tmp_path / "ca.pem"
    ca = make_ca("bottle")
    bundle.write_text(ca.cert_pem)
    leaves = make_leaves(ca, [chain.host for chain in inspected_chains(policy)])
    for name in (CLUSTERS_FILE, LISTENERS_FILE):
        (tmp_path / name).write_text('{"resources": []}')
    (tmp_path / "envoy.json").write_text(json.dumps(config_with(policy, leaves, str(bundle))))
    argv = [*envoy_argv(str(envoy_binary), "envoy.json"), "--mode", "validate"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


def test_envoy_knows_unix_sockets_of_its_own_folder_only() -> None:
    text = json.dumps(config_of(TWO_ROUTES))
    assert "socket_address" not in text
    assert set(re.findall(r'"pipe": {"path": "([^"]*)"', text)) == {
        "envoy.sock",
        "authz.sock",
        *(f"up-{number}.sock" for number in range(ROOM)),
    }


def test_the_configuration_names_no_secret() -> None:
    assert "NAME_OF_THE_SECRET" not in json.dumps(config_of(TWO_ROUTES))


def test_each_chain_answers_for_its_own_name_and_there_is_no_default() -> None:
    config = config_of(TWO_ROUTES)
    names = [chain["filter_chain_match"]["server_names"] for chain in chains_of(config)]
    assert names == [["api.example.org"], ["model.example.org"]]
    assert all("default_filter_chain" not in listener for listener in config["static_resources"]["listeners"])


def test_every_request_but_the_probe_is_judged() -> None:
    for chain in chains_of(config_of(TWO_ROUTES)):
        manager = chain["filters"][0]["typed_config"]
        names = [entry["name"].rpartition(".")[2] for entry in manager["http_filters"]]
        assert names == ["header_mutation", "ext_authz", "router"]
        for host in manager["route_config"]["virtual_hosts"]:
            for route in host["routes"]:
                unjudged = "envoy.filters.http.ext_authz" in route.get("typed_per_filter_config", {})
                assert unjudged == (route["match"] == {"path": "/.claude-bottle/probe"})
                assert not (unjudged and "route" in route)


def test_no_inspected_route_means_no_listener() -> None:
    config = config_of(Policy((Route("opaque.example.org", inspect=False),)))
    assert config["static_resources"]["listeners"] == []
    assert [cluster["name"] for cluster in config["static_resources"]["clusters"]] == ["authz", INTERNET]


@pytest.mark.parametrize(
    ("upstream", "authority"),
    [
        (Upstream("http", "127.0.0.1", 80), "127.0.0.1"),
        (Upstream("http", "127.0.0.1", 443), "127.0.0.1:443"),
        (Upstream("https", "gw.example", 443), "gw.example"),
        (Upstream("https", "fd00::1", 8443), "[fd00::1]:8443"),
    ],
)
def test_an_upstream_is_told_its_own_name(upstream: Upstream, authority: str) -> None:
    (chain,) = chains_of(config_of(Policy((Route("a.example.org", upstream=upstream),))))
    routes = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]
    assert routes[1]["route"]["host_rewrite_literal"] == authority


def test_injected_headers_are_those_of_all_routes() -> None:
    schemes = ("bearer", "token", "basic", "header:X-Api-Key", "header:Private-Token")
    routes = [Route("a.example.org", auth=Auth(scheme, SECRET)) for scheme in schemes]
    assert injected_headers([*routes, Route("b.example.org")]) == (
        "authorization",
        "private-token",
        "x-api-key",
    )
    assert auth_header("header:X-Api-Key") == "x-api-key"


def test_outlets_are_numbered_by_host_and_port() -> None:
    policy = Policy(
        (
            Route("a.example.org", ports=(443, 8443), paths=("/x",)),
            Route("opaque.example.org", inspect=False),
            Route("a.example.org", ports=(8443, 9443), paths=("/y",)),
        )
    )
    found = [(outlet.socket, outlet.target.host, outlet.target.port) for outlet in inspected_outlets(policy)]
    assert found == [
        ("up-0.sock", "a.example.org", 443),
        ("up-1.sock", "a.example.org", 8443),
        ("up-2.sock", "a.example.org", 9443),
    ]


def test_a_host_has_the_ports_of_the_wildcards_above_it() -> None:
    upstream = Upstream("https", "gw.example", 443)
    policy = Policy(
        (
            Route("*.example.org", ports=(443, 8443)),
            Route("*.a.example.org", ports=(9443,)),
            Route("x.a.example.org", upstream=upstream),
        )
    )
    chains = inspected_chains(policy)
    chain = find_chain(chains, "x.a.example.org")
    assert chain is not None
    owners = {port: outlet.target.host for port in (443, 8443, 9443) if (outlet := chain.outlet(port))}
    assert owners == {443: "x.a.example.org", 8443: "*.example.org", 9443: "*.a.example.org"}


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        ("x.a.example.org", "x.a.example.org"),
        ("y.a.example.org", "*.a.example.org"),
        ("a.example.org", "*.example.org"),
        ("deep.er.example.org", "*.example.org"),
        ("example.org", None),
        ("xexample.org", None),
    ],
)
def test_find_chain_takes_the_nearest(name: str, chain: str | None) -> None:
    hosts = ("*.example.org", "*.a.example.org", "x.a.example.org")
    found = find_chain(tuple(Chain(host, ()) for host in hosts), name)
    assert (found.host if found else None) == chain


def test_two_upstreams_for_one_host_and_port_are_an_error() -> None:
    routes = (Route("a.example.org"), Route("a.example.org", upstream=Upstream("http", "127.0.0.1", 1)))
    with pytest.raises(BottleError, match=r"a\.example\.org:443 has two different upstreams"):
        inspected_outlets(Policy(routes))


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_cannot_be_inspected(host: str) -> None:
    with pytest.raises(BottleError, match="is an address"):
        inspected_outlets(Policy((Route(host),)))


def test_find_envoy_prefers_what_the_operator_names(tmp_path: Path) -> None:
    program = tmp_path / "my-envoy"
    program.write_text("")
    program.chmod(0o755)
    assert find_envoy({"CLAUDE_BOTTLE_ENVOY": str(program)}) == program
    for wrong in ("", str(tmp_path), str(tmp_path / "missing")):
        with pytest.raises(BottleError, match="CLAUDE_BOTTLE_ENVOY"):
            find_envoy({"CLAUDE_BOTTLE_ENVOY": wrong})


def test_find_envoy_does_not_look_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "envoy" / "_bin" / "envoy"
    planted.parent.mkdir(parents=True)
    planted.write_text("")
    planted.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    found = find_envoy({"PATH": ""})
    assert found is None or tmp_path not in found.parents


def test_a_number_never_means_another_target() -> None:
    first, second = (
        Policy((Route("a.example.org"), Route("b.example.org"))),
        Policy((Route("c.example.org"),)),
    )
    known = inspected_outlets(first)
    added = inspected_outlets(second, known)
    assert [(item.number, item.target.host) for item in added] == [(2, "c.example.org")]
    again = inspected_outlets(Policy((Route("b.example.org"),)), (*known, *added))
    assert [(item.number, item.target.host) for item in again] == [(1, "b.example.org")]
    elsewhere = Policy((Route("b.example.org", upstream=Upstream("http", "127.0.0.1", 1)),))
    assert [item.number for item in inspected_outlets(elsewhere, (*known, *added))] == [3]


def test_a_new_host_leaves_the_clusters_and_the_other_chains_as_they_are() -> None:
    more = Policy((*TWO_ROUTES.routes, Route("new.example.org", auth=Auth("bearer", SECRET))))
    before, after = config_of(TWO_ROUTES), config_of(more)
    assert before["static_resources"]["clusters"] == after["static_resources"]["clusters"]
    assert chains_of(before) == chains_of(after)[:2]
