"""One host has one spelling, and what could be read as two hosts is none."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.policy.hosts import (
    InvalidHost,
    is_public_address,
    matches,
    normalise_host,
    normalise_name,
    parse_ip,
    parse_pattern,
    specificity,
)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("api.example.org", "api.example.org"),
        ("API.Example.ORG", "api.example.org"),
        ("api.example.org.", "api.example.org"),
        ("localhost", "localhost"),
        ("r3---sn-abc.example.org", "r3---sn-abc.example.org"),
        ("1.2.3.example", "1.2.3.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("a" * 63 + ".org", "a" * 63 + ".org"),
        ("8.8.8.8", "8.8.8.8"),
        ("2001:4860:4860:0:0:0:0:8888", "2001:4860:4860::8888"),
        ("[2001:4860:4860::8888]", "2001:4860:4860::8888"),
    ],
)
def test_one_spelling(text: str, host: str) -> None:
    assert normalise_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "example.org..",
        ".example.org",
        "api..example.org",
        "-a.example.org",
        "a-.example.org",
        "a_b.example.org",
        "a b.example.org",
        " example.org",
        "example.org\n",
        "example.org\0.evil.test",
        "example.org%00.evil.test",
        "example%2eorg",
        "example.org:443",
        "user@example.org",
        "example.org/",
        "*.example.org",
        "a" * 64 + ".org",
        ".".join(["a" * 49] * 5) + ".toolong",
        "a." * 5000,
        # addresses in spellings that some C library takes
        "127.1",
        "127.0.0.1.",
        "0x7f.1",
        "0x7f.0.0.0x1",
        "0x7f000001",
        "0177.0.0.1",
        "2130706433",
        "1.2.3.4.5",
        "256.1.1.1",
        "example.123",
        "example.0x1f",
        "fe80::1%eth0",
        "[8.8.8.8]",
        "[::1",
        # what folds into plain ASCII
        "ｅxample.org",
        "example。org",
        "１２７.0.0.1",
        "\u212aernel.org",  # the Kelvin sign
        "exam\u00adple.org",  # soft hyphen
        "exam\u200dple.org",  # joiner
        "straße.example",  # two standards, two names
        "Ünder.example",
        "\ud800.example",
    ],
)
def test_no_host(text: str) -> None:
    with pytest.raises(InvalidHost):
        normalise_host(text)


def test_a_refusal_never_echoes_the_text() -> None:
    with pytest.raises(InvalidHost) as refused:
        normalise_host("evil\x1b]2;title\x07.example")
    assert str(refused.value).isprintable()
    assert "title" not in str(refused.value)


def test_names_and_addresses_are_different_kinds() -> None:
    with pytest.raises(InvalidHost):
        normalise_name("8.8.8.8")
    assert parse_ip("example.org") is None


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_refused_or_canonical(text: str) -> None:
    try:
        host = normalise_host(text)
    except InvalidHost:
        return
    assert host.isascii()
    assert len(host) <= 253
    assert normalise_host(host) == host
    if parse_ip(host) is None:
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", host)
        assert re.search(r"[a-z-]", host.rpartition(".")[2])


@settings(deadline=None)
@given(st.from_regex(r"(0x)?[0-9a-f]{1,9}(\.(0x)?[0-9a-f]{1,4}){0,3}\.?", fullmatch=True))
def test_what_looks_like_an_address_is_a_full_address_or_no_number(text: str) -> None:
    try:
        host = normalise_host(text)
    except InvalidHost:
        return
    if parse_ip(host) is None:
        last = host.rpartition(".")[2]
        with pytest.raises(ValueError):
            int(last, 10)
        assert not last.startswith("0x")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Example.org", "example.org"),
        ("*.Example.org.", "*.example.org"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("8.8.8.8", "8.8.8.8"),
        ("[::1]", "::1"),
    ],
)
def test_patterns(text: str, pattern: str) -> None:
    assert parse_pattern(text) == pattern


@pytest.mark.parametrize(
    "text",
    ["*", "*.", "*.org", "*example.org", "**.example.org", "*.*.example.org", "a.*.org", "*.1.1.1", "*.8.8"],
)
def test_no_pattern(text: str) -> None:
    with pytest.raises(InvalidHost):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("example.org", "example.org", True),
        ("example.org", "a.example.org", False),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "evilexample.org", False),
        ("*.example.org", ".example.org", False),
        ("*.github.com", "ssh.github.com.evil.test", False),
        ("8.8.8.8", "8.8.8.8", True),
        ("8.8.8.8", "8.8.8.80", False),
    ],
)
def test_matches(pattern: str, host: str, expected: bool) -> None:
    assert matches(pattern, host) is expected


def test_exact_before_wildcards_and_long_suffixes_first() -> None:
    patterns = ["*.example.org", "*.b.example.org", "a.b.example.org"]
    assert sorted(patterns, key=specificity) == patterns[::-1]


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "192.0.1.1", "198.20.0.1"]
    + ["2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888"],
)
def test_public(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1",
        "127.255.255.254", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1",
        "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
        "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808",
        "64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1",
        "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
        "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1",
        "", "example.org", "127.1", "0x7f.1", "2130706433", "8.8.8.8.", " 8.8.8.8", "٨.8.8.8",
    ],
)  # fmt: skip
def test_not_public(address: str) -> None:
    assert not is_public_address(address)


def test_an_address_with_a_zone_is_one_of_this_machine() -> None:
    assert not is_public_address(IPv6Address("2606:4700::1111%eth0"))


@settings(deadline=None)
@given(st.ip_addresses())
def test_public_is_never_wider_than_the_standard_library_says(
    address: IPv4Address | IPv6Address,
) -> None:
    if is_public_address(address):
        assert address.is_global
        assert not address.is_multicast
