"""One head, one reading: what the gate takes for a CONNECT request, and how it says no."""

from __future__ import annotations

import json
import random

import pytest

from claude_bottle.sidecars.egress.protocol import MAX_HEAD, ConnectRequest, HeadReader, RefusedError, refusal

PLAIN = b"CONNECT api.example.org:443 HTTP/1.1\r\nHost: api.example.org:443\r\n\r\n"
API = ConnectRequest("api.example.org", 443, literal=False)


def head(target: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((b"CONNECT " + target + b" HTTP/1.1", *lines)) + b"\r\n\r\n"


def reason(data: bytes) -> str:
    with pytest.raises(RefusedError) as caught:
        assert HeadReader().feed(data) is None
    return caught.value.reason


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        b"CONNECT api.example.org:443 HTTP/1.0\r\n\r\n",
        head(b"API.Example.ORG:443"),
        head(b"api.example.org.:443"),
        head(b"api.example.org:443", b"host: api.example.org"),  # some clients leave the port out
        head(b"api.example.org:443", b"HOST:\tAPI.example.org.:443 \t"),
        head(b"api.example.org:443", b"Proxy-Authorization: Basic eDp5", b"Content-Length: 0", b"X:"),
    ],
)
def test_accepted(data: bytes) -> None:
    assert HeadReader().feed(data) == (API, b"")


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"192.0.2.1:443", "192.0.2.1"),
        (b"[2001:DB8::1]:443", "2001:db8::1"),
        (b"[2001:db8:0:0:0:0:0:1]:443", "2001:db8::1"),
    ],
)
def test_addresses_are_told_from_names(target: bytes, host: str) -> None:
    assert HeadReader().feed(head(target)) == (ConnectRequest(host, 443, literal=True), b"")


def test_every_cut_gives_the_same_answer_and_the_rest_is_kept() -> None:
    data = PLAIN + b"\x16\x03\x01\x00\n\xff"
    for cut in range(len(data)):
        reader = HeadReader()
        first = reader.feed(data[:cut])
        if cut < len(PLAIN):
            assert first is None
            assert reader.feed(data[cut:]) == (API, data[len(PLAIN) :])
        else:
            assert first == (API, data[len(PLAIN) : cut])


@pytest.mark.parametrize(
    "data",
    [
        b"GET http://api.example.org/ HTTP/1.1\r\nHost: api.example.org\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"connect api.example.org:443 HTTP/1.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        head(b"api.example.org"),
    ],
)
def test_only_connect(data: bytes) -> None:
    assert reason(data) == "only-connect"


@pytest.mark.parametrize(
    "target",
    [
        b":443",
        b"api.example.org:",
        b"api.example.org:0",
        b"api.example.org:0443",
        b"api.example.org:+443",
        b"api.example.org:65536",
        b"api.example.org:443:443",
        b"user@api.example.org:443",
        b"http://api.example.org:443",
        b"api.example.org:443/",
        b"api.example.org%00:443",
        b"2001:db8::1:443",
        b"[192.0.2.1]:443",
        b"[api.example.org]:443",
        b"[::1%25lo]:443",
        b"[::1]x:443",
        b"0x7f000001:443",
        b"0177.0.0.1:443",
        b"127.1:443",
        b"2130706433:443",
        b"api..example.org:443",
        b".example.org:443",
        b"a" * 64 + b".example.org:443",
        b"*.example.org:443",
    ],
)
def test_odd_hosts(target: bytes) -> None:
    assert reason(head(target)) == "host-invalid"


@pytest.mark.parametrize(
    "line",
    [
        b"Host: evil.example.org",
        b"Host: api.example.org:444",
        b"Host: 192.0.2.1",
        b"Host: [2001:db8::1]:443",
    ],
)
def test_a_decoy_host_header(line: bytes) -> None:
    assert reason(head(b"api.example.org:443", line)) == "host-mismatch"


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\r\n" + PLAIN,
        b"\x16\x03\x01\x02\x00",
        PLAIN.replace(b"\r\n", b"\n"),
        b"CONNECT api.example.org:443 HTTP/1.1\nHost: x\r\n\r\n",
        b"CONNECT api.example.org:443 HTTP/1.1\rHost: x\r\n\r\n",
        b"CONNECT  api.example.org:443 HTTP/1.1\r\n\r\n",
        b"CONNECT\tapi.example.org:443 HTTP/1.1\r\n\r\n",
        b"CONNECT api.example.org:443 HTTP/2\r\n\r\n",
        b"CONNECT api.example.org:443 HTTP/1.1 \r\n\r\n",
        b"CONNECT api.example.org:443\r\n\r\n",
        head(b"api.example.org\0.evil.example:443"),
        head("äpi.example.org:443".encode()),
        head(b"api.example.org:443", b"X: a\0b"),
        head(b"api.example.org:443", b"X: a\rHost: evil.test"),
        head(b"api.example.org:443", b"Host : api.example.org"),
        head(b"api.example.org:443", b"X: a", b" folded"),
        head(b"api.example.org:443", b"no colon"),
        head(b"api.example.org:443", b": empty"),
        head(b"api.example.org:443", b"Host: api.example.org", b"Host: api.example.org"),
        head(b"api.example.org:443", b"Content-Length: 5"),
        head(b"api.example.org:443", b"Content-Length: 00"),
        head(b"api.example.org:443", b"Transfer-Encoding: chunked"),
        head(b"api.example.org:443", *[b"X: y"] * 101),
    ],
)
def test_what_has_two_readings_is_refused(data: bytes) -> None:
    assert reason(data) == "bad-request"


@pytest.mark.parametrize("value", [b"", b"a b", b"api.example.org, evil.example", b"user@api.example.org"])
def test_a_host_header_that_is_none(value: bytes) -> None:
    assert reason(head(b"api.example.org:443", b"Host: " + value)) == "host-invalid"


def test_a_head_is_bounded_complete_or_not() -> None:
    long = head(b"api.example.org:443", b"X: " + b"a" * MAX_HEAD)
    assert reason(long) == "head-too-large"
    assert reason(long[: MAX_HEAD + 1]) == "head-too-large"
    reader = HeadReader()
    for at in range(MAX_HEAD):
        assert reader.feed(long[at : at + 1]) is None
    with pytest.raises(RefusedError):
        reader.feed(b"a")


def test_mutations_are_accepted_or_refused_but_nothing_else() -> None:
    chance = random.Random(11)
    refused = 0
    for _ in range(6000):
        mutated = bytearray(PLAIN)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(mutated))
            mutated[at : at + chance.choice((0, 1, 1, 4))] = chance.randbytes(chance.choice((0, 1, 2)))
        try:
            HeadReader().feed(bytes(mutated))
        except RefusedError:
            refused += 1
    assert refused > 3000


def test_a_refusal_is_for_machines() -> None:
    raw = refusal(RefusedError(403, "host-not-allowed", 'say "please"\r\n\x1b'), "x.example", 443)
    top, body = raw.split(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert f"Content-Length: {len(body)}".encode() in top.split(b"\r\n")
    assert b"Content-Type: application/json" in top.split(b"\r\n")
    assert json.loads(body) == {
        "error": {
            "type": "claude-bottle-denied",
            "reason": "host-not-allowed",
            "detail": 'say "please"\r\n\x1b',
            "host": "x.example",
            "port": 443,
            "nearest": None,
            "proposal": None,
            "next": "Nobody is asked for more in this bottle: do without it.",
        }
    }
    assert b"\x1b" not in raw


def test_a_refusal_names_the_one_method() -> None:
    assert b"\r\nAllow: CONNECT\r\n" in refusal(RefusedError(405, "only-connect", ""))
